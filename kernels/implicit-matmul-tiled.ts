/**
 * Implicit matmul for GPUs: a workgroup of 128 threads computes 128 x 64 results, 8 x 8 of them a thread, or one of 64 threads 64 x 32, 4 x 8 of them
 * a thread (tile-choice.ts).
 *
 * Tiles of x and w, 16 elements of the window deep, pass through workgroup memory. A thread fetches blocks of 4 rows
 * or columns by 4 elements, turns them around in registers and stores them element by element, so that the inner loop reads rows and
 * columns in fours. Memory is waited for while other workgroups of the same processor compute. Indices are written so that compilers see
 * that they stay inside the tiles, for a check would cost as much as several multiply-adds.
 */
import type { TileSize } from '../core/adapter.ts';
import { fill } from '../core/fill.ts';
import { each, remembered, shader } from '../core/shader.ts';
import { epilogueWgsl } from './epilogue.ts';
import { MATMUL_PARAMS, type MatmulVariant, matmulBindings, matmulName, PIXEL, type Tile } from './matmul-variant.ts';
import { TILES } from './tile-choice.ts';

/** What one workgroup computes: with geglu half as many columns, each from a value and a gate. */
export const tiledTile = (size: TileSize, gated: boolean): Tile => ({ ...TILES[size], columns: TILES[size].columns / (gated ? 2 : 1) });
export const tiledThreads = (size: TileSize): number => TILES[size].rows;
/** Elements of the window in a tile, and loads. */
const DEPTH = 16;

const four = (line: (i: number) => string) => each(4, line);

export const tiledMatmul = remembered((variant: MatmulVariant, size: TileSize) => {
  const { inWidth, lowRank, epilogue, windowed, turned } = variant;
  /** The window's elements in a tile, in loads. */
  const depth = DEPTH / inWidth;
  const gated = epilogue.activation === 'geglu';
  const { columns } = tiledTile(size, gated);
  const tile = TILES[size];
  // Sums of a thread in fours: two of columns and so many of rows. Threads lie in a grid over them.
  const [rowFours, across] = [tile.columns / 32, tile.columns / 8];
  const down = tile.rows / across;
  const [xPitch, wPitch] = [tile.rows / 4, tile.columns / 4];
  const load = `${inWidth === 1 ? 'elements' : 'loads'} ${windowed ? 'of a window' : 'of a row'}` as const;
  return shader({
    name: `${matmulName(variant)} tiled${size === 'small' ? ' small' : ''}`,
    bindings: matmulBindings(variant),
    params: MATMUL_PARAMS,
    workgroup: tiledThreads(size),
    code: fill(TEXT, {
      ...{ depth, columns, across, down, tile_rows: tile.rows, tile_columns: tile.columns, to_depth: depth - 1 },
      ...{ x_pitch: xPitch, w_pitch: wPitch, sum_rows: 4 * rowFours, row_step: 4 * down },
      finish: epilogueWgsl(epilogue),
      ...{ x_size: `${DEPTH * xPitch}`, w_size: `${DEPTH * wPitch}` },
      four_elements: inWidth === 4 ? '' : `${windowed ? `${PIXEL}${SCALAR_WINDOW}` : SCALAR_ROW}${turned ? SCALAR_TURNED : SCALAR_W}`,
      gates: gated ? ` + sums_of / ${columns}u * p.columns` : '',
      rows_of_x: windowed ? WINDOW_PLACES : 'let x_at = batch * p.x_batch + rows * p.k;',
      sums: each(4 * rowFours, (i) => `var s${i}_0 = vec4<f32>(0.0); var s${i}_1 = vec4<f32>(0.0);`),
      windows_end: lowRank ? 'let windows_end = (p.k + $to_depth) / $depth * $depth;' : '',
      end: lowRank ? 'windows_end + (p.rank + 3u) / 4u * $depth' : 'p.k',
      no_x: four((i) => `var x${i} = vec4<f32>(0.0);`),
      unless_adapters_x: lowRank ? ADAPTERS_X : '{',
      load_x: LOAD_X[load],
      keep_x: four(
        (j) => `x_tile[(4u * x_quad + ${j}u) * ${xPitch}u + local % ${xPitch}u] = vec4<f32>(x0[${j}], x1[${j}], x2[${j}], x3[${j}]);`,
      ),
      no_w: four((i) => `var w${i}: vec4<f32>;`),
      unless_adapters_w: lowRank ? ADAPTERS_W : '{',
      load_up: four((i) => `w${i} = up_load(columns[${i}] * p.rank + q);`),
      column_step: turned ? '' : ' * p.k',
      load_w: inWidth === 1 ? four((i) => `w${i} = w_four(w_at[${i}], done + 4u * w_quad);`) : turned ? LOAD_TURNED : LOAD_W,
      keep_w: four((j) => {
        const turnedAround = `vec4<f32>(w0[${j}], w1[${j}], w2[${j}], w3[${j}])`;
        const across = turned && inWidth === 4;
        const value = !across ? turnedAround : lowRank ? `select(w${j}, ${turnedAround}, done >= windows_end)` : `w${j}`;
        return `w_tile[(4u * w_quad + ${j}u) * ${wPitch}u + local % ${wPitch}u] = ${value};`;
      }),
      steps: DEPTH / 2,
      multiply: each(2, (n) =>
        fill(MULTIPLY, {
          n,
          ...{ x_pitch: xPitch, w_pitch: wPitch, across },
          more_rows: rowFours === 2 ? `let b = x_tile[(2u * k + $n) * $x_pitch + my_rows + ${down}u];` : '',
          add: each(4 * rowFours, addProducts),
        }),
      ),
      all_sums: Array.from({ length: 8 * rowFours }, (_, i) => `s${i >> 1}_${i & 1}`).join(', '),
      sum_fours: `${8 * rowFours}`,
      store: gated
        ? 'finish4(slice, row, column, sums[2u * i], sums[2u * i + 1u]);'
        : each(2, (j) => `finish4(slice, row, column + ${4 * across * j}u, sums[2u * i + ${j}u]);`),
    }),
  });
});

/** The kernel, with places for what varies. */
const TEXT = `
$finish
var<workgroup> x_tile: array<vec4<f32>, $x_size>;
var<workgroup> w_tile: array<vec4<f32>, $w_size>;
$four_elements
fn run(id: u32, group: u32, local: u32) {
  let tiles = p.row_tiles * p.column_tiles;
  if (group >= tiles * p.batch * p.parts) { return; }
  let slice = group / tiles;
  let batch = slice % p.batch;
  // Of several parts of the sum each has its own elements of k; the last one has the rest.
  let begin = slice / p.batch * p.part;
  let first_row = ((group % tiles) / p.column_tiles) * $tile_rows;
  let first_column = (group % p.column_tiles) * $columns;
  // Four rows of x and four of w to fetch; those beyond the edge repeat the last one, and finish drops them.
  let rows = min(first_row + 4u * (local % $x_pitch) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.rows - 1u));
  let sums_of = 4u * (local % $w_pitch) + vec4<u32>(0u, 1u, 2u, 3u);
  let columns = min(first_column + sums_of % $columns, vec4<u32>(p.columns - 1u))$gates;
  let x_quad = (local / $x_pitch) % 4u;
  let w_quad = (local / $w_pitch) % 4u;
  let w_at = batch * p.w_batch + columns$column_step;
  $rows_of_x
  // A thread's sums, in fours of columns.
  let my_rows = (local / $across) % $down;
  let my_columns = local % $across;
  $sums
  $windows_end
  let end = select($end, begin + p.part, slice / p.batch + 1u < p.parts);
  for (var done = begin; done < end; done += $depth) {
    $no_x
    $unless_adapters_x
    $load_x
    }
    workgroupBarrier();
    $keep_x
    if (local < $tile_columns) {
      $no_w
      // What w holds beyond its end is multiplied by zeros, but must not be a NaN.
      $unless_adapters_w
      $load_w
      }
      $keep_w
    }
    workgroupBarrier();
    for (var k = 0u; k < $steps; k++) {
      $multiply
    }
  }
  var sums = array<vec4<f32>, $sum_fours>($all_sums);
  for (var i = 0u; i < $sum_rows; i++) {
    let row = first_row + my_rows * 4u + i / 4u * $row_step + i % 4u;
    let column = first_column + my_columns * 4u;
    $store
  }
}`;

/** $multiply: one element of the window, of two in a trip. */
const MULTIPLY = `{
        let a = x_tile[(2u * k + $n) * $x_pitch + my_rows];
        $more_rows
        let u = w_tile[(2u * k + $n) * $w_pitch + my_columns];
        let v = w_tile[(2u * k + $n) * $w_pitch + my_columns + $across];
        $add
      }`;
const addProducts = (i: number) => {
  const factor = `vec4<f32>(${i < 4 ? 'a' : 'b'}[${i % 4}])`;
  return `s${i}_0 = fma(${factor}, u, s${i}_0); s${i}_1 = fma(${factor}, v, s${i}_1);`;
};

/** $rows_of_x of a window. */
const WINDOW_PLACES = `let x_at = batch * p.x_batch + rows / (p.oh * p.ow) * ((p.h >> p.zoom) * (p.width >> p.zoom) * p.channels);
  let top = vec4<i32>(((rows / p.ow) % p.oh) * p.stride) - i32(p.top);
  let left = vec4<i32>((rows % p.ow) * p.stride) - i32(p.left);
  // The window's place (ky, kx): where in x, and whether inside. The next load is c behind; the first place is a step away.
  var place = vec4<u32>(0u);
  var inside = vec4<bool>(false);
  var c = p.channels + begin % p.channels + x_quad;
  var kx = begin / p.channels % p.kw - 1u;
  var ky = begin / p.channels / p.kw;`;

/** $load_x, by what a load moves and where rows lie. */
const LOAD_X = {
  'elements of a row': four((i) => `x${i} = x_four(x_at[${i}], done + 4u * x_quad);`),
  'elements of a window': four((i) => `x${i} = x_four(x_at[${i}], top[${i}], left[${i}], done + 4u * x_quad);`),
  'loads of a row': `if (done + x_quad < p.k) { ${four((i) => `x${i} = x_load(x_at[${i}] + done + x_quad);`)} }`,
  'loads of a window': `while (c >= p.channels) {
      c -= p.channels;
      kx++;
      if (kx == p.kw) {
        kx = 0u;
        ky++;
      }
      let y = top + i32(ky);
      let x = left + i32(kx);
      inside = (y >= vec4<i32>(0)) & (y < vec4<i32>(i32(p.h))) & (x >= vec4<i32>(0)) & (x < vec4<i32>(i32(p.width))) & vec4<bool>(ky < p.kh);
      place = x_at + ((vec4<u32>(y) >> vec4<u32>(p.zoom)) * (p.width >> p.zoom) + (vec4<u32>(x) >> vec4<u32>(p.zoom))) * p.channels;
    }
    ${four((i) => `if (inside[${i}]) { x${i} = x_load(place[${i}] + c); }`)}
    c += $depth;`,
};

/** $unless_adapters_x and $unless_adapters_w: behind the window, adapters' factors are fetched in its place. */
const ADAPTERS_X = `let rank_quad = (done - windows_end) / $depth * 4u;
    if (done >= windows_end) {
      let q = rank_quad + x_quad;
      if (q < p.rank) { ${four((i) => `x${i} = t_load(rows[${i}] * p.rank + q);`)} }
    } else {`;
const ADAPTERS_W = `if (done >= windows_end) {
        let q = min(rank_quad + w_quad, p.rank - 1u);
        $load_up
      } else {`;

/** $load_w in loads of four. */
const LOAD_W = `let q = min(done + w_quad, p.k - 1u);
      ${four((i) => `w${i} = w_load(w_at[${i}] + q);`)}`;

/** The same of w as a backward pass reads it: one element of four columns at a time. */
const LOAD_TURNED = `let q = min(done + w_quad, p.k - 1u);
      let tap = q / p.channels;
      let beside = p.columns / 4u;
      let step = p.kh * p.kw * beside;
      let of_tap = batch * p.w_batch + columns[0] / 4u + (p.kh * p.kw - 1u - tap) * beside + 4u * (q - tap * p.channels) * step;
      ${four((i) => `w${i} = w_load(of_tap + ${i}u * step);`)}`;

/** Four elements of a row, zero beyond its end, where channels are not in fours. */
const SCALAR_ROW = `
fn x_four(at: u32, k: u32) -> vec4<f32> {
  var v = vec4<f32>(0.0);
  for (var i = 0u; i < 4u; i++) { if (k + i < p.k) { v[i] = x_load(at + k + i); } }
  return v;
}`;

/** Four elements of a column of w, zero beyond its end; and the same as a backward pass reads it. */
const SCALAR_W = `
fn w_four(at: u32, k: u32) -> vec4<f32> {
  var v = vec4<f32>(0.0);
  for (var i = 0u; i < 4u; i++) { if (k + i < p.k) { v[i] = w_load(at + k + i); } }
  return v;
}`;
const SCALAR_TURNED = `
fn w_four(at: u32, k: u32) -> vec4<f32> {
  var v = vec4<f32>(0.0);
  for (var i = 0u; i < 4u; i++) {
    let tap = (k + i) / p.channels;
    let c = (k + i) % p.channels;
    if (k + i < p.k) { v[i] = w_load(at + (c * p.kh * p.kw + p.kh * p.kw - 1u - tap) * p.columns); }
  }
  return v;
}`;

/** Four elements of a window, zero outside the image. */
const SCALAR_WINDOW = `
fn x_four(at: u32, top: i32, left: i32, k: u32) -> vec4<f32> {
  var v = vec4<f32>(0.0);
  for (var i = 0u; i < 4u; i++) {
    let tap = (k + i) / p.channels;
    let y = top + i32(tap / p.kw);
    let x = left + i32(tap % p.kw);
    if (tap / p.kw < p.kh && y >= 0 && y < i32(p.h) && x >= 0 && x < i32(p.width)) {
      v[i] = x_load(at + pixel(0u, u32(y), u32(x)) * p.channels + (k + i) % p.channels);
    }
  }
  return v;
}`;
