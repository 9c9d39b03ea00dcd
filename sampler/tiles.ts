/**
 * Latent tiles: overlapping windows over a large latent and the weights that blend them (Jimenez 2023, "Mixture of Diffusers").
 * A sampler step is affine in the network's prediction, so blending the tiles' predictions inside the network equals blending their results.
 */
import { UserError } from '../core/errors.ts';

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
