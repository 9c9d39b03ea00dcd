/**
 * Winograd's convolution F(4x4, 3x3) for 3x3 windows of stride 1: 4x4 results from 36 multiplications a channel instead of 144.
 * (Winograd 1980; Lavin & Gray 2016)
 *
 * With g the window and d the 6x6 pixels under a tile of results, y = A^T [(G g G^T) * (B^T d B)] A: both are transformed, multiplied
 * element by element, which summed over channels is 36 independent matmuls, and transformed back. The interpolation points are 0, +-sqrt(1/2),
 * +-sqrt(2) and infinity: about half the rounding error of the usual 0, +-1, +-2, so that f32 results keep to the tolerances of a direct
 * convolution. Transformed windows and tiles are f32 scratch. The smaller of both is transformed once, the larger in parts, so that scratch stays
 * small whatever the image and the weight.
 */
import type { Lowering, Operand } from '../core/op.ts';
import { type DType, each, type ShaderSpec } from '../core/shader.ts';
import { activationCode } from './activation.ts';
import { columnMode, finishWgsl, type ImplicitMatmul, lowerImplicitMatmul, residualMode } from './implicit-matmul.ts';

/** Side of a tile of results, and of the pixels under it. */
const TILE = 4;
const PATCH = 6;
const POINTS = PATCH * PATCH;
/** Most bytes of transformed windows, of transformed pixels and of products at a time. */
const PART = 2 ** 26;
/** The same of the larger operand, with its products, on CPU drivers: what the cache keeps from one dispatch to the next. */
const CACHED = 2 ** 19;
/** Floating-point operations of the three transforms, for one channel of a window, a patch and a tile. */
const WINDOW_FLOPS = 12 * (3 + PATCH);
const PATCH_FLOPS = 20 * (PATCH + PATCH);
const RESULT_FLOPS = 16 * (PATCH + TILE);

/** Whether Winograd's convolution applies and is the cheaper way: the transforms must be worth it. */
export function suitsWinograd({ x, window, image, channels, columns, rows }: ImplicitMatmul): boolean {
  const { kh, kw, stride } = window;
  if (kh !== 3 || kw !== 3 || stride !== 1 || channels % 4 || columns % 4) return false;
  const tiles = x.shape[0] * tilesAlong(image.oh) * tilesAlong(image.ow);
  // Multiply-adds and, at some 75 of them for every four values loaded and stored, the transforms of windows, pixels and results.
  const transforms = 20 * channels * columns + 28 * tiles * channels + 20 * tiles * columns;
  return 36 * tiles * channels * columns + 75 * transforms < 9 * rows * channels * columns;
}

const tilesAlong = (size: number) => Math.ceil(size / TILE);

/** Emits a 3x3 convolution of stride 1, in parts of at most `part` bytes of each kind of scratch. */
export function lowerWinograd(to: Lowering, convolution: ImplicitMatmul, part = PART): void {
  const m = convolution.lowRank ? adaptersAsResidual(to, convolution, convolution.lowRank) : convolution;
  const { x, w, output, channels, columns, image, window } = m;
  const down = tilesAlong(image.oh);
  const across = tilesAlong(image.ow);
  const tiles = x.shape[0] * down * across;
  const cached = to.facts.schedule === 'subgroup' ? Math.min(part, CACHED) : part;
  const windowsOnce = columns <= tiles;
  const columnPart = partOf(columns, windowsOnce ? part : cached, channels);
  const tilePart = partOf(tiles, windowsOnce ? cached : part, Math.max(channels, columnPart));
  const windows = to.scratch('transformed windows', [POINTS, columnPart, channels]);
  const patches = to.scratch('transformed pixels', [POINTS, tilePart, channels]);
  const products = to.scratch('transformed results', [POINTS, tilePart, columnPart]);
  const shape = (operand: Operand, count: number, width: number): Operand => ({ ...operand, shape: [POINTS, count, width] });
  // What a dispatch touches of an operand that it binds whole.
  const touched = (operand: Operand, ...sizes: number[]): Operand => ({ ...operand, shape: sizes });
  // As a constant the number of passes would make CPU drivers unroll loops whose text is dear to compile; GPUs want them unrolled.
  const unrolled = to.facts.schedule !== 'subgroup';

  const transformWindows = ({ first, count }: Range) =>
    to.dispatch({
      shader: windowsShader(w.dtype, unrolled),
      operands: [touched(w, count, 9, channels), shape(windows, count, channels)],
      params: [(count * channels) / 4, channels / 4, first, 3],
      threads: (count * channels) / 4,
      flops: count * channels * WINDOW_FLOPS,
    });
  const transformPixels = ({ first, count }: Range) =>
    to.dispatch({
      shader: patchesShader(x.dtype, unrolled),
      operands: [touched(x, count, TILE, TILE, channels), shape(patches, count, channels)],
      params: [(count * channels) / 4, channels / 4, first, down, across, image.h, image.w, window.top, window.left, PATCH],
      threads: Math.ceil((count * channels) / 128) * 32 * sharers(unrolled),
      flops: count * channels * PATCH_FLOPS,
    });
  const multiply = (columnRange: Range, tileRange: Range) => {
    const y = shape(products, tileRange.count, columnRange.count);
    lowerImplicitMatmul(to, {
      x: shape(patches, tileRange.count, channels),
      w: shape(windows, columnRange.count, channels),
      bias: null,
      residual: null,
      output: y,
      rows: tileRange.count,
      columns: columnRange.count,
      channels,
      image: { h: 1, w: tileRange.count, oh: 1, ow: tileRange.count },
      window: { kh: 1, kw: 1, stride: 1, top: 0, left: 0 },
      batch: POINTS,
      activation: 'none',
    });
    const threads = (tileRange.count * columnRange.count) / 4;
    const results = [tileRange.count, TILE, TILE, columnRange.count];
    to.dispatch({
      shader: resultsShader((m.residual?.dtype ?? 'f32') as 'f32' | 'f16', m.activation !== 'none', unrolled),
      operands: [y, m.bias, m.residual && touched(m.residual, ...results), touched(output, ...results)],
      params: [
        threads,
        columnRange.count / 4,
        tileRange.first,
        down,
        across,
        image.oh,
        image.ow,
        columnRange.first,
        m.rows,
        columns,
        activationCode(m.activation),
        columnMode(m),
        residualMode(m),
        PATCH,
        TILE,
      ],
      threads,
      flops: 4 * threads * RESULT_FLOPS,
    });
  };

  const columnRanges = ranges(columns, columnPart);
  const tileRanges = ranges(tiles, tilePart);
  if (windowsOnce) {
    for (const some of columnRanges) {
      transformWindows(some);
      for (const under of tileRanges) {
        transformPixels(under);
        multiply(some, under);
      }
    }
  } else {
    for (const under of tileRanges) {
      transformPixels(under);
      for (const some of columnRanges) {
        transformWindows(some);
        multiply(some, under);
      }
    }
  }
}

/** Adapters, and the residual where there is one (without an activation then), in a sum that is added to the results. */
function adaptersAsResidual(to: Lowering, m: ImplicitMatmul, { t, up }: NonNullable<ImplicitMatmul['lowRank']>): ImplicitMatmul {
  const residual = to.scratch('adapters', m.output.shape);
  lowerImplicitMatmul(to, {
    x: t,
    w: up,
    bias: null,
    residual: m.residual,
    output: residual,
    rows: m.rows,
    columns: m.columns,
    channels: up.shape[1],
    image: { h: 1, w: m.rows, oh: 1, ow: m.rows },
    window: { kh: 1, kw: 1, stride: 1, top: 0, left: 0 },
    batch: 1,
    activation: 'none',
  });
  return { ...m, lowRank: null, residual, residualFirst: true };
}

interface Range {
  first: number;
  count: number;
}

/** 0 to `count` in ranges of at most `part`. */
function ranges(count: number, part: number): Range[] {
  return Array.from({ length: Math.ceil(count / part) }, (_, i) => ({ first: i * part, count: Math.min(part, count - i * part) }));
}

/** How many of `count` windows or tiles of `width` channels fit into `bytes` of scratch: a multiple of 32, and at least 32. */
function partOf(count: number, bytes: number, width: number): number {
  return Math.min(count, Math.max(32, 32 * Math.floor(bytes / (4 * POINTS * width) / 32)));
}

const A = Math.SQRT1_2;
const B = Math.SQRT2;

/** A loop bound: a constant, or the uniform parameter of that name. */
const bound = (name: 'three' | 'four' | 'six', unrolled: boolean) => (unrolled ? `${{ three: 3, four: 4, six: 6 }[name]}u` : `p.${name}`);

/** Windows (O, 3, 3, C) from column `first` on -> (36, columns, C): G g G^T. A thread transforms four channels of one window. */
function windowsShader(w: DType, unrolled: boolean): ShaderSpec {
  const three = bound('three', unrolled);
  return {
    name: `winograd windows ${w}`,
    bindings: [
      { name: 'w', dtype: w, width: 4 },
      { name: 'out', dtype: 'f32', width: 4, write: true },
    ],
    params: ['count: u32', 'channels: u32', 'first: u32', 'three: u32'],
    workgroup: 64,
    code: `
fn to_points(g0: vec4<f32>, g1: vec4<f32>, g2: vec4<f32>) -> array<vec4<f32>, 6> {
  let even = (g0 + 0.5 * g2) / -1.5;
  let odd = g1 * ${A / -1.5};
  let far_even = (g0 + 2.0 * g2) / 6.0;
  let far_odd = g1 * ${B / 6};
  return array<vec4<f32>, 6>(g0, even + odd, even - odd, far_even + far_odd, far_even - far_odd, g2);
}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let column = id / p.channels;
  let channel = id % p.channels;
  var rows: array<vec4<f32>, 18>;
  for (var ky = 0u; ky < ${three}; ky++) {
    let at = ((p.first + column) * 9u + ky * 3u) * p.channels + channel;
    let along = to_points(w_load(at), w_load(at + p.channels), w_load(at + 2u * p.channels));
    ${each(PATCH, (j) => `rows[ky * 6u + ${j}u] = along[${j}];`)}
  }
  for (var j = 0u; j < 2u * ${three}; j++) {
    let down = to_points(rows[j], rows[6u + j], rows[12u + j]);
    ${each(PATCH, (i) => `out_store((${6 * i}u + j) * p.count + id, down[${i}]);`)}
  }
}`,
  };
}

/** Threads that share a tile's four channels. */
const sharers = (unrolled: boolean) => (unrolled ? 2 : 1);

/** WGSL of B^T d. */
const PATCH_TRANSFORM = `
fn to_points(d: array<vec4<f32>, 6>) -> array<vec4<f32>, 6> {
  let even = d[4] - 2.0 * d[2];
  let odd = ${A} * (d[3] - 2.0 * d[1]);
  let far_even = d[4] - 0.5 * d[2];
  let far_odd = ${B} * (d[3] - 0.5 * d[1]);
  return array<vec4<f32>, 6>(d[0] - 2.5 * d[2] + d[4], even + odd, even - odd, far_even + far_odd, far_even - far_odd, d[1] - 2.5 * d[3] + d[5]);
}`;

/**
 * Pixels (N, H, W, C) under tiles from number `first` on -> (36, tiles, C): B^T d B. A thread transforms four channels of one tile; on GPUs,
 * whose registers are dear, two threads half of the columns each, which read the same pixels at once.
 */
function patchesShader(x: DType, unrolled: boolean): ShaderSpec {
  const six = bound('six', unrolled);
  const columns = PATCH / sharers(unrolled);
  return {
    name: `winograd pixels ${x}`,
    bindings: [
      { name: 'x', dtype: x, width: 4 },
      { name: 'out', dtype: 'f32', width: 4, write: true },
    ],
    params: [
      'count: u32',
      'channels: u32',
      'first: u32',
      'down: u32',
      'across: u32',
      'h: u32',
      'width: u32',
      'top: u32',
      'left: u32',
      'six: u32',
    ],
    workgroup: 64,
    code: `
${PATCH_TRANSFORM}
fn run(id: u32, group: u32, local: u32) {
  let index = ${unrolled ? 'group * 32u + local % 32u' : 'id'};
  if (index >= p.count) { return; }
  let tile = p.first + index / p.channels;
  let channel = index % p.channels;
  let first_column = ${unrolled ? `local / 32u * ${columns}u` : '0u'};
  let image = tile / (p.down * p.across);
  let top = i32(((tile / p.across) % p.down) * ${TILE}u) - i32(p.top);
  let left = i32((tile % p.across) * ${TILE}u) - i32(p.left);
  var rows: array<vec4<f32>, ${PATCH * columns}>;
  for (var i = 0u; i < ${six}; i++) {
    let y = top + i32(i);
    let in_rows = y >= 0 && y < i32(p.h);
    ${each(
      PATCH,
      (j) => `let x${j} = left + ${j};
    let inside${j} = in_rows && x${j} >= 0 && x${j} < i32(p.width);
    let d${j} = select(vec4<f32>(0.0), x_load(select(0u, ((image * p.h + u32(y)) * p.width + u32(x${j})) * p.channels + channel, inside${j})), inside${j});`,
    )}
    let along = to_points(array<vec4<f32>, 6>(d0, d1, d2, d3, d4, d5));
    ${each(columns, (j) => `rows[i * ${columns}u + ${j}u] = ${unrolled ? `select(along[${j}], along[${j + columns}], first_column > 0u)` : `along[${j}]`};`)}
  }
  for (var j = 0u; j < ${unrolled ? `${columns}u` : six}; j++) {
    let down = to_points(array<vec4<f32>, 6>(${Array.from({ length: PATCH }, (_, i) => `rows[${i * columns}u + j]`).join(', ')}));
    ${each(PATCH, (i) => `out_store((${6 * i}u + first_column + j) * p.count + index, down[${i}]);`)}
  }
}`,
  };
}

/** Products (36, tiles, columns) -> results (N, OH, OW, O): A^T m A, and what a convolution ends in. A thread makes four columns of a tile. */
function resultsShader(residual: 'f32' | 'f16', activated: boolean, unrolled: boolean): ShaderSpec {
  const six = bound('six', unrolled);
  const four = bound('four', unrolled);
  return {
    name: `winograd results ${residual}${activated ? ' activated' : ''}`,
    bindings: [
      { name: 'm', dtype: 'f32', width: 4 },
      { name: 'bias', dtype: 'f32', width: 4 },
      { name: 'residual', dtype: residual, width: 4 },
      { name: 'y', dtype: 'f32', width: 4, write: true },
    ],
    params: [
      'count: u32',
      'quads: u32',
      'first: u32',
      'down: u32',
      'across: u32',
      'oh: u32',
      'ow: u32',
      'first_column: u32',
      'rows: u32',
      'columns: u32',
      'activation: u32',
      'column_mode: u32',
      'residual_mode: u32',
      'six: u32',
      'four: u32',
    ],
    workgroup: 64,
    code: `
${finishWgsl(4, activated)}
fn from_points(m: array<vec4<f32>, 6>) -> array<vec4<f32>, 4> {
  let even = m[1] + m[2];
  let odd = ${A} * (m[1] - m[2]);
  let far_even = m[3] + m[4];
  let far_odd = ${B} * (m[3] - m[4]);
  return array<vec4<f32>, 4>(m[0] + even + far_even, odd + far_odd, 0.5 * even + 2.0 * far_even, 0.5 * odd + 2.0 * far_odd + m[5]);
}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let tile = p.first + id / p.quads;
  let column = p.first_column + 4u * (id % p.quads);
  let image = tile / (p.down * p.across);
  let top = ((tile / p.across) % p.down) * ${TILE}u;
  let left = (tile % p.across) * ${TILE}u;
  var rows: array<vec4<f32>, 24>;
  for (var i = 0u; i < ${six}; i++) {
    let m = i * 6u * p.count + id;
    let along = from_points(array<vec4<f32>, 6>(${Array.from({ length: PATCH }, (_, j) => `m_load(m + ${j}u * p.count)`).join(', ')}));
    ${each(TILE, (j) => `rows[i * 4u + ${j}u] = along[${j}];`)}
  }
  for (var j = 0u; j < ${four}; j++) {
    let down = from_points(array<vec4<f32>, 6>(rows[j], rows[4u + j], rows[8u + j], rows[12u + j], rows[16u + j], rows[20u + j]));
    for (var i = 0u; i < ${four}; i++) {
      if (top + i < p.oh && left + j < p.ow) { finish(0u, (image * p.oh + top + i) * p.ow + left + j, column, down[i]); }
    }
  }
}`,
  };
}
