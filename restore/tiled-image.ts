/**
 * A network of pictures in overlapping tiles, blended by Gaussian weights: for networks that see only their neighbourhood, such as cleaners.
 * (Jimenez 2023, "Mixture of Diffusers", for the weights)
 */
import type { FloatImage } from '../image/image.ts';
import { cropWindow, tileWeights, tileWindows } from '../sampler/tiles.ts';

/** Runs a network on one tile; the result has `factor` times its sides. */
export type TileRun = (tile: FloatImage) => Promise<FloatImage>;

/**
 * The weighted mean of a network's results on tiles of `size` pixels, `stride` apart, summed in f64; the network enlarges by `factor`, a whole number.
 * A side smaller than a tile has one tile of that side. Throws UserError for impossible sizes.
 */
export async function runTiled(image: FloatImage, size: number, stride: number, factor: number, run: TileRun): Promise<FloatImage> {
  const { width, height, channels } = image;
  const [outWidth, outHeight] = [factor * width, factor * height];
  const sums = new Float64Array(outWidth * outHeight * channels);
  const shares = new Float64Array(outWidth * outHeight);
  for (const window of tileWindows(height, width, size, stride)) {
    const [w, h] = [window.x1 - window.x0, window.y1 - window.y0];
    const data = cropWindow(image.data, [1, height, width, channels], window);
    const result = await run({ width: w, height: h, channels, data });
    const weights = tileWeights(factor * h, factor * w);
    for (let y = 0, at = 0; y < factor * h; y++) {
      for (let x = 0; x < factor * w; x++, at++) {
        const to = (factor * window.y0 + y) * outWidth + factor * window.x0 + x;
        shares[to] += weights[at];
        for (let c = 0; c < channels; c++) sums[to * channels + c] += weights[at] * result.data[at * channels + c];
      }
    }
  }
  const data = Float32Array.from(sums, (sum, i) => sum / shares[Math.floor(i / channels)]);
  return { width: outWidth, height: outHeight, channels, data };
}
