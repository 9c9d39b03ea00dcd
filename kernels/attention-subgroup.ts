/**
 * Attention for adapters that compute a subgroup at a time (CPU drivers): queries on lanes, keys and values handed round.
 *
 * A workgroup is one subgroup of S lanes. A lane owns QUERIES queries of one head and keeps them and their results in arrays that fit the
 * first-level cache. S keys and values are loaded at once, one a lane; then four at a time are sent to all lanes, so that one load from
 * memory serves S x QUERIES queries and one pass over the results takes in four values. There are few loads in the text because each
 * costs a CPU driver some 25 ms to compile, whereas arithmetic costs almost nothing.
 */
import { fill } from '../core/fill.ts';
import { type DTypes, each, loopBelow, remembered, shader, when } from '../core/shader.ts';
import { WINDOW_PARAMS, WINDOW_WGSL } from './window-place.ts';

/**
 * Queries of one lane, whose text is repeated for each; fewer for wide heads, whose queries and results would leave the cache, and on
 * adapters of few lanes, whose compiler is slow with long texts (SwiftShader).
 */
export function queriesPerLane(lanes: number, vectors: number): number {
  const share = Math.min(lanes, 8);
  return Math.min(share, Math.floor((16 * share) / vectors));
}

/** WGSL of lane r + n's `value`, on every lane. Of four lanes r is always zero, and a broadcast is much quicker than a shuffle there. */
export const fromLane = (lanes: number, value: string, n: number) =>
  lanes === 4 ? `subgroupBroadcast(${value}, ${n}u)` : `subgroupShuffle(${value}, r + ${n}u)`;

/** Attention within windows (window-attention.ts): queries of a lane, and whether heads begin and end between fours. */
export interface LaneWindows {
  mine: number;
  ragged: boolean;
}

/**
 * One workgroup for every head and S x queriesPerLane queries; heads of `vectors` loads of four channels. `states`: as in attention.ts. Windows
 * read queries, keys and values where they lie in a map of all three, and their scores begin with a bias.
 */
export const subgroupAttention = remembered(
  (lanes: number, vectors: number, { q, k, v }: DTypes<'q' | 'k' | 'v'>, states: boolean, windows: LaneWindows | null = null) => {
    const mine = windows?.mine ?? queriesPerLane(lanes, vectors);
    // Keys of one pass over the results, in fours: more text, and fewer times that the results are scaled again.
    const fours = vectors <= (windows ? 8 : 4) && lanes % 8 === 0 ? 2 : 1;
    /** Four scores without those of keys that the query may not see: before their sums, or of narrow heads behind them, whichever the compiler likes better. */
    const hiding = (j: number, four: number, scores: string, now: boolean) =>
      now ? `select(vec4<f32>(-3.4e38), ${scores}, keys + ${4 * four}u < vec4<u32>(limit${j}))` : scores;
    const perQuery = (line: (j: number) => string) => each(mine, line);
    const eachFour = (line: (four: number) => string) => each(fours, line);
    /** Load i of the keys or values r to r + 3, or in the second four r + 4 to r + 7, as a, b, c and d on every lane. */
    const fromLanes = (name: 'k' | 'v', i: number, four: number) =>
      ['a', 'b', 'c', 'd'].map((to, n) => `let ${to}${four} = ${fromLane(lanes, `${name}${i}`, 4 * four + n)};`).join(' ');
    return shader({
      name: `attention ${vectors * 4} ${q} ${k} ${v} subgroup ${lanes}${states ? ' states' : ''}${windows ? ` windows x${mine}${windows.ragged ? ' ragged' : ''}` : ''}`,
      bindings: {
        q: { dtype: q, width: 4 },
        k: { dtype: k, width: 4 },
        v: { dtype: v, width: 4 },
        ...when(windows !== null, { bias: { dtype: 'f32', width: 4 } }),
        y: { dtype: 'f32', width: windows?.ragged ? 1 : 4, write: true },
      },
      params: {
        ...{ groups: 'u32', blocks: 'u32', queries: 'u32', keys: 'u32', heads: 'u32', scale: 'f32', causal: 'u32', held: 'u32' },
        ...when(windows !== null, WINDOW_PARAMS),
      },
      workgroup: lanes,
      subgroups: true,
      // held is vectors x queriesPerLane: as a constant it would make compilers unroll the loops that use it.
      code: fill(TEXT, {
        ...{ vectors, lanes, own: lanes * mine, step: 4 * fours, held: `${vectors * mine}`, mine: `${mine}` },
        ...(windows ? placesOfWindows(lanes, mine, fours, windows.ragged) : SEQUENCES),
        limits: perQuery((j) => `let limit${j} = select(p.keys, min(first + ${j * lanes}u + local + 1u, p.keys), p.causal == 1u);`),
        no_statistics: perQuery((j) => `var largest${j} = -3.4e38; var total${j} = 0.0;`),
        load_keys: each(vectors, (i) => `let k${i} = k_load(at + ${i}u);`),
        load_values: each(vectors, (i) => `let v${i} = v_load($value_at + ${i}u);`),
        no_scores: perQuery((j) =>
          eachFour(
            (f) =>
              `var s${j}${f} = ${hiding(j, f, windows ? `first_scores(bias${j}, block + r + ${4 * f}u, regions${f} == vec4<u32>(region${j}))` : 'vec4<f32>(0.0)', fours === 1)};`,
          ),
        ),
        add_to_scores: each(
          vectors,
          (i) => `{
        ${eachFour((f) => fromLanes('k', i, f))}
        ${perQuery((j) => `let q${j} = q[${j * vectors + i}]; ${eachFour((f) => `s${j}${f} += vec4<f32>(dot(q${j}, a${f}), dot(q${j}, b${f}), dot(q${j}, c${f}), dot(q${j}, d${f}));`)}`)}
      }`,
        ),
        weights: perQuery((j) =>
          fill(WEIGHTS, {
            j: `${j}`,
            hide_unseen: eachFour((f) => `s${j}${f} = ${hiding(j, f, `s${j}${f}`, fours === 2)};`),
            largest_of_fours: fours === 2 ? `max(s${j}0, s${j}1)` : `s${j}0`,
            weights_of_fours: eachFour((f) => `let w${j}${f} = exp2(s${j}${f} - vec4<f32>(now${j}));`),
            sum_of_fours: fours === 2 ? `w${j}0 + w${j}1` : `w${j}0`,
          }),
        ),
        add_to_results: each(
          vectors,
          (i) => `{
        ${eachFour((f) => fromLanes('v', i, f))}
        ${perQuery((j) => `y[${j * vectors + i}] = y[${j * vectors + i}] * fade${j} + (${list(fours, (f) => `w${j}${f}.x * a${f} + w${j}${f}.y * b${f} + w${j}${f}.z * c${f} + w${j}${f}.w * d${f}`, ' + ')});`)}
      }`,
        ),
        totals: list(mine, (j) => `total${j}`),
        largest: list(mine, (j) => `largest${j}`),
        result: states
          ? `((image * p.queries + query) * p.heads + head) * ${vectors + 1}u`
          : '(image * p.queries + query) * stride + head_at',
        store: windows?.ragged ? STORE_RAGGED : windows ? STORE_WINDOW : 'y_store($result + i % $vectors, y[i] / totals[i / $vectors]);',
        store_statistics: states ? STATISTICS : '',
      }),
    });
  },
);

const list = (count: number, item: (i: number) => string, by = ', ') => Array.from({ length: count }, (_, i) => item(i)).join(by);

/** The kernel, with places for what varies. */
const TEXT = `$helpers
fn run(id: u32, group: u32, local: u32) {
  if (group >= p.groups) { return; }
  let head = (group / p.blocks) % p.heads;
  let image = group / (p.blocks * p.heads);
  let first = (group % p.blocks) * $own;
  $place
  var q: array<vec4<f32>, $held>;
  var y: array<vec4<f32>, $held>;
  ${loopBelow(
    'i',
    'p.held',
    `let query = min(first + (i / $vectors) * $lanes + local, p.queries - 1u);
    q[i] = p.scale * $query;
    y[i] = vec4<f32>(0.0);`,
  )}
  // A query may see the keys below its limit.
  $limits
  $no_statistics
  let end = select(p.keys, min(first + $own, p.keys), p.causal == 1u);
  ${loopBelow(
    'block',
    'end',
    `let key = min(block + local, p.keys - 1u);
    let at = $key_at;
    $load_keys
    $load_values
    $of_key
    for (var r = 0u; r < $lanes; r += $step) {
      let keys = vec4<u32>(block + r) + vec4<u32>(0u, 1u, 2u, 3u);
      $of_fours
      $no_scores
      $add_to_scores
      $weights
      $add_to_results
    }`,
    '$lanes',
  )}
  let totals = array<f32, $mine>($totals);
  ${loopBelow(
    'i',
    'p.held',
    `let query = first + (i / $vectors) * $lanes + local;
    if (query < p.queries) { $store }`,
  )}$store_statistics
}`;

/** Where the tokens of a sequence lie: one after the other. */
const SEQUENCES = {
  helpers: '',
  place: `let stride = p.heads * $vectors;
  let head_at = head * $vectors;
  let k_at = image * p.keys * stride + head_at;`,
  query: 'q_load((image * p.queries + query) * stride + head_at + i % $vectors)',
  key_at: 'k_at + key * stride',
  value_at: 'at',
  of_key: '',
  of_fours: '',
};

/** Where those of windows lie: \`image\` is the number of a window. Of each query the bias's row and the region, of the keys at hand their regions. */
function placesOfWindows(lanes: number, mine: number, fours: number, ragged: boolean) {
  return {
    helpers: `${WINDOW_WGSL}
fn first_scores(row: u32, key: u32, same: vec4<bool>) -> vec4<f32> {
  return ${Math.LOG2E} * bias_load(row + min(key, p.keys - 4u) / 4u) + select(vec4<f32>(p.blocked), vec4<f32>(0.0), same);
}`,
    place: `let window = window_at(image);
  let head_at = head * p.channels / 4u;
  ${ragged ? 'let before = head * p.channels % 4u;' : ''}
  var pixels: array<u32, $mine>;
  $of_queries`,
    query: ragged
      ? 'select(vec4<f32>(0.0), $load_query, vec4<u32>(4u * (i % $vectors) - before) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.channels))'
      : '$load_query',
    load_query: 'q_load(pixels[i / $vectors] * p.stride + head_at + i % $vectors)',
    of_queries: each(
      mine,
      (j) => `let query${j} = min(first + ${j}u * $lanes + local, p.queries - 1u);
  let bias${j} = (head * p.queries + query${j}) * p.keys / 4u;
  let region${j} = region_of(window, query${j});
  pixels[${j}] = pixel_of(window, query${j});`,
    ),
    key_at: 'pixel_of(window, key) * p.stride + p.third + head_at',
    value_at: 'at + p.third',
    of_key: 'let region = region_of(window, key);',
    of_fours: each(fours, (f) => `let regions${f} = vec4<u32>(${list(4, (n) => fromLane(lanes, 'region', 4 * f + n))});`),
  };
}

/** $store of windows, whole loads and not. */
const STORE_WINDOW = 'y_store(pixels[i / $vectors] * p.third + head_at + i % $vectors, y[i] / totals[i / $vectors]);';
const STORE_RAGGED = `
      let at = (pixels[i / $vectors] * p.heads + head) * p.channels;
      let v = y[i] / totals[i / $vectors];
      ${each(4, (n) => `{ let c = 4u * (i % $vectors) + ${n}u - before; if (c < p.channels) { y_store(at + c, v[${n}]); } }`)}
    `;

/** $weights of a lane's query j: those of the keys at hand, by which it fades what it has. */
const WEIGHTS = `$hide_unseen
      let four$j = $largest_of_fours;
      let now$j = max(largest$j, max(max(four$j.x, four$j.y), max(four$j.z, four$j.w)));
      let fade$j = exp2(largest$j - now$j);
      $weights_of_fours
      let sum$j = $sum_of_fours;
      total$j = total$j * fade$j + (sum$j.x + sum$j.y + sum$j.z + sum$j.w);
      largest$j = now$j;`;

/** $store_statistics of each query, where they are kept. */
const STATISTICS = `
  let most = array<f32, $mine>($largest);
  ${loopBelow(
    'i',
    'p.held',
    `let query = first + (i / $vectors) * $lanes + local;
    if (query < p.queries) { y_store($result + $vectors, vec4<f32>(most[i / $vectors], totals[i / $vectors], 0.0, 0.0)); }`,
    '$vectors',
  )}`;
