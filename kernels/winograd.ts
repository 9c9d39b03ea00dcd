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
import type { AdapterFacts } from '../core/adapter.ts';
import type { Lowering, Operand } from '../core/op.ts';
import { epilogueOf, epilogueOperands, epilogueParams } from './epilogue.ts';
import { adaptersAsResidual, type ImplicitMatmul, lowerImplicitMatmul, plainRows } from './implicit-matmul.ts';
import { TILES } from './tile-choice.ts';
import {
  PATCH,
  PATCH_FLOPS,
  POINTS,
  pixelsShader,
  RESULT_FLOPS,
  resultsShader,
  sharers,
  TILE,
  WINDOW_FLOPS,
  windowsShader,
} from './winograd-transforms.ts';

/** Most bytes of transformed windows, of transformed pixels and of products at a time. */
const PART = 2 ** 26;
/** The same of the larger operand and its products together on CPU drivers: what the cores' caches keep from one dispatch to the next. */
const CACHED = 5 * 2 ** 20;

/** What a multiply-add of a direct convolution and of Winograd's products costs on matrix units, in those of the tiled schedule: two or three products of halves. */
const ON_MATRICES = { f16: 0.5, split: 0.8 };

/**
 * Whether Winograd's convolution applies and is the cheaper way: the transforms must be worth it, and on GPUs what is computed of tiles beyond the last row.
 */
export function suitsWinograd({ x, w, window, image, channels, columns, rows }: ImplicitMatmul, { schedule }: AdapterFacts): boolean {
  const { kh, kw, stride } = window;
  if (kh !== 3 || kw !== 3 || stride !== 1 || channels % 4 || columns % 4) return false;
  const tiles = x.shape[0] * tilesAlong(image.oh) * tilesAlong(image.ow);
  // Multiply-adds and, at some 75 of them for every four values loaded and stored, the transforms of windows, pixels and results.
  const transforms = 20 * channels * columns + 28 * tiles * channels + 20 * tiles * columns;
  const matrices = schedule === 'matrix';
  const [direct, product] = matrices ? [w.dtype === 'f16' ? ON_MATRICES.f16 : ON_MATRICES.split, ON_MATRICES.split] : [1, 1];
  const computed = (count: number) => (schedule === 'subgroup' ? count : TILES.small.rows * Math.ceil(count / TILES.small.rows));
  return 36 * product * computed(tiles) * channels * columns + 75 * transforms < 9 * direct * computed(rows) * channels * columns;
}

const tilesAlong = (size: number) => Math.ceil(size / TILE);

/** Emits a 3x3 convolution of stride 1, in parts of at most `part` bytes of each kind of scratch. */
export function lowerWinograd(to: Lowering, convolution: ImplicitMatmul, part = PART): void {
  const m = adaptersAsResidual(to, convolution);
  const { x, w, output, channels, columns, image, window, turned = false } = m;
  const down = tilesAlong(image.oh);
  const across = tilesAlong(image.ow);
  const tiles = x.shape[0] * down * across;
  const cached = to.facts.schedule === 'subgroup' && CACHED < part;
  const windowsOnce = columns <= tiles;
  const inCache = (count: number, ofProducts: number) => partOf(count, CACHED, channels + ofProducts);
  const columnPart = cached && !windowsOnce ? inCache(columns, tiles) : partOf(columns, part, channels);
  const tilePart = cached && windowsOnce ? inCache(tiles, columnPart) : partOf(tiles, part, Math.max(channels, columnPart));
  const windowsShape = (count: number) => [POINTS, ...(turned ? [channels, count] : [count, channels])];
  const windows = to.scratch('transformed windows', windowsShape(columnPart));
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
      operands: { w: touched(w, count, 9, channels), out: touched(windows, ...windowsShape(count)) },
      params: {
        count: (count * channels) / 4,
        ...(turned
          ? { across: count / 4, width: columns / 4, first_row: 0, offset: first / 4, first_tap: 8, tap_step: -1 }
          : { across: channels / 4, width: channels / 4, first_row: first, offset: 0, first_tap: 0, tap_step: 1 }),
        passes: PATCH,
      },
      threads: (count * channels) / 4,
      flops: count * channels * WINDOW_FLOPS,
    });
  const transformPixels = ({ first, count }: Range) =>
    to.dispatch({
      shader: pixelsShader(x.dtype, unrolled),
      operands: { x: touched(x, count, TILE, TILE, channels), out: shape(patches, count, channels) },
      params: {
        count: (count * channels) / 4,
        channels: channels / 4,
        first,
        down,
        across,
        h: image.h,
        width: image.w,
        top: window.top,
        left: window.left,
        zoom: image.zoom ?? 0,
        passes: PATCH,
        points: POINTS,
      },
      threads: Math.ceil((count * channels) / 128) * 32 * sharers(unrolled),
      flops: count * channels * PATCH_FLOPS,
    });
  const multiply = (columnRange: Range, tileRange: Range) => {
    const y = shape(products, tileRange.count, columnRange.count);
    lowerImplicitMatmul(to, {
      x: shape(patches, tileRange.count, channels),
      w: touched(windows, ...windowsShape(columnRange.count)),
      turned,
      bias: null,
      residual: null,
      output: y,
      rows: tileRange.count,
      columns: columnRange.count,
      channels,
      ...plainRows(tileRange.count),
      batch: POINTS,
      activation: 'none',
    });
    const threads = (tileRange.count * columnRange.count) / 4;
    const results = [tileRange.count, TILE, TILE, columnRange.count];
    to.dispatch({
      shader: resultsShader(epilogueOf(m, 4, !unrolled), unrolled),
      operands: {
        m: y,
        ...epilogueOperands(
          { ...m, residual: m.residual && touched(m.residual, ...results), output: touched(output, ...results) },
          unrolled ? null : y,
        ),
      },
      params: {
        count: threads,
        quads: columnRange.count / 4,
        first: tileRange.first,
        down,
        across,
        oh: image.oh,
        ow: image.ow,
        first_column: columnRange.first,
        rows: m.rows,
        columns,
        passes: PATCH,
        side: TILE,
        ...epilogueParams(m, m.rows),
      },
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

interface Range {
  first: number;
  count: number;
}

/** 0 to `count` in ranges of at most `part`. */
function ranges(count: number, part: number): Range[] {
  return Array.from({ length: Math.ceil(count / part) }, (_, i) => ({ first: i * part, count: Math.min(part, count - i * part) }));
}

/** How many of `count` windows or tiles of `width` channels make a part of at most `bytes` of scratch: a multiple of 32, at least 32, and of the parts no small last one. */
function partOf(count: number, bytes: number, width: number): number {
  const most = Math.max(1, Math.floor(bytes / (4 * POINTS * width) / 32));
  const blocks = Math.ceil(count / 32);
  return Math.min(count, 32 * Math.ceil(blocks / Math.ceil(blocks / most)));
}
