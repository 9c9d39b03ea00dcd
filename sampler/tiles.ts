/**
 * Latent tiles: overlapping windows over a large latent and the weights that blend them (Jimenez 2023, "Mixture of Diffusers").
 * A sampler step is affine in the network's prediction, so blending the tiles' predictions inside the network equals blending their results.
 */
import { UserError } from '../core/errors.ts';
import type { Network, NetworkInput } from './denoiser.ts';

/** Rows y0..y1 and columns x0..x1 of a latent, the ends excluded. */
export interface TileWindow {
  y0: number;
  y1: number;
  x0: number;
  x1: number;
}

/**
 * Windows of `size` x `size`, `stride` apart, that cover a latent of height x width, row by row; the last of a row or column lies flush with the
 * border. Where the latent is smaller than a tile the window is as large as the latent. All in latent pixels.
 * @throws UserError unless sizes are whole, 1 or more, and stride <= size.
 */
export function tileWindows(height: number, width: number, size: number, stride: number): TileWindow[] {
  if (![height, width, size, stride].every((n) => Number.isInteger(n) && n > 0) || stride > size) {
    throw new UserError(
      `Tiles of ${size} with stride ${stride} over a latent of ${height} x ${width}: all must be whole, 1 or more, and the stride at most the size.`,
    );
  }
  const rows = starts(height, size, stride);
  const columns = starts(width, size, stride);
  return rows.flatMap((y0) => columns.map((x0) => ({ y0, y1: Math.min(y0 + size, height), x0, x1: Math.min(x0 + size, width) })));
}

/** Where windows begin along one side. */
function starts(length: number, size: number, stride: number): number[] {
  const last = Math.max(length - size, 0);
  const positions: number[] = [];
  for (let at = 0; at <= last; at += stride) positions.push(at);
  if (positions.at(-1) !== last) positions.push(last);
  return positions;
}

const VARIANCE = 0.01; // of the bell, in squares of the tile's side

/**
 * Gaussian weights of a tile, f64 (height, width), row-major. The bell's middle is (width - 1) / 2 across and height / 2 down: half a pixel low,
 * as published.
 */
export function tileWeights(height: number, width: number): Float64Array {
  const bell = (length: number, middle: number) =>
    Float64Array.from(
      { length },
      (_, i) => Math.exp(-((i - middle) ** 2) / length ** 2 / (2 * VARIANCE)) / Math.sqrt(2 * Math.PI * VARIANCE),
    );
  const down = bell(height, height / 2);
  const across = bell(width, (width - 1) / 2);
  return Float64Array.from({ length: height * width }, (_, i) => down[Math.floor(i / width)] * across[i % width]);
}

/** The window of a dense array (N, height, width, C). -> (N, y1 - y0, x1 - x0, C) */
export function cropWindow(data: Float32Array, [n, height, width, c]: readonly number[], { y0, y1, x0, x1 }: TileWindow): Float32Array {
  const run = (x1 - x0) * c;
  const cropped = new Float32Array(n * (y1 - y0) * run);
  for (let image = 0, to = 0; image < n; image++) {
    for (let y = y0; y < y1; y++, to += run) {
      const from = ((image * height + y) * width + x0) * c;
      cropped.set(data.subarray(from, from + run), to);
    }
  }
  return cropped;
}

/** Predicts the noise in window number `index` of the latent; input and results have the window's size. */
export type TileNetwork = (input: NetworkInput, index: number) => ReturnType<Network>;

/**
 * A network for a latent (N, h, w, C) from one for its windows, which all have one size: the mean of the windows' predictions by `tileWeights`,
 * summed in f64. With it any sampler samples in tiles. The windows are evaluated one after the other.
 */
export function tiledNetwork(tile: TileNetwork, windows: TileWindow[], shape: readonly number[]): Network {
  const [n, height, width, c] = shape;
  const [{ y0, y1, x0, x1 }] = windows;
  const weights = tileWeights(y1 - y0, x1 - x0);
  const share = new Float64Array(height * width); // the sum of the weights on each pixel
  const everyPixel = (window: TileWindow, visit: (inWindow: number, inLatent: number) => void) => {
    for (let y = window.y0, at = 0; y < window.y1; y++) for (let x = window.x0; x < window.x1; x++) visit(at++, y * width + x);
  };
  for (const window of windows) {
    everyPixel(window, (from, to) => {
      share[to] += weights[from];
    });
  }
  return async (input) => {
    const sums = { negative: new Float64Array(input.x.length), positive: new Float64Array(input.x.length) };
    for (const [index, window] of windows.entries()) {
      const predicted = await tile({ ...input, x: cropWindow(input.x, shape, window) }, index);
      for (const branch of ['negative', 'positive'] as const) {
        for (let image = 0; image < n; image++) {
          everyPixel(window, (from, to) => {
            const weight = weights[from] / share[to];
            const [source, target] = [(image * weights.length + from) * c, (image * height * width + to) * c];
            for (let k = 0; k < c; k++) sums[branch][target + k] += weight * predicted[branch][source + k];
          });
        }
      }
    }
    return { negative: Float32Array.from(sums.negative), positive: Float32Array.from(sums.positive) };
  };
}
