/**
 * Attention for GPUs: a workgroup computes the results of some queries of one head, a block of keys at a time.
 *
 * A thread has 4 queries: it sums their scores with some keys of the block, then their results in some channels. Both are matmuls over tiles
 * in workgroup memory: slices of 16 channels of queries and keys, then pieces of weights and values. In between, the threads that share
 * queries agree on their largest scores. Heads of up to 128 channels have 64 queries a workgroup, wider ones 32, so that the results stay in
 * registers; beyond 512 channels the results are cut into chunks, which compute the scores again.
 *
 * Queries, keys and channels are dealt to threads in turn, so that neighbours read neighbouring words of workgroup memory; rows of tiles are
 * padded where they would fall on the same banks. Indices are written so that compilers see that they stay inside the tiles.
 */
import type { TileSize } from '../core/adapter.ts';
import { fill } from '../core/fill.ts';
import { type DTypes, each, remembered, shader, when } from '../core/shader.ts';
import { WINDOW_PARAMS, WINDOW_WGSL } from './window-place.ts';

/** Groups of 4 channels in a slice of queries and keys. */
const DEPTH = 4;

/** How the threads of a workgroup share queries, keys and channels. */
export interface AttentionTile {
  threads: number;
  /** Threads that share their 4 queries. */
  across: number;
  /** Keys of the block, and groups of 4 channels of the result, that a thread has. */
  keys: number;
  channels: number;
  /** Keys whose weights, and whose values, are in workgroup memory at once. */
  piece: number;
  values: number;
}

/** The widest head, in groups of 4 channels, of which there is a small tile. */
const SMALL_UP_TO = 24;

/** The tile for heads of so many groups of 4 channels. Small ones have half the queries, and give the same bits. */
export function attentionTile(quads: number, size: TileSize = 'large'): AttentionTile {
  if (size === 'small' && quads <= SMALL_UP_TO)
    return { threads: 64, across: 8, keys: 8, channels: Math.ceil(quads / 8), piece: 16, values: 8 };
  if (quads <= SMALL_UP_TO) return { threads: 128, across: 8, keys: 8, channels: Math.ceil(quads / 8), piece: 16, values: 16 };
  if (quads <= 32) return { threads: 256, across: 16, keys: 4, channels: 2, piece: 16, values: 8 };
  return { threads: 256, across: 32, keys: 4, piece: 32, ...(quads <= 64 ? { channels: 2, values: 8 } : { channels: 4, values: 4 }) };
}

/** Queries of a workgroup. */
export const tileQueries = ({ threads, across }: AttentionTile): number => 4 * (threads / across);

/** Lengths of loops. They are not constants, for compilers would unroll the loops: more registers on GPUs, seconds of compiling on CPUs. */
const LOOPS = { depth: 'u32', across: 'u32', parts: 'u32', values: 'u32' } as const;
export const loopLengths = (tile: AttentionTile) => ({
  depth: DEPTH,
  across: tile.across,
  parts: tile.piece / tile.values,
  values: tile.values / unrolledValues(tile),
});

/** Values in one trip of their loop: enough arithmetic to hide the addresses' own. */
const unrolledValues = ({ channels }: AttentionTile): number => Math.max(1, 4 >> (channels - 1));

const list = (count: number, item: (i: number) => string, by = ', ') => Array.from({ length: count }, (_, i) => item(i)).join(by);

/**
 * `loads`: elements that a load of q, k and v moves; 1 where heads are not in fours. `states`: as in attention.ts. `windows`: as in
 * window-attention.ts, which read queries, keys and values where they lie in a map of all three, and whose scores have a bias.
 */
export const tiledAttention = remembered(
  (tile: AttentionTile, loads: 1 | 4, types: DTypes<'q' | 'k' | 'v'>, states: boolean, windows: boolean = false) => {
    const { threads, across, keys, channels, piece, values } = tile;
    const down = threads / across;
    const queries = 4 * down;
    const block = keys * across;
    const width = channels * across;
    const unrolled = unrolledValues(tile);
    // Workgroup memory in vectors: queries, then keys; later weights, then values; behind both, one vector for each thread.
    const queryPitch = queries + 2;
    const keyPitch = block + 2;
    const keyAt = DEPTH * queryPitch;
    const weightPitch = down > 8 ? down + 1 : down;
    const valueAt = piece * weightPitch;
    const sharedAt = Math.max(keyAt + DEPTH * keyPitch, valueAt + values * width);
    /** Rows of a slice, each thread one group of channels of every (threads / DEPTH)th row. */
    const fetch = (name: 'q' | 'k', rows: number, to: number, pitch: number) => {
      const step = threads / DEPTH;
      return each(Math.ceil(rows / step), (i) => {
        const row = i * step;
        const store = `tile[${to + row}u + (local % ${DEPTH}u) * ${pitch}u + (local / ${DEPTH}u) % ${Math.min(rows, step)}u] = select(vec4<f32>(0.0), ${name}_four(${name}_row${i}, quad), inside);`;
        return rows < step ? `if (local < ${rows * DEPTH}u) { ${store} }` : store;
      });
    };
    const rowsOf = (name: 'q' | 'k', rows: number, first: string, last: string) =>
      each(
        Math.ceil((rows * DEPTH) / threads),
        (i) =>
          `let ${name}_row${i} = ${name}_at + ${pixel(`min(${first} + local / ${DEPTH}u + ${(i * threads) / DEPTH}u, ${last})`)} * stride;`,
      );
    /** Where a token lies. */
    const pixel = (token: string) => (windows ? `pixel_of(window, ${token})` : token);
    /** What scores still lack when the bias is added. */
    const scale = windows ? '1.0' : 'p.scale';
    const statistics = (two: string) =>
      loads === 4
        ? `y_store(at + p.head, vec4<f32>(${two}, 0.0, 0.0));`
        : `let two = vec2<f32>(${two}); ${['two.x', 'two.y', '0.0', '0.0'].map((value, n) => `y_store(at + p.head + ${n}u, ${value});`).join(' ')}`;
    const perKey = (line: (m: number) => string) => each(keys, line);
    const results = (line: (i: number, n: number) => string) => each(4, (i) => each(channels, (n) => line(i, n)));
    const addValues = (u: number) =>
      each(
        channels,
        (n) => `{
              let v = tile[${valueAt + u * width + n * across}u + row0 * ${width}u + x];
              ${each(4, (i) => `y${i}_${n} = fma(vec4<f32>(w[${i}]), v, y${i}_${n});`)}
            }`,
      );
    return shader({
      name: `attention x${loads} ${4 * width} ${types.q} ${types.k} ${types.v} tiled${threads === 64 ? ' small' : ''}${states ? ' states' : ''}${windows ? ' windows' : ''}`,
      bindings: {
        q: { dtype: types.q, width: loads },
        k: { dtype: types.k, width: loads },
        v: { dtype: types.v, width: loads },
        ...when(windows, { bias: { dtype: 'f32', width: 1 } }),
        y: { dtype: 'f32', width: loads, write: true },
      },
      params: {
        groups: 'u32',
        blocks: 'u32', // of queries
        chunks: 'u32', // of channels
        queries: 'u32',
        keys: 'u32',
        heads: 'u32',
        head: 'u32', // loads of a head
        quads: 'u32', // groups of 4 channels of a head
        scale: 'f32', // of scores, times log2(e)
        causal: 'u32',
        ...LOOPS,
        ...when(windows, WINDOW_PARAMS),
      },
      workgroup: threads,
      code: fill(TEXT, {
        ...{ across, down, queries, block, width, depth: DEPTH, shared_at: sharedAt },
        ...{ down2: 2 * down, down3: 3 * down },
        tile_size: `${sharedAt + threads}`,
        scale,
        helpers: windows ? WINDOW_WGSL : '',
        place: windows ? PLACE_OF_WINDOW : PLACE_OF_SEQUENCE,
        bias_scores: windows
          ? `{
      let query = min(mine, vec4<u32>(p.queries - 1u));
      let row = (vec4<u32>(head * p.queries) + query) * p.keys;
      let regions = vec4<u32>(${list(4, (i) => `region_of(window, query[${i}])`)});
      ${perKey(
        (m) => `{
        let other = min(key + ${m * across}u + x, p.keys - 1u);
        let bias = ${Math.LOG2E} * vec4<f32>(${list(4, (i) => `bias_load(row[${i}] + other)`)});
        let between = select(vec4<f32>(p.blocked), vec4<f32>(0.0), regions == vec4<u32>(region_of(window, other)));
        s${m} = fma(s${m}, vec4<f32>(p.scale), bias + between);
      }`,
      )}
    }`
          : '',
        four_channels: ['q', 'k', 'v'].map((name) => fourWgsl(name, loads)).join('\n'),
        no_results: results((i, n) => `var y${i}_${n} = vec4<f32>(0.0);`),
        query_rows: rowsOf('q', queries, 'first', 'p.queries - 1u'),
        key_rows: rowsOf('k', block, 'key', 'p.keys - 1u'),
        no_scores: perKey((m) => `var s${m} = vec4<f32>(0.0);`),
        fetch_queries: fetch('q', queries, 0, queryPitch),
        fetch_keys: fetch('k', block, keyAt, keyPitch),
        load_queries: each(4, (i) => `let q${i} = tile[${i * down}u + (c % ${DEPTH}u) * ${queryPitch}u + y];`),
        add_to_scores: perKey(
          (m) => `{
          let k = tile[${keyAt + m * across}u + (c % ${DEPTH}u) * ${keyPitch}u + x];
          ${each(4, (j) => `s${m} = fma(vec4<f32>(${list(4, (i) => `q${i}[${j}]`)}), vec4<f32>(k[${j}]), s${m});`)}
        }`,
        ),
        hide_unseen: perKey((m) => `s${m} = select(vec4<f32>(-1e38), s${m}, vec4<u32>(key + ${m * across}u + x) < limit);`),
        largest_score: Array.from({ length: keys }, (_, m) => `s${m}`).reduce((most, s) => `max(${most}, ${s})`),
        weights: perKey((m) => `s${m} = exp2(fma(s${m}, vec4<f32>(${scale}), -now));`),
        sum_of_weights: list(keys, (m) => `s${m}`, ' + '),
        fade_results: results((i, n) => `y${i}_${n} *= fade[${i}];`),
        pieces: each(block / piece, (j) =>
          fill(PIECE, {
            ...{ piece_parts: piece / values, values, piece_at: j * piece, row_groups: values / unrolled, unrolled },
            wait_for_piece: j ? 'workgroupBarrier();' : '',
            keep_weights: each(piece / across, (m) => `tile[(${m * across}u + x) * ${weightPitch}u + y] = s${(j * piece) / across + m};`),
            wait_for_part: values < piece ? 'if (part > 0u) { workgroupBarrier(); }' : '',
            fetch_values: each(
              (values * channels) / down,
              (i) => `{
          let n = ${(i * down) / values}u + (y / ${values}u) % ${Math.max(1, down / values)}u;
          tile[${valueAt}u + (y % ${values}u) * ${width}u + n * ${across}u + x] = v_four(v_at + ${pixel('row')} * stride, min(chunk + n * ${across}u + x, p.quads - 1u));
        }`,
            ),
            add_to_results: each(
              unrolled,
              (u) => `{
            let w = tile[(part * ${values}u + row0 + ${u}u) * ${weightPitch}u + y];
            ${addValues(u)}
          }`,
            ),
          }),
        ),
        store: each(
          4,
          (i) => `if (mine[${i}] < p.queries) {
    let at = ${states ? `((image * p.queries + mine[${i}]) * p.heads + head) * (p.head + ${4 / loads}u)` : windows ? `(${pixel(`mine[${i}]`)} * p.heads + head) * p.head` : `q_at + mine[${i}] * stride`};
    ${each(channels, (n) => `y_four(at, chunk + ${n * across}u + x, y${i}_${n} / total[${i}]);`)}
    ${states ? `if (chunk + x == 0u) { ${statistics(`largest[${i}], total[${i}]`)} }` : ''}
  }`,
        ),
        store_four:
          loads === 4
            ? 'if (quad < p.quads) { y_store(at + quad, v); }'
            : 'for (var i = 0u; i < 4u; i++) { if (4u * quad + i < p.head) { y_store(at + 4u * quad + i, v[i]); } }',
      }),
    });
  },
);

/** The kernel, with places for what varies. */
const TEXT = `
var<workgroup> tile: array<vec4<f32>, $tile_size>;
$four_channels$helpers
fn run(id: u32, group: u32, local: u32) {
  if (group >= p.groups) { return; }
  let first = (group % p.blocks) * $queries;
  let chunk = (group / p.blocks) % p.chunks * $width;
  let head = (group / (p.blocks * p.chunks)) % p.heads;
  let image = group / (p.blocks * p.chunks * p.heads);
  $place
  let x = local % $across;
  let y = (local / $across) % $down;
  let mine = first + y + vec4<u32>(0u, $down, $down2, $down3);
  let limit = select(vec4<u32>(p.keys), min(mine + 1u, vec4<u32>(p.keys)), p.causal == 1u);
  // Keys that some query of the workgroup sees, and keys that all of them see.
  let end = select(p.keys, min(first + $queries, p.keys), p.causal == 1u);
  let seen = select(p.keys, min(first + 1u, p.keys), p.causal == 1u);
  var largest = vec4<f32>(-1e38);
  var total = vec4<f32>(0.0);
  $no_results
  $query_rows
  for (var key = 0u; key < end; key += $block) {
    $key_rows
    $no_scores
    for (var channel = 0u; channel < p.quads; channel += $depth) {
      let inside = channel + local % $depth < p.quads;
      let quad = min(channel + local % $depth, p.quads - 1u);
      workgroupBarrier();
      $fetch_queries
      $fetch_keys
      workgroupBarrier();
      for (var c = 0u; c < p.depth; c++) {
        $load_queries
        $add_to_scores
      }
    }
    $bias_scores
    if (key + $block > seen) {
      $hide_unseen
    }
    tile[$shared_at + x * $down + y] = $largest_score;
    workgroupBarrier();
    var most = tile[$shared_at + y];
    for (var i = 1u; i < p.across; i++) { most = max(most, tile[$shared_at + (i % $across) * $down + y]); }
    let now = max(largest, $scale * most);
    let fade = exp2(largest - now);
    largest = now;
    $weights
    total = fma(total, fade, $sum_of_weights);
    $fade_results
    $pieces
  }
  tile[$shared_at + x * $down + y] = total;
  workgroupBarrier();
  total = vec4<f32>(0.0);
  for (var i = 0u; i < p.across; i++) { total += tile[$shared_at + (i % $across) * $down + y]; }
  $store
}
fn y_four(at: u32, quad: u32, v: vec4<f32>) {
  $store_four
}`;

/** $place: where the tokens of a sequence lie, one after the other; and where those of a window do, `image` being its number. */
const PLACE_OF_SEQUENCE = `let stride = p.heads * p.head;
  let q_at = image * p.queries * stride + head * p.head;
  let k_at = image * p.keys * stride + head * p.head;
  let v_at = k_at;`;
const PLACE_OF_WINDOW = `let window = window_at(image);
  let stride = p.stride;
  let q_at = head * p.head;
  let k_at = q_at + p.third;
  let v_at = k_at + p.third;`;

/** $pieces: some keys' weights are kept in workgroup memory, then their values, a part at a time. */
const PIECE = `{
      $wait_for_piece
      $keep_weights
      for (var step = 0u; step < p.parts; step++) {
        let part = step % $piece_parts;
        $wait_for_part
        let row = min(key + $piece_at + part * $values + y % $values, p.keys - 1u);
        $fetch_values
        workgroupBarrier();
        for (var k = 0u; k < p.values; k++) {
          let row0 = (k % $row_groups) * $unrolled;
          $add_to_results
        }
      }
    }`;

/** WGSL of `name_four(at, quad)`: four channels of the head whose row begins at `at`; zero beyond its end. */
const fourWgsl = (name: string, loads: 1 | 4) => `
fn ${name}_four(at: u32, quad: u32) -> vec4<f32> {
  ${
    loads === 4
      ? `return ${name}_load(at + quad);`
      : `var v = vec4<f32>(0.0);
  for (var i = 0u; i < 4u; i++) { if (4u * quad + i < p.head) { v[i] = ${name}_load(at + 4u * quad + i); } }
  return v;`
  }
}`;
