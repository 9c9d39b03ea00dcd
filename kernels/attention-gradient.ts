/**
 * The gradients of attention, y = softmax(scale q k^T) v in heads. Scores are computed again and never stored: of the forward pass only the
 * logarithm of each query's sum is needed, and D = sum g y, which stands for the softmax's own derivative. (FlashAttention-2, Dao 2023, sec. 3)
 *   p = exp(scale q.k - l), ds = p (g.v - D); dq = scale sum ds k; dk = scale sum ds q; dv = sum p g
 * q, g, y (N, ..., heads d), k and v (N, ..., heads d) with Lk keys; f32 | f16 but g and y f32; results f32.
 *
 * A thread owns some queries (or keys) of one head, in registers, and walks over the keys (or queries). Wider heads: attention-wide-gradient.ts.
 */
import { fill } from '../core/fill.ts';
import { apply, type Lowering, type Op, type Operand } from '../core/op.ts';
import { type DType, type DTypes, elementType, shader } from '../core/shader.ts';
import { type OperandsOf, sizeOf, type Tensor } from '../core/tensor.ts';
import { subgroupKeyValueGradient, subgroupQueryGradient, subgroupStatistics, tokensPerLane } from './attention-gradient-subgroup.ts';

interface Attrs {
  heads: number;
  causal: boolean;
}

/** Loads of one head that fit in registers. */
const MOST_LOADS = 16;

/** Whether heads are narrow enough for `attentionGradient`. */
export const inRegisters = (q: Tensor, heads: number): boolean => sizes(q, heads).vectors <= MOST_LOADS;

/** The derivatives by q, k and v, given g by attention's result y. */
export function attentionGradient(g: Tensor, y: Tensor, q: Tensor, k: Tensor, v: Tensor, attrs: Attrs): { dq: Tensor; dkv: Tensor } {
  const stats = apply(statisticsOp, { g, y, q, k }, attrs);
  return { dq: apply(queryGradientOp, { g, stats, q, k, v }, attrs), dkv: apply(keyValueGradientOp, { g, stats, q, k, v }, attrs) };
}

/** (N, heads, Lq, 2): l and D of every query. */
export const statisticsOp: Op<Attrs, { g: Tensor; y: Tensor; q: Tensor; k: Tensor }> = {
  name: 'attentionStatistics',

  infer({ q }, { heads }) {
    const { images, tokens } = sizes(q, heads);
    return { shape: [images, heads, tokens, 2], dtype: 'f32' };
  },

  lower({ g, y, q, k }, output, { heads, causal }, to) {
    const m = sizes(q, heads);
    const subgroup = onLanes(to, q, m.tokens, heads);
    if (subgroup) {
      return to.dispatch({
        shader: subgroupStatistics(subgroup.lanes, m.vectors, { g: g.dtype, y: y.dtype, q: q.dtype, k: k.dtype }),
        operands: { g, y, q, k, stats: output },
        params: {
          groups: subgroup.groups,
          blocks: subgroup.blocks,
          queries: m.tokens,
          keys: sizes(k, heads).tokens,
          heads,
          scale: m.scale,
          causal,
          held: subgroup.held,
        },
        threads: subgroup.threads,
      });
    }
    const threads = m.images * heads * m.tokens;
    to.dispatch({
      shader: statisticsShader(m.loads, m.vectors, q.dtype, k.dtype),
      operands: { g, y, q, k, stats: output },
      params: { count: threads, queries: m.tokens, keys: sizes(k, heads).tokens, heads, vectors: m.vectors, scale: m.scale, causal },
      threads,
    });
  },

  flops: ({ g, k }) => 2 * sizeOf(g.shape) * (sizeOf(k.shape) / k.shape[0] / k.shape[k.shape.length - 1]),
};

type WalkInputs = { g: Tensor; stats: Tensor; q: Tensor; k: Tensor; v: Tensor };

/** q's shape. */
export const queryGradientOp: Op<Attrs, WalkInputs> = {
  name: 'attentionQueryGradient',
  infer: ({ q }) => ({ shape: q.shape, dtype: 'f32' }),
  lower: (inputs, output, attrs, to) => walk('queries', inputs, output, attrs, to),
  flops: ({ g, k }) => 6 * sizeOf(g.shape) * (sizeOf(k.shape) / k.shape[0] / k.shape[k.shape.length - 1]),
};

/** (2, ...k's shape): the derivative by k, then that by v. */
export const keyValueGradientOp: Op<Attrs, WalkInputs> = {
  name: 'attentionKeyValueGradient',
  infer: ({ k }) => ({ shape: [2, ...k.shape], dtype: 'f32' }),
  lower: (inputs, output, attrs, to) => walk('keys', inputs, output, attrs, to),
  flops: ({ g, k }) => 8 * sizeOf(g.shape) * (sizeOf(k.shape) / k.shape[0] / k.shape[k.shape.length - 1]),
};

function sizes({ shape }: { shape: readonly number[] }, heads: number) {
  const channels = shape[shape.length - 1];
  const perHead = channels / heads;
  const loads: 1 | 4 = perHead % 4 === 0 ? 4 : 1;
  return { images: shape[0], tokens: sizeOf(shape) / shape[0] / channels, loads, vectors: perHead / loads, scale: perHead ** -0.5 };
}

/** How a subgroup schedule shares `tokens` owned tokens, or null where it is not the adapter's or does not suit the heads. */
function onLanes(to: Lowering, q: Operand, tokens: number, heads: number) {
  const { images, loads, vectors } = sizes(q, heads);
  if (to.facts.schedule !== 'subgroup' || loads !== 4) return null;
  const lanes = to.facts.subgroupSizes[0];
  const blocks = Math.ceil(tokens / (lanes * tokensPerLane(vectors)));
  const groups = blocks * heads * images;
  return { lanes, groups, blocks, held: vectors * tokensPerLane(vectors), threads: groups * lanes };
}

/** Emits the dispatch in which every thread owns some `owned` and walks over all of the others. */
function walk(owned: 'queries' | 'keys', inputs: OperandsOf<WalkInputs>, y: Operand, { heads, causal }: Attrs, to: Lowering): void {
  const { q, k, v } = inputs;
  const { images, tokens: queries, loads, vectors, scale } = sizes(q, heads);
  const keys = sizes(k, heads).tokens;
  const types = { q: q.dtype, k: k.dtype, v: v.dtype };
  const operands = { ...inputs, y };
  const subgroup = onLanes(to, q, owned === 'queries' ? queries : keys, heads);
  if (subgroup) {
    const { lanes, groups, blocks, held, threads } = subgroup;
    const params = { groups, blocks, queries, keys, heads, scale, causal, held };
    if (owned === 'queries') to.dispatch({ shader: subgroupQueryGradient(lanes, vectors, types), operands, params, threads });
    else to.dispatch({ shader: subgroupKeyValueGradient(lanes, vectors, types), operands, params: { ...params, images }, threads });
    return;
  }
  const each = vectors <= 8 && loads === 4 ? 2 : 1;
  const tiles = Math.ceil((owned === 'queries' ? queries : keys) / each);
  const count = images * heads * tiles;
  to.dispatch({
    shader: owned === 'queries' ? queryShader(loads, vectors, each, types) : keyValueShader(loads, vectors, each, types),
    operands,
    params: { count, queries, keys, heads, vectors, tiles, images, scale, causal },
    threads: count,
  });
}

const join = (count: number, line: (i: number) => string) => Array.from({ length: count }, (_, i) => line(i)).join('\n  ');

function statisticsShader(loads: 1 | 4, vectors: number, q: DType, k: DType) {
  const product = (a: string, b: string) => (loads === 4 ? `dot(${a}, ${b})` : `${a} * ${b}`);
  return shader({
    name: `attentionStatistics x${loads} ${vectors} ${q} ${k}`,
    bindings: {
      g: { dtype: 'f32', width: loads },
      y: { dtype: 'f32', width: loads },
      q: { dtype: q, width: loads },
      k: { dtype: k, width: loads },
      stats: { dtype: 'f32', width: 1, write: true },
    },
    params: { count: 'u32', queries: 'u32', keys: 'u32', heads: 'u32', vectors: 'u32', scale: 'f32', causal: 'u32' },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let query = id % p.queries;
  let head = (id / p.queries) % p.heads;
  let image = id / (p.queries * p.heads);
  let stride = p.heads * p.vectors;
  let q_at = (image * p.queries + query) * stride + head * p.vectors;
  let k_at = image * p.keys * stride + head * p.vectors;
  let end = select(p.keys, query + 1u, p.causal == 1u);
  ${join(vectors, (i) => `let q${i} = q_load(q_at + ${i}u);`)}
  var largest = -3.4e38;
  var total = 0.0;
  for (var key = 0u; key < end; key += 4u) {
    var scores = vec4<f32>(-3.4e38);
    let known = min(end - key, 4u);
    for (var j = 0u; j < known; j++) {
      let at = k_at + (key + j) * stride;
      var s = 0.0;
      ${join(vectors, (i) => `s += ${product(`q${i}`, `k_load(at + ${i}u)`)};`)}
      scores[j] = s * p.scale;
    }
    let now = max(largest, max(max(scores.x, scores.y), max(scores.z, scores.w)));
    let weights = exp(scores - vec4<f32>(now));
    total = total * exp(largest - now) + weights.x + weights.y + weights.z + weights.w;
    largest = now;
  }
  var d = 0.0;
  for (var i = 0u; i < p.vectors; i++) { d += ${product('g_load(q_at + i)', 'y_load(q_at + i)')}; }
  stats_store(2u * id, largest + log(total));
  stats_store(2u * id + 1u, d);
}`,
  });
}

const WALK_PARAMS = {
  count: 'u32',
  queries: 'u32',
  keys: 'u32',
  heads: 'u32',
  vectors: 'u32',
  tiles: 'u32',
  images: 'u32',
  scale: 'f32',
  causal: 'u32',
} as const;

/** Where a thread is: its tile of owned tokens, its head and image. */
const PLACE = `
  let tile = id % p.tiles;
  let head = (id / p.tiles) % p.heads;
  let image = id / (p.tiles * p.heads);
  let stride = p.heads * p.vectors;
  let q_base = image * p.queries * stride + head * p.vectors;
  let k_base = image * p.keys * stride + head * p.vectors;
  let s_base = (image * p.heads + head) * p.queries;`;

function walkBindings(loads: 1 | 4, { q, k, v }: DTypes<'q' | 'k' | 'v'>) {
  return {
    g: { dtype: 'f32', width: loads },
    stats: { dtype: 'f32', width: 1 },
    q: { dtype: q, width: loads },
    k: { dtype: k, width: loads },
    v: { dtype: v, width: loads },
    y: { dtype: 'f32', width: loads, write: true },
  } as const;
}

/** Of a head of so many loads: what a load is, and how two are multiplied. */
function headOf(loads: 1 | 4) {
  return {
    type: elementType({ dtype: 'f32', width: loads }),
    product: (a: string, b: string) => (loads === 4 ? `dot(${a}, ${b})` : `${a} * ${b}`),
  };
}

function queryShader(loads: 1 | 4, vectors: number, each: number, types: DTypes<'q' | 'k' | 'v'>) {
  const { type, product } = headOf(loads);
  const perLoad = (line: (i: number) => string) => join(vectors, line);
  return shader({
    name: `attentionQueryGradient x${loads} ${vectors} ${types.q} ${types.k} ${types.v}`,
    bindings: walkBindings(loads, types),
    params: WALK_PARAMS,
    workgroup: 64,
    code: fill(QUERIES, {
      place: PLACE,
      each,
      load_own: join(each, (t) =>
        fill(OWN_QUERY, {
          ...{ t: `${t}`, nth: t, each },
          load: perLoad((i) => `let q${t}_${i} = q_load(at${t} + ${i}u); let g${t}_${i} = g_load(at${t} + ${i}u);`),
          no_sums: perLoad((i) => `var y${t}_${i} = ${type}(0.0);`),
        }),
      ),
      load_key: perLoad((i) => `let k${i} = k_load(k_at + ${i}u); let v${i} = v_load(k_at + ${i}u);`),
      take_key: join(each, (t) =>
        fill(TAKE_KEY, {
          t: `${t}`,
          scores: perLoad((i) => `s += ${product(`q${t}_${i}`, `k${i}`)}; d += ${product(`g${t}_${i}`, `v${i}`)};`),
          sums: perLoad((i) => `y${t}_${i} += ds * k${i};`),
        }),
      ),
      store: join(each, (t) => `if (query${t} < p.queries) { ${perLoad((i) => `y_store(at${t} + ${i}u, y${t}_${i});`)} }`),
    }),
  });
}

/** A thread owns some queries and walks over the keys. */
const QUERIES = `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  $place
  $load_own
  let end = select(p.keys, min(p.keys, (tile + 1u) * $each), p.causal == 1u);
  for (var key = 0u; key < end; key++) {
    let k_at = k_base + key * stride;
    $load_key
    $take_key
  }
  $store
}`;

/** $load_own of query t. */
const OWN_QUERY = `
  let query$t = tile * $each + $nth;
  let token$t = min(query$t, p.queries - 1u);
  let at$t = q_base + token$t * stride;
  let l$t = stats_load(2u * (s_base + token$t));
  let d$t = stats_load(2u * (s_base + token$t) + 1u);
  $load
  $no_sums`;

/** $take_key of query t. */
const TAKE_KEY = `{
      var s = 0.0;
      var d = 0.0;
      $scores
      let weight = select(exp(s * p.scale - l$t), 0.0, p.causal == 1u && key > query$t);
      let ds = weight * (d - d$t) * p.scale;
      $sums
    }`;

function keyValueShader(loads: 1 | 4, vectors: number, each: number, types: DTypes<'q' | 'k' | 'v'>) {
  const { type, product } = headOf(loads);
  const perLoad = (line: (i: number) => string) => join(vectors, line);
  return shader({
    name: `attentionKeyValueGradient x${loads} ${vectors} ${types.q} ${types.k} ${types.v}`,
    bindings: walkBindings(loads, types),
    params: WALK_PARAMS,
    workgroup: 64,
    code: fill(KEYS, {
      place: PLACE,
      each,
      load_own: join(each, (t) =>
        fill(OWN_KEY, {
          ...{ t: `${t}`, nth: t, each },
          load: perLoad((i) => `let k${t}_${i} = k_load(at${t} + ${i}u); let v${t}_${i} = v_load(at${t} + ${i}u);`),
          no_sums: perLoad((i) => `var dk${t}_${i} = ${type}(0.0); var dv${t}_${i} = ${type}(0.0);`),
        }),
      ),
      load_query: perLoad((i) => `let q${i} = q_load(q_at + ${i}u); let g${i} = g_load(q_at + ${i}u);`),
      take_query: join(each, (t) =>
        fill(TAKE_QUERY, {
          t: `${t}`,
          scores: perLoad((i) => `s += ${product(`q${i}`, `k${t}_${i}`)}; d += ${product(`g${i}`, `v${t}_${i}`)};`),
          sums: perLoad((i) => `dk${t}_${i} += ds * q${i}; dv${t}_${i} += weight * g${i};`),
        }),
      ),
      store: join(
        each,
        (t) =>
          `if (key${t} < p.keys) { ${perLoad((i) => `y_store(at${t} + ${i}u, dk${t}_${i}); y_store(behind + at${t} + ${i}u, dv${t}_${i});`)} }`,
      ),
    }),
  });
}

/** A thread owns some keys and values and walks over the queries. */
const KEYS = `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  $place
  $load_own
  for (var query = select(0u, tile * $each, p.causal == 1u); query < p.queries; query++) {
    let q_at = q_base + query * stride;
    let l = stats_load(2u * (s_base + query));
    let dy = stats_load(2u * (s_base + query) + 1u);
    $load_query
    $take_query
  }
  let behind = p.images * p.keys * stride;
  $store
}`;

/** $load_own of key t. */
const OWN_KEY = `
  let key$t = tile * $each + $nth;
  let at$t = k_base + min(key$t, p.keys - 1u) * stride;
  $load
  $no_sums`;

/** $take_query of key t. */
const TAKE_QUERY = `{
      var s = 0.0;
      var d = 0.0;
      $scores
      let weight = select(exp(s * p.scale - l), 0.0, p.causal == 1u && key$t > query);
      let ds = weight * (d - dy) * p.scale;
      $sums
    }`;
