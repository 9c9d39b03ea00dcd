/**
 * Attention's gradients for adapters that compute a subgroup at a time (CPU drivers), as attention-subgroup.ts computes attention: a workgroup
 * is one subgroup of S lanes, a lane owns some queries (or keys) in arrays that fit the first-level cache, and S of the others are loaded at
 * once, one a lane, and handed round four at a time. The formulas stand in attention-gradient.ts.
 */
import { type DTypes, each, loopBelow, remembered, shader } from '../core/shader.ts';
import { fromLane } from './attention-subgroup.ts';

/** Queries or keys of one lane; fewer for wide heads, whose arrays would leave the cache. */
export function tokensPerLane(vectors: number): number {
  return vectors <= 8 ? 4 : 2;
}

/** How tokens are handed round: `fours` at a time, of which `fromLanes` tells load i, of the tokens from r + 4 f on, as a, b, c and d on every lane. */
function handing(lanes: number, vectors: number) {
  const fours = vectors <= 4 && lanes % 8 === 0 ? 2 : 1;
  const fromLanes = (name: string, i: number, f: number) =>
    ['a', 'b', 'c', 'd'].map((to, n) => `let ${to}${f} = ${fromLane(lanes, `${name}${i}`, 4 * f + n)};`).join(' ');
  return { fours, perFour: (line: (f: number) => string) => each(fours, line), fromLanes };
}

/** One number of each of the four tokens from r + 4 f on. */
const numbers = (lanes: number, name: string, f: number) =>
  `vec4<f32>(${[0, 1, 2, 3].map((n) => fromLane(lanes, name, 4 * f + n)).join(', ')})`;

/** Adds the dot products of array element i of every owned token with a, b, c and d to `sums`. */
const dots = (mine: number, vectors: number, fours: number, array: string, sums: string, i: number) =>
  each(
    mine,
    (j) =>
      `{ let e = ${array}[${j * vectors + i}]; ${each(fours, (f) => `${sums}${j}${f} += vec4<f32>(dot(e, a${f}), dot(e, b${f}), dot(e, c${f}), dot(e, d${f}));`)} }`,
  );

const weighted = (fours: number, w: string) =>
  Array.from({ length: fours }, (_, f) => `${w}${f}.x * a${f} + ${w}${f}.y * b${f} + ${w}${f}.z * c${f} + ${w}${f}.w * d${f}`).join(' + ');

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
export const subgroupQueryGradient = remembered((lanes: number, vectors: number, dtypes: DTypes<'q' | 'k' | 'v'>) => {
  const mine = tokensPerLane(vectors);
  const { fours, perFour, fromLanes } = handing(lanes, vectors);
  const perQuery = (line: (j: number) => string) => each(mine, line);
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
  ${loopBelow(
    'i',
    'p.held',
    `let at = q_at + min(first + (i / ${vectors}u) * ${lanes}u + local, p.queries - 1u) * stride + i % ${vectors}u;
    q[i] = p.scale * q_load(at);
    g[i] = g_load(at);
    y[i] = vec4<f32>(0.0);
    d[i / ${vectors}u] += dot(g[i], a_load(at));`,
  )}
  ${perQuery((j) => `var largest${j} = -3.4e38; var total${j} = 0.0; let d${j} = d[${j}];`)}
  ${perQuery((j) => `let limit${j} = select(p.keys, min(first + ${j * lanes}u + local + 1u, p.keys), p.causal == 1u);`)}
  let end = select(p.keys, min(first + ${lanes * mine}u, p.keys), p.causal == 1u);
  ${loopBelow(
    'block',
    'end',
    `let at = k_at + min(block + local, p.keys - 1u) * stride;
    ${each(vectors, (i) => `let k${i} = k_load(at + ${i}u);`)}
    ${each(vectors, (i) => `let v${i} = v_load(at + ${i}u);`)}
    for (var r = 0u; r < ${lanes}u; r += ${4 * fours}u) {
      let keys = vec4<u32>(block + r) + vec4<u32>(0u, 1u, 2u, 3u);
      ${perQuery((j) => perFour((f) => `var s${j}${f} = vec4<f32>(0.0); var t${j}${f} = vec4<f32>(0.0);`))}
      ${each(vectors, (i) => `{ ${perFour((f) => fromLanes('k', i, f))} ${dots(mine, vectors, fours, 'q', 's', i)} }`)}
      ${each(vectors, (i) => `{ ${perFour((f) => fromLanes('v', i, f))} ${dots(mine, vectors, fours, 'g', 't', i)} }`)}
      ${perQuery(
        (j) =>
          `${perFour((f) => `s${j}${f} = select(vec4<f32>(-3.4e38), s${j}${f}, keys + ${4 * f}u < vec4<u32>(limit${j}));`)}
      let most${j} = ${fours === 2 ? `max(s${j}0, s${j}1)` : `s${j}0`};
      let now${j} = max(largest${j}, max(max(most${j}.x, most${j}.y), max(most${j}.z, most${j}.w)));
      let fade${j} = exp(largest${j} - now${j});
      largest${j} = now${j};
      ${perFour((f) => `let e${j}${f} = exp(s${j}${f} - vec4<f32>(now${j}));`)}
      let sum${j} = ${fours === 2 ? `e${j}0 + e${j}1` : `e${j}0`};
      total${j} = total${j} * fade${j} + (sum${j}.x + sum${j}.y + sum${j}.z + sum${j}.w);
      ${perFour((f) => `let w${j}${f} = e${j}${f} * (t${j}${f} - vec4<f32>(d${j}));`)}`,
      )}
      ${each(vectors, (i) => `{ ${perFour((f) => fromLanes('k', i, f))} ${perQuery((j) => `y[${j * vectors + i}] = y[${j * vectors + i}] * fade${j} + (${weighted(fours, `w${j}`)});`)} }`)}
    }`,
    `${lanes}u`,
  )}
  let factors = array<f32, ${mine}>(${Array.from({ length: mine }, (_, j) => `p.scale / total${j}`).join(', ')});
  ${loopBelow(
    'i',
    'p.held',
    `let query = first + (i / ${vectors}u) * ${lanes}u + local;
    if (query < p.queries) { y_store(q_at + query * stride + i % ${vectors}u, factors[i / ${vectors}u] * y[i]); }`,
  )}
  ${perQuery(
    (j) => `if (first + ${j * lanes}u + local < p.queries) {
    y_store(p.behind + s_at + first + ${j * lanes}u + local, vec4<f32>(largest${j} + log(total${j}), d${j}, 0.0, 0.0));
  }`,
  )}
}`,
  });
});

/** A lane owns keys and values and gives dk and dv; queries and their derivatives are handed round. */
export const subgroupKeyValueGradient = remembered((lanes: number, vectors: number, dtypes: DTypes<'q' | 'k' | 'v'>) => {
  const mine = tokensPerLane(vectors);
  const { fours, perFour, fromLanes } = handing(lanes, vectors);
  const perKey = (line: (j: number) => string) => each(mine, line);
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
  ${loopBelow(
    'i',
    'p.held',
    `let key = min(first + (i / ${vectors}u) * ${lanes}u + local, p.keys - 1u);
    k[i] = p.scale * k_load(k_at + key * stride + i % ${vectors}u);
    v[i] = v_load(k_at + key * stride + i % ${vectors}u);
    dk[i] = vec4<f32>(0.0);
    dv[i] = vec4<f32>(0.0);`,
  )}
  // A key is seen by the queries from its own position on.
  ${perKey((j) => `let from${j} = select(0u, first + ${j * lanes}u + local, p.causal == 1u);`)}
  let begin = select(0u, (first / ${lanes}u) * ${lanes}u, p.causal == 1u);
  ${loopBelow(
    'seen',
    'p.queries - begin',
    `let block = begin + seen;
    let query = min(block + local, p.queries - 1u);
    let at = q_at + query * stride;
    let stats = stats_load(s_at + query);
    let l = stats.x;
    let d = stats.y;
    ${each(vectors, (i) => `let q${i} = q_load(at + ${i}u);`)}
    ${each(vectors, (i) => `let g${i} = g_load(at + ${i}u);`)}
    for (var r = 0u; r < ${lanes}u; r += ${4 * fours}u) {
      let queries = vec4<u32>(block + r) + vec4<u32>(0u, 1u, 2u, 3u);
      ${perFour((f) => `let ls${f} = ${numbers(lanes, 'l', f)}; let ds${f} = ${numbers(lanes, 'd', f)};`)}
      ${perKey((j) => perFour((f) => `var s${j}${f} = vec4<f32>(0.0); var t${j}${f} = vec4<f32>(0.0);`))}
      ${each(vectors, (i) => `{ ${perFour((f) => fromLanes('q', i, f))} ${dots(mine, vectors, fours, 'k', 's', i)} }`)}
      ${each(vectors, (i) => `{ ${perFour((f) => fromLanes('g', i, f))} ${dots(mine, vectors, fours, 'v', 't', i)} }`)}
      ${perKey((j) =>
        perFour(
          (f) => `let seen${j}${f} = (queries + ${4 * f}u < vec4<u32>(p.queries)) & (queries + ${4 * f}u >= vec4<u32>(from${j}));
      let w${j}${f} = select(vec4<f32>(0.0), exp(s${j}${f} - ls${f}), seen${j}${f});
      let u${j}${f} = w${j}${f} * (t${j}${f} - ds${f});`,
        ),
      )}
      ${each(vectors, (i) => `{ ${perFour((f) => fromLanes('q', i, f))} ${perKey((j) => `dk[${j * vectors + i}] += ${weighted(fours, `u${j}`)};`)} }`)}
      ${each(vectors, (i) => `{ ${perFour((f) => fromLanes('g', i, f))} ${perKey((j) => `dv[${j * vectors + i}] += ${weighted(fours, `w${j}`)};`)} }`)}
    }`,
    `${lanes}u`,
  )}
  ${loopBelow(
    'i',
    'p.held',
    `let key = first + (i / ${vectors}u) * ${lanes}u + local;
    if (key < p.keys) {
      let at = k_at + key * stride + i % ${vectors}u;
      y_store(at, p.scale * dk[i]);
      y_store(p.behind + at, dv[i]);
    }`,
  )}
}`,
  });
});
