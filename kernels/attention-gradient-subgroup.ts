/**
 * Attention's gradients for adapters that compute a subgroup at a time (CPU drivers), as attention-subgroup.ts computes attention: a workgroup
 * is one subgroup of S lanes, a lane owns some queries (or keys) in arrays that fit the first-level cache, and S of the others are loaded at
 * once, one a lane, and handed round four at a time. The formulas stand in attention-gradient.ts.
 */
import { type DTypes, each, shader } from '../core/shader.ts';
import { fromLane } from './attention-subgroup.ts';

/** Queries or keys of one lane; fewer for wide heads, whose arrays would leave the cache. */
export function tokensPerLane(vectors: number): number {
  return vectors <= 8 ? 4 : 2;
}

/** Load i of the four tokens from r on, as a, b, c and d on every lane. */
const fromLanes = (lanes: number, name: string, i: number) =>
  ['a', 'b', 'c', 'd'].map((to, n) => `let ${to} = ${fromLane(lanes, `${name}${i}`, n)};`).join(' ');

/** One number of each of the four tokens from r on. */
const numbers = (lanes: number, name: string) => `vec4<f32>(${[0, 1, 2, 3].map((n) => fromLane(lanes, name, n)).join(', ')})`;

/** Adds the dot products of array element i of every owned token with a, b, c and d to `sums`. */
const dots = (mine: number, vectors: number, array: string, sums: string, i: number) =>
  each(mine, (j) => `{ let e = ${array}[${j * vectors + i}]; ${sums}${j} += vec4<f32>(dot(e, a), dot(e, b), dot(e, c), dot(e, d)); }`);

const weighted = (w: string) => `(${w}.x * a + ${w}.y * b + ${w}.z * c + ${w}.w * d)`;

/** Uniform parameters of both schedules. */
export const WALK = {
  count: 'u32', // workers: subgroups, or threads
  blocks: 'u32', // of owned tokens, in a head of an image
  queries: 'u32',
  keys: 'u32',
  heads: 'u32',
  scale: 'f32',
  causal: 'u32',
  held: 'u32', // loads of a worker's owned tokens
  behind: 'u32', // where the second result begins, in loads
} as const;

/** Which head, image and owned tokens a workgroup has. */
const place = (lanes: number, mine: number, vectors: number) => `
  if (group >= p.count) { return; }
  let head = (group / p.blocks) % p.heads;
  let image = group / (p.blocks * p.heads);
  let first = (group % p.blocks) * ${lanes * mine}u;
  let stride = p.heads * ${vectors}u;
  let head_at = head * ${vectors}u;
  let q_at = image * p.queries * stride + head_at;
  let k_at = image * p.keys * stride + head_at;
  let s_at = (image * p.heads + head) * p.queries;`;

export function queryBindings(width: 1 | 4, { q, k, v }: DTypes<'q' | 'k' | 'v'>) {
  return {
    g: { dtype: 'f32', width },
    a: { dtype: 'f32', width },
    q: { dtype: q, width },
    k: { dtype: k, width },
    v: { dtype: v, width },
    y: { dtype: 'f32', width, write: true },
  } as const;
}

export function keyBindings(width: 1 | 4, types: DTypes<'q' | 'k' | 'v'>) {
  const { a: stats, ...others } = queryBindings(width, types);
  return { ...others, stats };
}

/** A lane owns queries and gives dq and statistics; keys and values are handed round. */
export function subgroupQueryGradient(lanes: number, vectors: number, dtypes: DTypes<'q' | 'k' | 'v'>) {
  const mine = tokensPerLane(vectors);
  return shader({
    name: `attentionQueryGradient ${vectors * 4} ${dtypes.q} ${dtypes.k} ${dtypes.v} subgroup ${lanes}`,
    bindings: queryBindings(4, dtypes),
    params: WALK,
    workgroup: lanes,
    subgroups: true,
    code: `
fn run(id: u32, group: u32, local: u32) {
  ${place(lanes, mine, vectors)}
  var q: array<vec4<f32>, ${vectors * mine}>;
  var g: array<vec4<f32>, ${vectors * mine}>;
  var y: array<vec4<f32>, ${vectors * mine}>;
  var d: array<f32, ${mine}>;
  for (var i = 0u; i < p.held; i++) {
    let at = q_at + min(first + (i / ${vectors}u) * ${lanes}u + local, p.queries - 1u) * stride + i % ${vectors}u;
    q[i] = p.scale * q_load(at);
    g[i] = g_load(at);
    y[i] = vec4<f32>(0.0);
    d[i / ${vectors}u] += dot(g[i], a_load(at));
  }
  ${each(mine, (j) => `var largest${j} = -3.4e38; var total${j} = 0.0; let d${j} = d[${j}];`)}
  ${each(mine, (j) => `let limit${j} = select(p.keys, min(first + ${j * lanes}u + local + 1u, p.keys), p.causal == 1u);`)}
  let end = select(p.keys, min(first + ${lanes * mine}u, p.keys), p.causal == 1u);
  for (var block = 0u; block < end; block += ${lanes}u) {
    let at = k_at + min(block + local, p.keys - 1u) * stride;
    ${each(vectors, (i) => `let k${i} = k_load(at + ${i}u);`)}
    ${each(vectors, (i) => `let v${i} = v_load(at + ${i}u);`)}
    for (var r = 0u; r < ${lanes}u; r += 4u) {
      let keys = vec4<u32>(block + r) + vec4<u32>(0u, 1u, 2u, 3u);
      ${each(mine, (j) => `var s${j} = vec4<f32>(0.0); var t${j} = vec4<f32>(0.0);`)}
      ${each(vectors, (i) => `{ ${fromLanes(lanes, 'k', i)} ${dots(mine, vectors, 'q', 's', i)} }`)}
      ${each(vectors, (i) => `{ ${fromLanes(lanes, 'v', i)} ${dots(mine, vectors, 'g', 't', i)} }`)}
      ${each(
        mine,
        (j) =>
          `s${j} = select(vec4<f32>(-3.4e38), s${j}, keys < vec4<u32>(limit${j}));
      let now${j} = max(max(s${j}.x, s${j}.y), max(s${j}.z, s${j}.w));
      // What was summed so far shrinks where a larger score comes.
      if (now${j} > largest${j}) {
        let factor = exp(largest${j} - now${j});
        largest${j} = now${j};
        total${j} *= factor;
        ${each(vectors, (i) => `y[${j * vectors + i}] *= factor;`)}
      }
      let e${j} = exp(s${j} - vec4<f32>(largest${j}));
      total${j} += e${j}.x + e${j}.y + e${j}.z + e${j}.w;
      let w${j} = e${j} * (t${j} - vec4<f32>(d${j}));`,
      )}
      ${each(vectors, (i) => `{ ${fromLanes(lanes, 'k', i)} ${each(mine, (j) => `y[${j * vectors + i}] += ${weighted(`w${j}`)};`)} }`)}
    }
  }
  let factors = array<f32, ${mine}>(${Array.from({ length: mine }, (_, j) => `p.scale / total${j}`).join(', ')});
  for (var i = 0u; i < p.held; i++) {
    let query = first + (i / ${vectors}u) * ${lanes}u + local;
    if (query < p.queries) { y_store(q_at + query * stride + i % ${vectors}u, factors[i / ${vectors}u] * y[i]); }
  }
  ${each(
    mine,
    (j) => `if (first + ${j * lanes}u + local < p.queries) {
    y_store(p.behind + s_at + first + ${j * lanes}u + local, vec4<f32>(largest${j} + log(total${j}), d${j}, 0.0, 0.0));
  }`,
  )}
}`,
  });
}

/** A lane owns keys and values and gives dk and dv; queries and their derivatives are handed round. */
export function subgroupKeyValueGradient(lanes: number, vectors: number, dtypes: DTypes<'q' | 'k' | 'v'>) {
  const mine = tokensPerLane(vectors);
  return shader({
    name: `attentionKeyValueGradient ${vectors * 4} ${dtypes.q} ${dtypes.k} ${dtypes.v} subgroup ${lanes}`,
    bindings: keyBindings(4, dtypes),
    params: WALK,
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
    let stats = stats_load(s_at + query);
    let l = stats.x;
    let d = stats.y;
    ${each(vectors, (i) => `let q${i} = q_load(at + ${i}u);`)}
    ${each(vectors, (i) => `let g${i} = g_load(at + ${i}u);`)}
    for (var r = 0u; r < ${lanes}u; r += 4u) {
      let queries = vec4<u32>(block + r) + vec4<u32>(0u, 1u, 2u, 3u);
      let ls = ${numbers(lanes, 'l')};
      let ds = ${numbers(lanes, 'd')};
      ${each(mine, (j) => `var s${j} = vec4<f32>(0.0); var t${j} = vec4<f32>(0.0);`)}
      ${each(vectors, (i) => `{ ${fromLanes(lanes, 'q', i)} ${dots(mine, vectors, 'k', 's', i)} }`)}
      ${each(vectors, (i) => `{ ${fromLanes(lanes, 'g', i)} ${dots(mine, vectors, 'v', 't', i)} }`)}
      ${each(
        mine,
        (j) => `let w${j} = select(vec4<f32>(0.0), exp(s${j} - ls), (queries < vec4<u32>(p.queries)) & (queries >= vec4<u32>(from${j})));
      let u${j} = w${j} * (t${j} - ds);`,
      )}
      ${each(vectors, (i) => `{ ${fromLanes(lanes, 'q', i)} ${each(mine, (j) => `dk[${j * vectors + i}] += ${weighted(`u${j}`)};`)} }`)}
      ${each(vectors, (i) => `{ ${fromLanes(lanes, 'g', i)} ${each(mine, (j) => `dv[${j * vectors + i}] += ${weighted(`w${j}`)};`)} }`)}
    }
  }
  for (var i = 0u; i < p.held; i++) {
    let key = first + (i / ${vectors}u) * ${lanes}u + local;
    if (key < p.keys) {
      let at = k_at + key * stride + i % ${vectors}u;
      y_store(at, p.scale * dk[i]);
      y_store(p.behind + at, dv[i]);
    }
  }
}`,
  });
}
