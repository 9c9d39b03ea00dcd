/**
 * The transforms of Winograd's convolution F(4x4, 3x3): windows and pixels to 36 points, G g G^T and B^T d B, and products of points to
 * results, A^T m A; and for the derivative by the window, of results to points, A y A^T, and of products to windows, G^T m G. The points of
 * interpolation are 0, +-sqrt(1/2), +-sqrt(2) and infinity. (Lavin & Gray 2016)
 *
 * The first product is taken a row at a time, and each row adds its share to the second one: no array is indexed by a loop, which CPU drivers
 * do lane by lane. On them loops are bounded by a uniform, because a driver unrolls other loops and their text is dear to compile.
 */
import { fill } from '../core/fill.ts';
import { type DType, each, loopBelow, remembered, shader } from '../core/shader.ts';
import { EPILOGUE_PARAMS, type Epilogue, epilogueBindings, epilogueName, epilogueWgsl } from './epilogue.ts';
import { PIXEL } from './matmul-variant.ts';
import { toldEpilogueWgsl } from './told-epilogue.ts';

/** Side of a tile of results, of the pixels under it, and of a window. */
export const TILE = 4;
export const PATCH = 6;
const WINDOW = 3;
export const POINTS = PATCH * PATCH;

const A = Math.SQRT1_2;
const B = Math.SQRT2;
const G = [
  [1, 0, 0],
  [-2 / 3, (-2 / 3) * A, -1 / 3],
  [-2 / 3, (2 / 3) * A, -1 / 3],
  [1 / 6, B / 6, 1 / 3],
  [1 / 6, -B / 6, 1 / 3],
  [0, 0, 1],
];
/** B^T and A^T. */
const BT = [
  [1, 0, -2.5, 0, 1, 0],
  [0, -B, -2, A, 1, 0],
  [0, B, -2, -A, 1, 0],
  [0, -A, -0.5, B, 1, 0],
  [0, A, -0.5, -B, 1, 0],
  [0, 1, 0, -2.5, 0, 1],
];
const AT = [
  [1, 1, 1, 1, 1, 0],
  [0, A, -A, B, -B, 0],
  [0, 0.5, 0.5, 2, 2, 0],
  [0, A / 2, -A / 2, 2 * B, -2 * B, 1],
];

/** WGSL of the sum of `name`0, `name`1 ... by their factors. */
function combine(factors: number[], name: string): string {
  return factors.flatMap((factor, i) => (factor === 0 ? [] : [factor === 1 ? `${name}${i}` : `${factor} * ${name}${i}`])).join(' + ');
}

/** WGSL of `factors(i)`, column i of a matrix. */
function columnsWgsl(matrix: number[][]): string {
  const type = `array<f32, ${matrix.length}>`;
  const columns = matrix[0].map((_, i) => `${type}(${matrix.map((row) => row[i]).join(', ')})`);
  return `const FACTORS = array<${type}, ${columns.length}>(${columns.join(', ')});`;
}

/** WGSL of a loop through `body` for each `index` below `count`, which is a constant, or where drivers shall not unroll it the uniform of that name. */
const loop = (index: string, count: number, uniform: 'passes' | 'side', unrolled: boolean, body: string) =>
  unrolled ? `for (var ${index} = 0u; ${index} < ${count}u; ${index}++) { ${body} }` : loopBelow(index, `p.${uniform}`, body);

/** Floating-point operations of the transforms, for one channel of a window, of a patch and of a tile. */
export const WINDOW_FLOPS = 2 * WINDOW * PATCH * (WINDOW + PATCH);
export const PATCH_FLOPS = 2 * PATCH * PATCH * (PATCH + PATCH);
export const RESULT_FLOPS = 2 * PATCH * TILE * (PATCH + TILE);

/**
 * Windows of so many rows of w, (rows, 3, 3, ...), from row `first_row` and load `offset` of its last axis on -> (36, rows, ...), `across` loads of each row.
 * Rows are columns of the result; or turned, channels, and the windows are turned by half a turn: `first_tap` is then 8, `tap_step` -1, else 0 and 1. A thread
 * transforms four windows; `passes` is 6.
 */
export const windowsShader = remembered((w: DType, unrolled: boolean) => {
  return shader({
    name: `winograd windows ${w}`,
    bindings: {
      w: { dtype: w, width: 4 },
      out: { dtype: 'f32', width: 4, write: true },
    },
    params: {
      count: 'u32',
      across: 'u32',
      width: 'u32', // of a row of w, in loads
      first_row: 'u32',
      offset: 'u32',
      first_tap: 'i32',
      tap_step: 'i32',
      passes: 'u32',
    },
    workgroup: 64,
    code: `
${columnsWgsl(transpose(G))}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let row = id / p.across;
  let at = (p.first_row + row) * 9u * p.width + p.offset + id - row * p.across;
  ${each(WINDOW * WINDOW, (tap) => `let g${tap} = w_load(at + u32(p.first_tap + ${tap} * p.tap_step) * p.width);`)}
  ${loop(
    'j',
    PATCH,
    'passes',
    unrolled,
    `${each(WINDOW, (y) => `let r${y} = FACTORS[j][0] * g${3 * y} + FACTORS[j][1] * g${3 * y + 1} + FACTORS[j][2] * g${3 * y + 2};`)}
    ${each(PATCH, (i) => `out_store((${PATCH * i}u + j) * p.count + id, ${combine(G[i], 'r')});`)}`,
  )}
}`,
  });
});

/**
 * Products (36, O, C) -> derivatives by windows (O, 3, 3, C). A thread makes those of four channels; `passes` is 6.
 */
export const windowGradientsShader = remembered(() =>
  shader({
    name: 'winograd gradient of windows',
    bindings: {
      m: { dtype: 'f32', width: 4 },
      out: { dtype: 'f32', width: 4, write: true },
    },
    params: { count: 'u32', channels: 'u32', passes: 'u32' },
    workgroup: 64,
    code: `
${columnsWgsl(transpose(G))}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  ${each(WINDOW * WINDOW, (i) => `var s${i} = vec4<f32>(0.0);`)}
  ${loopBelow(
    'j',
    'p.passes',
    `${each(PATCH, (i) => `let m${i} = m_load((${PATCH * i}u + j) * p.count + id);`)}
    ${transpose(G)
      .map((factors, y) => `let r${y} = ${combine(factors, 'm')};`)
      .join(' ')}
    ${each(WINDOW * WINDOW, (n) => `s${n} += FACTORS[j][${n % WINDOW}] * r${Math.floor(n / WINDOW)};`)}`,
  )}
  let row = id / p.channels;
  let at = row * 9u * p.channels + id - row * p.channels;
  ${each(WINDOW * WINDOW, (n) => `out_store(at + ${n}u * p.channels, s${n});`)}
}`,
  }),
);

const transpose = (matrix: number[][]) => matrix[0].map((_, i) => matrix.map((row) => row[i]));

/** Threads that share a tile's four channels: on GPUs, whose registers are dear, two make half of the points' columns each. */
export const sharers = (unrolled: boolean) => (unrolled ? 2 : 1);

/**
 * Pixels (N, H, W, C) under tiles from number `first` on, or results' derivatives in them, -> (36, tiles, C). A thread transforms four channels of a tile, or
 * shares in it; `passes` is 6, of results 4; `points` is 36.
 */
export const pixelsShader = remembered((x: DType, unrolled: boolean, of: 'pixels' | 'results' = 'pixels') => {
  const columns = PATCH / sharers(unrolled);
  const matrix = of === 'pixels' ? BT : transpose(AT);
  const [{ length: side }] = matrix;
  return shader({
    name: `winograd ${of === 'pixels' ? 'pixels' : 'gradient of results'} ${x}`,
    bindings: {
      x: { dtype: x, width: 4 },
      out: { dtype: 'f32', width: 4, write: true },
    },
    params: {
      count: 'u32',
      channels: 'u32',
      first: 'u32',
      down: 'u32',
      across: 'u32',
      h: 'u32',
      width: 'u32',
      top: 'u32',
      left: 'u32',
      zoom: 'u32',
      passes: 'u32',
      points: 'u32',
    },
    workgroup: 64,
    code: fill(PIXELS, {
      factors: columnsWgsl(matrix),
      pixel: PIXEL,
      index: unrolled ? 'group * 32u + local % 32u' : 'id',
      first_column: unrolled ? `local / 32u * ${columns}u` : '0u',
      side: TILE,
      no_sums: each(PATCH * columns, (i) => `var s${i} = vec4<f32>(0.0);`),
      sum_rows: loop('i', side, 'passes', unrolled, ROW_OF_PIXELS),
      load_row: each(
        side,
        (j) => `let x${j} = left + ${j};
    let inside${j} = in_rows && x${j} >= 0 && x${j} < i32(p.width);
    let d${j} = select(vec4<f32>(0.0), x_load(select(0u, pixel(image, u32(y), u32(x${j})) * p.channels + channel, inside${j})), inside${j});`,
      ),
      transform_row: each(
        columns,
        (j) =>
          `let r${j} = ${unrolled ? `select(${combine(matrix[j], 'd')}, ${combine(matrix[j + columns], 'd')}, first_column > 0u)` : combine(matrix[j], 'd')};`,
      ),
      add_to_sums: each(PATCH * columns, (n) => `s${n} += FACTORS[i][${Math.floor(n / columns)}] * r${n % columns};`),
      store: unrolled
        ? each(
            PATCH * columns,
            (n) => `out_store((${PATCH * Math.floor(n / columns) + (n % columns)}u + first_column) * p.count + index, s${n});`,
          )
        : STORE_IN_A_LOOP,
      points: `${POINTS}`,
      sums: Array.from({ length: PATCH * columns }, (_, i) => `s${i}`).join(', '),
    }),
  });
});

/** $store where a store's text is dear. */
const STORE_IN_A_LOOP = `let sums = array<vec4<f32>, $points>($sums);
  ${loopBelow('i', 'p.points', 'out_store(i * p.count + index, sums[i]);')}`;

/** Row i of the pixels under a tile. */
const ROW_OF_PIXELS = `let y = top + i32(i);
    let in_rows = y >= 0 && y < i32(p.h);
    $load_row
    $transform_row
    $add_to_sums`;

/** The transform of pixels, with places for what varies. */
const PIXELS = `
$factors
$pixel
fn run(id: u32, group: u32, local: u32) {
  let index = $index;
  if (index >= p.count) { return; }
  let first_column = $first_column;
  let in_part = index / p.channels;
  let channel = index - in_part * p.channels;
  let tile = p.first + in_part;
  let tile_row = tile / p.across;
  let image = tile_row / p.down;
  let top = i32((tile_row - image * p.down) * $side) - i32(p.top);
  let left = i32((tile - tile_row * p.across) * $side) - i32(p.left);
  $no_sums
  $sum_rows
  $store
}`;

/** Products (36, tiles, columns) -> results (N, OH, OW, O) and what a convolution ends in. A thread makes four columns of a tile; `passes` is 6, `side` 4. */
export const resultsShader = remembered((epilogue: Epilogue, unrolled: boolean) => {
  return shader({
    name: `winograd results ${epilogueName(epilogue)}`,
    bindings: { m: { dtype: 'f32', width: 4 }, ...epilogueBindings(epilogue) },
    params: {
      count: 'u32',
      quads: 'u32',
      first: 'u32',
      down: 'u32',
      across: 'u32',
      oh: 'u32',
      ow: 'u32',
      first_column: 'u32',
      rows: 'u32',
      columns: 'u32',
      passes: 'u32',
      side: 'u32',
      ...EPILOGUE_PARAMS,
    },
    workgroup: 64,
    code: fill(RESULTS, {
      finish_function: epilogue.told ? toldEpilogueWgsl(epilogue) : epilogueWgsl(epilogue),
      factors: columnsWgsl(AT),
      side: TILE,
      patch: PATCH,
      no_sums: each(TILE * TILE, (i) => `var s${i} = vec4<f32>(0.0);`),
      sum_rows: loop('i', PATCH, 'passes', unrolled, ROW_OF_PRODUCTS),
      load_row: each(PATCH, (j) => `let m${j} = m_load(at + ${j}u * p.count);`),
      transform_row: each(TILE, (j) => `let r${j} = ${combine(AT[j], 'm')};`),
      add_to_sums: each(TILE * TILE, (n) => `s${n} += FACTORS[i][${Math.floor(n / TILE)}] * r${n % TILE};`),
      results: `${TILE * TILE}`,
      sums: Array.from({ length: TILE * TILE }, (_, i) => `s${i}`).join(', '),
      finish_tile: epilogue.told ? TOLD_FINISH : loop('i', TILE, 'side', unrolled, loop('j', TILE, 'side', unrolled, FINISH_RESULT)),
      finish_plain: toldFinish('finish_plain4'),
      finish: toldFinish('finish4'),
    }),
  });
});

/** Row i of a tile's products, and a result. */
const ROW_OF_PRODUCTS = `let at = i * $patch * p.count + id;
    $load_row
    $transform_row
    $add_to_sums`;
const FINISH_RESULT =
  'if (top + i < p.oh && left + j < p.ow) { finish4(0u, (image * p.oh + top + i) * p.ow + left + j, column, sums[$side * i + j]); }';

/** $finish_tile where uniforms tell the steps. Results beyond the image's edge are left out by the loops' bounds: a branch costs a CPU driver some multiply-adds. */
const TOLD_FINISH = `take_factors(image * p.bias_step, column);
  let step = p.columns / 4u;
  let row_step = p.ow * step;
  var at = (((image * p.oh + top) * p.ow + left) * p.columns + column) / 4u;
  let rows = min(p.side, p.oh - top);
  let in_row = min(p.side, p.ow - left);
  if (is_plain()) { $finish_plain } else { $finish }`;
const toldFinish = (finish: string) =>
  loopBelow('i', 'rows', `${loopBelow('j', 'in_row', `${finish}(column, at + j * step, sums[$side * i + j]);`)} at += row_step;`);

/** The transform of products, with places for what varies. */
const RESULTS = `
$finish_function
$factors
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let in_part = id / p.quads;
  let column = p.first_column + 4u * (id - in_part * p.quads);
  let tile = p.first + in_part;
  let tile_row = tile / p.across;
  let image = tile_row / p.down;
  let top = (tile_row - image * p.down) * $side;
  let left = (tile - tile_row * p.across) * $side;
  $no_sums
  $sum_rows
  let sums = array<vec4<f32>, $results>($sums);
  $finish_tile
}`;
