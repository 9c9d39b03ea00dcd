/**
 * The gradients of attention, y = softmax(scale q k^T) v in heads. Scores are computed again and never stored: what is needed of each query is the
 * logarithm of its sum, l, and D = sum g y, which stands for the softmax's own derivative. (FlashAttention-2, Dao 2023, sec. 3) The derivative by q takes
 * scores as they come, as attention itself does, and tells both.
 *   p = exp(scale q.k - l), ds = p (g.v - D); dq = scale sum ds k; dk = scale sum ds q; dv = sum p g
 * q, g, y (N, ..., heads d), k and v (N, ..., heads d) with Lk keys; f32 | f16 but g and y f32; results f32.
 *
 * A thread owns some queries (or keys) of one head, in registers, and walks over the keys (or queries). Wider heads: attention-wide-gradient.ts.
 */
import { fill } from '../core/fill.ts';
import { apply, type Lowering, type Op, type Operand } from '../core/op.ts';
import { type DTypes, elementType, shader } from '../core/shader.ts';
import { type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import {
  keyBindings,
  queryBindings,
  subgroupKeyValueGradient,
  subgroupQueryGradient,
  tokensPerLane,
  WALK,
} from './attention-gradient-subgroup.ts';
import { part, placeBehind } from './part.ts';

interface Attrs {
  heads: number;
  causal: boolean;
}

/** Loads of one head that fit in registers. */
const MOST_LOADS = 16;

/** Whether heads are narrow enough for `attentionGradient`. */
export const inRegisters = (q: Tensor, heads: number): boolean => sizes(q, heads).vectors <= MOST_LOADS;

/** The derivatives by q, k and v, given g by attention's result a. */
export function attentionGradient({ g, a, q, k, v }: QueryInputs, attrs: Attrs): { q: Tensor; k: Tensor; v: Tensor } {
  const byQuery = apply(queryGradientOp, { g, a, q, k, v }, attrs);
  const stats = part(byQuery, statisticsAt(q), statisticsShape(q, attrs.heads));
  const byKey = apply(keyValueGradientOp, { g, stats, q, k, v }, attrs);
  return { q: part(byQuery, 0, q.shape), k: part(byKey, 0, k.shape), v: part(byKey, valuesAt(k), v.shape) };
}

type QueryInputs = { g: Tensor; a: Tensor; q: Tensor; k: Tensor; v: Tensor };
type KeyInputs = { g: Tensor; stats: Tensor; q: Tensor; k: Tensor; v: Tensor };

/** l and D of every query, and two numbers that stand for nothing. */
const statisticsShape = (q: Pick<Tensor, 'shape'>, heads: number): Shape => [q.shape[0], heads, sizes(q, heads).tokens, 4];

/** Where statistics begin behind the derivative by q, and that by v behind that by k. */
const statisticsAt = (q: Pick<Tensor, 'shape'>) => placeBehind(sizeOf(q.shape));
const valuesAt = statisticsAt;

/** One after the other the derivative by q and the statistics. */
export const queryGradientOp: Op<Attrs, QueryInputs> = {
  name: 'attentionQueryGradient',
  infer: ({ q }, { heads }) => ({ shape: [statisticsAt(q) + sizeOf(statisticsShape(q, heads))], dtype: 'f32' }),
  lower(inputs, y, attrs, to) {
    const { q } = inputs;
    const { loads, vectors } = sizes(q, attrs.heads);
    const { lanes, each, params, threads } = walk('queries', inputs, attrs, to);
    const dispatch = { operands: { ...inputs, y }, params: { ...params, behind: statisticsAt(q) / loads }, threads };
    const types = typesOf(inputs);
    to.dispatch({ shader: lanes ? subgroupQueryGradient(lanes, vectors, types) : queryShader(loads, vectors, each, types), ...dispatch });
  },
  flops: ({ g, k }) => 6 * sizeOf(g.shape) * (sizeOf(k.shape) / k.shape[0] / k.shape[k.shape.length - 1]),
};

/** One after the other the derivatives by k and by v. */
export const keyValueGradientOp: Op<Attrs, KeyInputs> = {
  name: 'attentionKeyValueGradient',
  infer: ({ k }) => ({ shape: [valuesAt(k) + sizeOf(k.shape)], dtype: 'f32' }),
  lower(inputs, y, attrs, to) {
    const { q, k } = inputs;
    const { loads, vectors } = sizes(q, attrs.heads);
    const { lanes, each, params, threads } = walk('keys', inputs, attrs, to);
    const dispatch = { operands: { ...inputs, y }, params: { ...params, behind: valuesAt(k) / loads }, threads };
    const types = typesOf(inputs);
    to.dispatch({
      shader: lanes ? subgroupKeyValueGradient(lanes, vectors, types) : keyValueShader(loads, vectors, each, types),
      ...dispatch,
    });
  },
  flops: ({ g, k }) => 8 * sizeOf(g.shape) * (sizeOf(k.shape) / k.shape[0] / k.shape[k.shape.length - 1]),
};

const typesOf = ({ q, k, v }: Record<'q' | 'k' | 'v', Operand>) => ({ q: q.dtype, k: k.dtype, v: v.dtype });

function sizes({ shape }: { shape: readonly number[] }, heads: number) {
  const channels = shape[shape.length - 1];
  const perHead = channels / heads;
  const loads: 1 | 4 = perHead % 4 === 0 ? 4 : 1;
  return { images: shape[0], tokens: sizeOf(shape) / shape[0] / channels, loads, vectors: perHead / loads, scale: perHead ** -0.5 };
}

/** How workers share some owned tokens, each walking over all of the others: subgroups of so many lanes, or threads (`lanes` is 0) that own `each`. */
function walk(owned: 'queries' | 'keys', { q, k }: Record<'q' | 'k', Operand>, { heads, causal }: Attrs, to: Lowering) {
  const { images, tokens: queries, loads, vectors, scale } = sizes(q, heads);
  const keys = sizes(k, heads).tokens;
  const tokens = owned === 'queries' ? queries : keys;
  const lanes = to.facts.schedule === 'subgroup' && loads === 4 ? to.facts.subgroupSizes[0] : 0;
  const each = lanes > 0 ? tokensPerLane(vectors) : vectors <= 8 && loads === 4 ? 2 : 1;
  const blocks = Math.ceil(tokens / (Math.max(lanes, 1) * each));
  const count = images * heads * blocks;
  const params = { count, blocks, queries, keys, heads, scale, causal, held: vectors * each };
  return { lanes, each, params, threads: count * Math.max(lanes, 1) };
}

const join = (count: number, line: (i: number) => string) => Array.from({ length: count }, (_, i) => line(i)).join('\n  ');

/** Where a thread is: its tile of owned tokens, its head and image. */
const place = (vectors: number) => `
  let tile = id % p.blocks;
  let head = (id / p.blocks) % p.heads;
  let image = id / (p.blocks * p.heads);
  let stride = p.heads * ${vectors}u;
  let q_base = image * p.queries * stride + head * ${vectors}u;
  let k_base = image * p.keys * stride + head * ${vectors}u;
  let s_base = (image * p.heads + head) * p.queries;`;

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
    bindings: queryBindings(loads, types),
    params: WALK,
    workgroup: 64,
    code: fill(QUERIES, {
      place: place(vectors),
      each,
      load_own: join(each, (t) =>
        fill(OWN_QUERY, {
          ...{ t: `${t}`, nth: t, each },
          load: perLoad(
            (i) =>
              `let q${t}_${i} = q_load(at${t} + ${i}u); let g${t}_${i} = g_load(at${t} + ${i}u); d${t} += ${product(`g${t}_${i}`, `a_load(at${t} + ${i}u)`)};`,
          ),
          no_sums: perLoad((i) => `var y${t}_${i} = ${type}(0.0);`),
        }),
      ),
      load_key: perLoad((i) => `let k${i} = k_load(k_at + ${i}u); let v${i} = v_load(k_at + ${i}u);`),
      take_key: join(each, (t) =>
        fill(TAKE_KEY, {
          t: `${t}`,
          scores: perLoad((i) => `s += ${product(`q${t}_${i}`, `k${i}`)}; d += ${product(`g${t}_${i}`, `v${i}`)};`),
          shrink: perLoad((i) => `y${t}_${i} *= factor;`),
          sums: perLoad((i) => `y${t}_${i} += ds * k${i};`),
        }),
      ),
      store: join(each, (t) => {
        const [l, at] = [`largest${t} + log(total${t})`, `s_base + query${t}`];
        return `if (query${t} < p.queries) {
    ${perLoad((i) => `y_store(at${t} + ${i}u, y${t}_${i} * (p.scale / total${t}));`)}
    ${
      loads === 4
        ? `y_store(p.behind + ${at}, vec4<f32>(${l}, d${t}, 0.0, 0.0));`
        : `y_store(p.behind + 4u * (${at}), ${l}); y_store(p.behind + 4u * (${at}) + 1u, d${t});`
    }
  }`;
      }),
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
  var d$t = 0.0;
  var largest$t = -3.4e38;
  var total$t = 0.0;
  $load
  $no_sums`;

/** $take_key of query t. What was summed so far shrinks where a larger score comes. */
const TAKE_KEY = `if (p.causal == 0u || key <= query$t) {
      var s = 0.0;
      var d = 0.0;
      $scores
      s *= p.scale;
      if (s > largest$t) {
        let factor = exp(largest$t - s);
        total$t *= factor;
        $shrink
        largest$t = s;
      }
      let weight = exp(s - largest$t);
      total$t += weight;
      let ds = weight * (d - d$t);
      $sums
    }`;

function keyValueShader(loads: 1 | 4, vectors: number, each: number, types: DTypes<'q' | 'k' | 'v'>) {
  const { type, product } = headOf(loads);
  const perLoad = (line: (i: number) => string) => join(vectors, line);
  return shader({
    name: `attentionKeyValueGradient x${loads} ${vectors} ${types.q} ${types.k} ${types.v}`,
    bindings: keyBindings(loads, types),
    params: WALK,
    workgroup: 64,
    code: fill(KEYS, {
      place: place(vectors),
      each,
      load_own: join(each, (t) =>
        fill(OWN_KEY, {
          ...{ t: `${t}`, nth: t, each },
          load: perLoad((i) => `let k${t}_${i} = k_load(at${t} + ${i}u); let v${t}_${i} = v_load(at${t} + ${i}u);`),
          no_sums: perLoad((i) => `var dk${t}_${i} = ${type}(0.0); var dv${t}_${i} = ${type}(0.0);`),
        }),
      ),
      load_statistics:
        loads === 4
          ? 'let stats = stats_load(s_base + query); let l = stats.x; let dy = stats.y;'
          : 'let l = stats_load(4u * (s_base + query)); let dy = stats_load(4u * (s_base + query) + 1u);',
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
          `if (key${t} < p.keys) { ${perLoad((i) => `y_store(at${t} + ${i}u, dk${t}_${i}); y_store(p.behind + at${t} + ${i}u, dv${t}_${i});`)} }`,
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
    $load_statistics
    $load_query
    $take_query
  }
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
