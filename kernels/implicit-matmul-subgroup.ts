/**
 * Implicit matmul for adapters that compute a subgroup at a time (CPU drivers), where a load costs as much as 25 multiply-adds, handing a
 * value to all lanes costs one, and barriers are dear.
 *
 * A workgroup is one subgroup. A lane loads some rows of x and four columns of w, four channels at a time; each row is then broadcast, so
 * that every lane multiplies it with its own columns. The sums, 32 x 4 for a lane, stay in registers or the first-level cache. A larger tile
 * saves loads and is slower all the same: the loop's machine code must fit the first-level instruction cache (32 KB), and a load is 2 KB of it.
 */
import { fill } from '../core/fill.ts';
import { each, remembered, shader } from '../core/shader.ts';
import { MATMUL_PARAMS, type MatmulVariant, matmulBindings, matmulName, PIXEL, type Tile } from './matmul-variant.ts';
import { toldEpilogueWgsl } from './told-epilogue.ts';

/**
 * What one workgroup computes: enough rows for every lane to load one, and of four lanes not more than 16: the one driver that always has so few
 * (SwiftShader) compiles a text of 32 for minutes, and of 16 in a moment.
 */
export function subgroupTile(lanes: number, gated: boolean): Tile {
  return { rows: Math.max(Math.min(32, 4 * lanes), lanes), columns: (gated ? 2 : 4) * lanes };
}

/**
 * The function that hands one lane's value to all. On the one CPU driver with subgroups, a shuffle of eight lanes is one instruction and of
 * other numbers a loop; a broadcast is always four.
 */
export const handRound = (lanes: number) => (lanes === 8 ? 'subgroupShuffle' : 'subgroupBroadcast');

export const subgroupMatmul = remembered((lanes: number, variant: MatmulVariant) => {
  const { inWidth, lowRank, epilogue, windowed, turned } = variant;
  /** A lane's four columns of sums are then two values and their gates. */
  const gated = epilogue.activation === 'geglu';
  const { rows, columns } = subgroupTile(lanes, gated);
  /** Rows that a lane loads. */
  const loads = rows / lanes;
  /** A load u of w is four elements of one column, or turned, one element of four columns. */
  const products = (width: 1 | 4, across: boolean) =>
    width === 1
      ? 'v * vec4<f32>(u0, u1, u2, u3)'
      : across
        ? 'v.x * u0 + v.y * u1 + v.z * u2 + v.w * u3'
        : 'vec4<f32>(dot(v, u0), dot(v, u1), dot(v, u2), dot(v, u3))';
  const accumulate = (width: 1 | 4, across = false) =>
    each(
      rows,
      (r) => `{ let v = ${handRound(lanes)}(v${Math.floor(r / lanes)}, ${r % lanes}u); sums[${r}] += ${products(width, across)}; }`,
    );
  const perLoad = (line: (i: number) => string) => each(loads, line);
  return shader({
    name: `${matmulName(variant)} subgroup ${lanes}`,
    bindings: matmulBindings(variant),
    params: { ...MATMUL_PARAMS, tile_rows: 'u32', image_rows: 'u32', plane: 'u32', plane_columns: 'u32', plane_share: 'f32' },
    workgroup: lanes,
    subgroups: true,
    code: fill(TEXT, {
      finish_function: toldEpilogueWgsl(epilogue),
      pixel: windowed ? PIXEL : '',
      width: epilogue.width,
      next_row: NEXT_ROW,
      ...{ rows, columns, columns_of_lane: columns / lanes, row_count: `${rows}` },
      columns_of_w: each(4, (j) => `let o${j} = ${gated && j > 1 ? `o${j - 2} + p.columns` : `min(column + ${j}u, p.columns - 1u)`};`),
      starts_in_w: turned
        ? `let quad = min(column / 4u, p.columns / 4u - 1u);
  // Of an element of the window, how far its columns lie from the next one's, in loads, and those of one tap from another's.
  let beside = p.columns / ${inWidth}u;
  let step = p.kh * p.kw * beside;`
        : each(4, (j) => `let w${j} = batch * p.w_batch + o${j} * p.k;`),
      start_of_tap: turned ? 'let of_tap = batch * p.w_batch + (p.kh * p.kw - 1u - tap / p.channels) * beside;' : '',
      rows_of_x: perLoad((i) => `let r${i} = min(first_row + ${i * lanes}u + local, p.rows - 1u);`),
      sum_over_x: windowed ? OVER_WINDOW : OVER_ROW,
      starts_in_x: perLoad((i) => `let a${i} = batch * p.x_batch + r${i} * p.channels;`),
      load_row: perLoad((i) => `let v${i} = x_load(a${i} + c);`),
      corners: perLoad(
        (i) => `let line${i} = r${i} / p.ow;
  let n${i} = line${i} / p.oh;
  let top${i} = i32((line${i} - n${i} * p.oh) * p.stride) - i32(p.top);
  let left${i} = i32((r${i} - line${i} * p.ow) * p.stride) - i32(p.left);`,
      ),
      places: perLoad(
        (i) => `let y${i} = top${i} + i32(ky);
      let x${i} = left${i} + i32(kx);
      let inside${i} = y${i} >= 0 && y${i} < i32(p.h) && x${i} >= 0 && x${i} < i32(p.width);
      let a${i} = batch * p.x_batch + select(0u, pixel(n${i}, u32(y${i}), u32(x${i})) * p.channels, inside${i});`,
      ),
      load_window: perLoad((i) => `let v${i} = select(${inWidth === 4 ? 'vec4<f32>(0.0)' : '0.0'}, x_load(a${i} + c), inside${i});`),
      load_w: each(4, (j) =>
        !turned
          ? `let u${j} = w_load(w${j} + tap + c);`
          : inWidth === 4
            ? `let u${j} = w_load(of_tap + (4u * c + ${j}u) * step + quad);`
            : `let u${j} = w_load(of_tap + c * step + o${j});`,
      ),
      accumulate: accumulate(inWidth, turned),
      sum_over_ranks: lowRank ? OVER_RANKS : '',
      load_t: perLoad((i) => `let v${i} = t_load(r${i} * p.rank + c);`),
      load_up: each(4, (j) => `let u${j} = up_load(o${j} * p.rank + c);`),
      accumulate_ranks: accumulate(4),
    }),
  });
});

/** The kernel, with places for what varies. */
const TEXT = `
$finish_function
$pixel
fn run(id: u32, group: u32, local: u32) {
  let tiles = p.row_tiles * p.column_tiles;
  if (group >= tiles * p.batch) { return; }
  let batch = group / tiles;
  let tile = group - batch * tiles;
  let row_tile = tile / p.column_tiles;
  let first_row = row_tile * $rows;
  let column = (tile - row_tile * p.column_tiles) * $columns + $columns_of_lane * local;
  // Rows and columns beyond the edge repeat the last one; their sums are dropped.
  $columns_of_w
  $starts_in_w
  $rows_of_x
  var sums: array<vec4<f32>, $row_count>;
  $sum_over_x
  $sum_over_ranks
  if (column >= p.columns) { return; }
  // The bound is not a constant: compilers would unroll the loops and compile their bodies once for every row.
  let end = min(first_row + p.tile_rows, p.rows);
  let plane = u32((f32(column) + 0.5) * p.plane_share);
  let first_in_plane = plane * p.plane + column - plane * p.plane_columns;
  var row = first_row;
  loop {
    let image = row / p.image_rows;
    take_factors(image * p.bias_step, column);
    let behind = min(end, (image + 1u) * p.image_rows);
    var i = ((batch * p.rows + row) * p.plane_columns + first_in_plane) / $width;
    if (is_plain()) {
      loop { finish_plain4(column, i, sums[row - first_row]); $next_row }
    } else {
      loop { finish4(column, i, sums[row - first_row]); $next_row }
    }
    continuing {
      break if row >= end;
    }
  }
}`;

/** $next_row, while there is one of the image at hand in the tile. */
const NEXT_ROW = `
        continuing {
          row++;
          i += p.plane_columns / $width;
          break if row >= behind;
        }`;

/** $sum_over_x over a row of x: a window of one pixel, wherever it lies. Its loop ends at its foot: one that ends at its head, drivers go through once more, with all lanes masked. */
const OVER_ROW = `
  let tap = 0u;
  $start_of_tap
  $starts_in_x
  var c = 0u;
  loop {
    $load_row
    $load_w
        $accumulate
    continuing {
      c++;
      break if c >= p.channels;
    }
  }`;

/** $sum_over_x over a window of the image; outside it x is zero. */
const OVER_WINDOW = `
  $corners
  var tap = 0u;
  var ky = 0u;
  loop {
    var kx = 0u;
    loop {
      $start_of_tap
      $places
      var c = 0u;
      loop {
        $load_window
        $load_w
        $accumulate
        continuing {
          c++;
          break if c >= p.channels;
        }
      }
      continuing {
        tap += p.channels;
        kx++;
        break if kx >= p.kw;
      }
    }
    continuing {
      ky++;
      break if ky >= p.kh;
    }
  }`;

/** $sum_over_ranks of adapters. */
const OVER_RANKS = `for (var c = 0u; c < p.rank; c++) {
    $load_t
    $load_up
    $accumulate_ranks
  }`;
