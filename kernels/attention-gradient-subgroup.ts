/**
 * Attention's gradients for adapters that compute a subgroup at a time (CPU drivers), as attention-subgroup.ts computes attention: a workgroup
 * is one subgroup of S lanes, a lane owns some queries (or keys) in arrays that fit the first-level cache, and S of the others are loaded at
 * once, one a lane, and handed round four at a time. The formulas stand in attention-gradient.ts.
 */
import { type DTypes, each, shader } from '../core/shader.ts';

/** Queries or keys of one lane; fewer for wide heads, whose arrays would leave the cache. */
export function tokensPerLane(vectors: number): number {
  return vectors <= 8 ? 4 : 2;
}

/** Load i of the four tokens from r on, as a, b, c and d on every lane. */
const fromLanes = (name: string, i: number) =>
  ['a', 'b', 'c', 'd'].map((to, n) => `let ${to} = subgroupShuffle(${name}${i}, r + ${n}u);`).join(' ');

/** One number of each of the four tokens from r on. */
const numbers = (name: string) => `vec4<f32>(${[0, 1, 2, 3].map((n) => `subgroupShuffle(${name}, r + ${n}u)`).join(', ')})`;

/** Adds the dot products of array element i of every owned token with a, b, c and d to `sums`. */
const dots = (mine: number, vectors: number, array: string, sums: string, i: number) =>
  each(mine, (j) => `{ let e = ${array}[${j * vectors + i}]; ${sums}${j} += vec4<f32>(dot(e, a), dot(e, b), dot(e, c), dot(e, d)); }`);

const weighted = (w: string) => `(${w}.x * a + ${w}.y * b + ${w}.z * c + ${w}.w * d)`;

const PARAMS = {
  groups: 'u32',
  blocks: 'u32',
  queries: 'u32',
  keys: 'u32',
  heads: 'u32',
  scale: 'f32',
  causal: 'u32',
  held: 'u32',
} as const;

/** Which head, image and owned tokens a workgroup has. */
const place = (lanes: number, mine: number, vectors: number) => `
  if (group >= p.groups) { return; }
  let head = (group / p.blocks) % p.heads;
  let image = group / (p.blocks * p.heads);
  let first = (group % p.blocks) * ${lanes * mine}u;
  let stride = p.heads * ${vectors}u;
  let head_at = head * ${vectors}u;
  let q_at = image * p.queries * stride + head_at;
  let k_at = image * p.keys * stride + head_at;
  let s_at = (image * p.heads + head) * p.queries;`;

/** (N, heads, Lq, 2): the logarithm of each query's sum and D = sum g y. */
export function subgroupStatistics(lanes: number, vectors: number, dtypes: DTypes<'g' | 'y' | 'q' | 'k'>) {
  const mine = tokensPerLane(vectors);
  return shader({
    name: `attentionStatistics ${vectors * 4} ${dtypes.g} ${dtypes.y} ${dtypes.q} ${dtypes.k} subgroup ${lanes}`,
    bindings: {
      g: { dtype: dtypes.g, width: 4 },
      y: { dtype: dtypes.y, width: 4 },
      q: { dtype: dtypes.q, width: 4 },
      k: { dtype: dtypes.k, width: 4 },
      stats: { dtype: 'f32', width: 1, write: true },
    },
    params: PARAMS,
    workgroup: lanes,
    subgroups: true,
    code: `
fn run(id: u32, group: u32, local: u32) {
  ${place(lanes, mine, vectors)}
  var q: array<vec4<f32>, ${vectors * mine}>;
  var d: array<f32, ${mine}>;
  for (var i = 0u; i < p.held; i++) {
    let at = q_at + min(first + (i / ${vectors}u) * ${lanes}u + local, p.queries - 1u) * stride + i % ${vectors}u;
    q[i] = p.scale * q_load(at);
    d[i / ${vectors}u] += dot(g_load(at), y_load(at));
  }
  ${each(mine, (j) => `let limit${j} = select(p.keys, min(first + ${j * lanes}u + local + 1u, p.keys), p.causal == 1u);`)}
  ${each(mine, (j) => `var largest${j} = -3.4e38; var total${j} = 0.0;`)}
  let end = select(p.keys, min(first + ${lanes * mine}u, p.keys), p.causal == 1u);
  for (var block = 0u; block < end; block += ${lanes}u) {
    let at = k_at + min(block + local, p.keys - 1u) * stride;
    ${each(vectors, (i) => `let k${i} = k_load(at + ${i}u);`)}
    for (var r = 0u; r < ${lanes}u; r += 4u) {
      let keys = vec4<u32>(block + r) + vec4<u32>(0u, 1u, 2u, 3u);
      ${each(mine, (j) => `var s${j} = vec4<f32>(0.0);`)}
      ${each(vectors, (i) => `{ ${fromLanes('k', i)} ${dots(mine, vectors, 'q', 's', i)} }`)}
      ${each(
        mine,
        (j) => `s${j} = select(vec4<f32>(-3.4e38), s${j}, keys < vec4<u32>(limit${j}));
      let now${j} = max(largest${j}, max(max(s${j}.x, s${j}.y), max(s${j}.z, s${j}.w)));
      let w${j} = exp(s${j} - vec4<f32>(now${j}));
      total${j} = total${j} * exp(largest${j} - now${j}) + (w${j}.x + w${j}.y + w${j}.z + w${j}.w);
      largest${j} = now${j};`,
      )}
    }
  }
  ${each(
    mine,
    (j) => `if (first + ${j * lanes}u + local < p.queries) {
    let at = 2u * (s_at + first + ${j * lanes}u + local);
    stats_store(at, largest${j} + log(total${j}));
    stats_store(at + 1u, d[${j}]);
  }`,
  )}
}`,
  });
}

function bindings({ q, k, v }: DTypes<'q' | 'k' | 'v'>) {
  return {
    g: { dtype: 'f32', width: 4 },
    stats: { dtype: 'f32', width: 1 },
    q: { dtype: q, width: 4 },
    k: { dtype: k, width: 4 },
    v: { dtype: v, width: 4 },
    y: { dtype: 'f32', width: 4, write: true },
  } as const;
}

/** A lane owns queries and gives dq; keys and values are handed round. */
export function subgroupQueryGradient(lanes: number, vectors: number, dtypes: DTypes<'q' | 'k' | 'v'>) {
  const mine = tokensPerLane(vectors);
  return shader({
    name: `attentionQueryGradient ${vectors * 4} ${dtypes.q} ${dtypes.k} ${dtypes.v} subgroup ${lanes}`,
    bindings: bindings(dtypes),
    params: PARAMS,
    workgroup: lanes,
    subgroups: true,
    code: `
fn run(id: u32, group: u32, local: u32) {
  ${place(lanes, mine, vectors)}
  var q: array<vec4<f32>, ${vectors * mine}>;
  var g: array<vec4<f32>, ${vectors * mine}>;
  var y: array<vec4<f32>, ${vectors * mine}>;
  var l: array<f32, ${mine}>;
  var d: array<f32, ${mine}>;
  for (var i = 0u; i < p.held; i++) {
    let query = min(first + (i / ${vectors}u) * ${lanes}u + local, p.queries - 1u);
    q[i] = p.scale * q_load(q_at + query * stride + i % ${vectors}u);
    g[i] = g_load(q_at + query * stride + i % ${vectors}u);
    y[i] = vec4<f32>(0.0);
    l[i / ${vectors}u] = stats_load(2u * (s_at + query));
    d[i / ${vectors}u] = stats_load(2u * (s_at + query) + 1u);
  }
  ${each(mine, (j) => `let limit${j} = select(p.keys, min(first + ${j * lanes}u + local + 1u, p.keys), p.causal == 1u);`)}
  let end = select(p.keys, min(first + ${lanes * mine}u, p.keys), p.causal == 1u);
  for (var block = 0u; block < end; block += ${lanes}u) {
    let at = k_at + min(block + local, p.keys - 1u) * stride;
    ${each(vectors, (i) => `let k${i} = k_load(at + ${i}u);`)}
    ${each(vectors, (i) => `let v${i} = v_load(at + ${i}u);`)}
    for (var r = 0u; r < ${lanes}u; r += 4u) {
      let keys = vec4<u32>(block + r) + vec4<u32>(0u, 1u, 2u, 3u);
      ${each(mine, (j) => `var s${j} = vec4<f32>(0.0); var t${j} = vec4<f32>(0.0);`)}
      ${each(vectors, (i) => `{ ${fromLanes('k', i)} ${dots(mine, vectors, 'q', 's', i)} }`)}
      ${each(vectors, (i) => `{ ${fromLanes('v', i)} ${dots(mine, vectors, 'g', 't', i)} }`)}
      ${each(
        mine,
        (j) =>
          `let w${j} = select(vec4<f32>(0.0), exp(s${j} - vec4<f32>(l[${j}])), keys < vec4<u32>(limit${j})) * (t${j} - vec4<f32>(d[${j}]));`,
      )}
      ${each(vectors, (i) => `{ ${fromLanes('k', i)} ${each(mine, (j) => `y[${j * vectors + i}] += ${weighted(`w${j}`)};`)} }`)}
    }
  }
  for (var i = 0u; i < p.held; i++) {
    let query = first + (i / ${vectors}u) * ${lanes}u + local;
    if (query < p.queries) { y_store(q_at + query * stride + i % ${vectors}u, p.scale * y[i]); }
  }
}`,
  });
}

/** A lane owns keys and values and gives dk and dv; queries and their derivatives are handed round. */
export function subgroupKeyValueGradient(lanes: number, vectors: number, dtypes: DTypes<'q' | 'k' | 'v'>) {
  const mine = tokensPerLane(vectors);
  return shader({
    name: `attentionKeyValueGradient ${vectors * 4} ${dtypes.q} ${dtypes.k} ${dtypes.v} subgroup ${lanes}`,
    bindings: bindings(dtypes),
    params: { ...PARAMS, images: 'u32' },
    workgroup: lanes,
    subgroups: true,
    code: `
fn run(id: u32, group: u32, local: u32) {
  ${place(lanes, mine, vectors)}
  var k: array<vec4<f32>, ${vectors * mine}>;
  var v: array<vec4<f32>, ${vectors * mine}>;
  var dk: array<vec4<f32>, ${vectors * mine}>;
  var dv: array<vec4<f32>, ${vectors * mine}>;
  for (var i = 0u; i < p.held; i++) {
    let key = min(first + (i / ${vectors}u) * ${lanes}u + local, p.keys - 1u);
    k[i] = p.scale * k_load(k_at + key * stride + i % ${vectors}u);
    v[i] = v_load(k_at + key * stride + i % ${vectors}u);
    dk[i] = vec4<f32>(0.0);
    dv[i] = vec4<f32>(0.0);
  }
  // A key is seen by the queries from its own position on.
  ${each(mine, (j) => `let from${j} = select(0u, first + ${j * lanes}u + local, p.causal == 1u);`)}
  for (var block = select(0u, (first / ${lanes}u) * ${lanes}u, p.causal == 1u); block < p.queries; block += ${lanes}u) {
    let query = min(block + local, p.queries - 1u);
    let at = q_at + query * stride;
    let l = stats_load(2u * (s_at + query));
    let d = stats_load(2u * (s_at + query) + 1u);
    ${each(vectors, (i) => `let q${i} = q_load(at + ${i}u);`)}
    ${each(vectors, (i) => `let g${i} = g_load(at + ${i}u);`)}
    for (var r = 0u; r < ${lanes}u; r += 4u) {
      let queries = vec4<u32>(block + r) + vec4<u32>(0u, 1u, 2u, 3u);
      let ls = ${numbers('l')};
      let ds = ${numbers('d')};
      ${each(mine, (j) => `var s${j} = vec4<f32>(0.0); var t${j} = vec4<f32>(0.0);`)}
      ${each(vectors, (i) => `{ ${fromLanes('q', i)} ${dots(mine, vectors, 'k', 's', i)} }`)}
      ${each(vectors, (i) => `{ ${fromLanes('g', i)} ${dots(mine, vectors, 'v', 't', i)} }`)}
      ${each(
        mine,
        (j) => `let w${j} = select(vec4<f32>(0.0), exp(s${j} - ls), (queries < vec4<u32>(p.queries)) & (queries >= vec4<u32>(from${j})));
      let u${j} = w${j} * (t${j} - ds);`,
      )}
      ${each(vectors, (i) => `{ ${fromLanes('q', i)} ${each(mine, (j) => `dk[${j * vectors + i}] += ${weighted(`u${j}`)};`)} }`)}
      ${each(vectors, (i) => `{ ${fromLanes('g', i)} ${each(mine, (j) => `dv[${j * vectors + i}] += ${weighted(`w${j}`)};`)} }`)}
    }
  }
  let behind = p.images * p.keys * stride;
  for (var i = 0u; i < p.held; i++) {
    let key = first + (i / ${vectors}u) * ${lanes}u + local;
    if (key < p.keys) {
      let at = k_at + key * stride + i % ${vectors}u;
      y_store(at, p.scale * dk[i]);
      y_store(behind + at, dv[i]);
    }
  }
}`,
  });
}
