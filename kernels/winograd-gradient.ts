/**
 * The derivative by the window of a 3x3 convolution of stride 1, by Winograd's F(4x4, 3x3): with y = A^T [(G g G^T) * (B^T d B)] A it is
 * G^T [(A y' A^T) * (B^T d B)] G, summed over tiles. So the sum over tiles is 36 products of matrices, with 36 multiplications a tile of 4x4 results
 * instead of 144. (Lavin & Gray 2016; see winograd.ts) For adapters that compute a subgroup at a time. Transformed tiles are f32 scratch, made in parts that
 * caches keep.
 */
import type { Lowering, Operand } from '../core/op.ts';
import { lowerOnSubgroups, type WeightGradient } from './weight-gradient-subgroup.ts';
import { PATCH, PATCH_FLOPS, POINTS, pixelsShader, TILE, WINDOW_FLOPS, windowGradientsShader } from './winograd-transforms.ts';

type Gradient = Omit<WeightGradient, 'slices'>;

/** Most bytes of what is transformed at a time, and of all products. */
const [CACHED, MOST] = [2 ** 22, 2 ** 26];
/** Multiply-adds that take as long as four values that a transform loads or stores. */
const PER_MOVE = 30;

const tilesAlong = (size: number) => Math.ceil(size / TILE);

/** Whether it applies to adapters with `lanes` lanes, is the cheaper way, and takes no more than the scratch that forward passes may. */
export function suitsWinogradGradient({ g, x, window: { kh, kw, stride } }: Omit<Gradient, 'output'>, lanes: number): boolean {
  const [n, oh, ow, outs] = g.shape;
  const ins = x.shape[3];
  if (kh !== 3 || kw !== 3 || stride !== 1 || ins % 4 || outs % 4 || 4 * POINTS * ins * outs > MOST) return false;
  const tiles = n * tilesAlong(oh) * tilesAlong(ow);
  // Loads and stores of pixels, of results and of windows, in fours.
  const moves = (tiles * ins * 72 + tiles * outs * 52 + ins * outs * 45) / 4;
  const computed = (columns: number) => 4 * lanes * Math.ceil(columns / (4 * lanes)) * outs;
  return POINTS * tiles * computed(ins) + PER_MOVE * moves < n * oh * ow * computed(9 * ins);
}

/** Emits it, with at most `part` bytes of tiles transformed at a time. */
export function lowerWinogradGradient(to: Lowering, { g, x, window, output }: Gradient, part = CACHED): void {
  const [n, oh, ow, outs] = g.shape;
  const [, h, w, ins] = x.shape;
  const [down, across] = [oh, ow].map(tilesAlong);
  const tiles = n * down * across;
  const most = Math.min(tiles, Math.max(32, Math.floor(part / (4 * POINTS * (ins + outs)))));
  const scratch = (of: string, channels: number) => to.scratch(`transformed ${of}`, [POINTS, most, channels]);
  const [pixels, results] = [scratch('pixels', ins), scratch('results', outs)];
  const products = to.scratch('transformed windows', [POINTS, outs, 1, 1, ins]);

  const transform = (of: 'pixels' | 'results', operand: Operand, out: Operand, first: number, count: number) => {
    const channels = operand.shape[3];
    const seen =
      of === 'pixels'
        ? { h, width: w, top: window.top, left: window.left, passes: PATCH }
        : { h: oh, width: ow, top: 0, left: 0, passes: TILE };
    to.dispatch({
      shader: pixelsShader(operand.dtype, false, of),
      operands: { x: { ...operand, shape: [count, TILE, TILE, channels] }, out },
      params: { count: (count * channels) / 4, channels: channels / 4, first, down, across, ...seen, zoom: 0, points: POINTS },
      threads: (count * channels) / 4,
      flops: count * channels * PATCH_FLOPS,
    });
    return out;
  };
  for (let first = 0; first < tiles; first += most) {
    const count = Math.min(most, tiles - first);
    const of = (operand: Operand) => ({ ...operand, shape: [POINTS, 1, count, operand.shape[2]] });
    const [d, y] = [transform('pixels', x, of(pixels), first, count), transform('results', g, of(results), first, count)];
    const plain = { kh: 1, kw: 1, stride: 1, top: 0, left: 0 };
    lowerOnSubgroups(to, { g: y, x: d, window: plain, output: products, slices: POINTS }, first > 0);
  }
  const threads = (outs * ins) / 4;
  to.dispatch({
    shader: windowGradientsShader(),
    operands: { m: products, out: output },
    params: { count: threads, channels: ins / 4, passes: PATCH },
    threads,
    flops: outs * ins * WINDOW_FLOPS,
  });
}
