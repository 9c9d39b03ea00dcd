/**
 * Pictures of a restoration under way: the stage-1 image, and what the sampler believes the result to be after each step.
 *
 * Decoding a latent costs seconds; a linear map from its channels to RGB costs nothing and shows the picture at an eighth of the size. Such maps
 * are usually tables of numbers for one autoencoder. Here the run itself has what is needed to fit one, for any model: the degraded image's latent
 * and the stage-1 image decoded from it, so that least squares between the two, pixel by pixel of the latent, gives the map.
 */
import type { Image } from '../image/image.ts';
import { fromUnit } from '../image/image.ts';
import { resizeBicubic } from '../image/resize.ts';
import { images, type Values } from './networks.ts';
import type { RestoreEvents } from './stage.ts';

/** Weight of the pull to zero, as a share of a channel's energy: keeps the fit defined for plain pictures. */
const RIDGE = 1e-4;

/** RGB as a linear function of a latent's channels, fitted to one image. */
export class LatentPreview {
  /** (z + 1, 3): a row for each latent channel, the last for the constant. */
  readonly weights: Float64Array;
  private readonly shape: readonly number[];
  private readonly width: number;
  private readonly height: number;

  private constructor(weights: Float64Array, shape: readonly number[], width: number, height: number) {
    this.weights = weights;
    this.shape = shape;
    this.width = width;
    this.height = height;
  }

  /** Fits latents (N, h, w, z) in unit scale to the images (N, f h, f w, 3) in [-1, 1] decoded from them, averaged over f x f pixels. */
  static fit(latent: Values, image: Values): LatentPreview {
    const z = latent.shape[3];
    const n = z + 1;
    const target = averaged(image, latent.shape);
    const [square, right] = [new Float64Array(n * n), new Float64Array(n * 3)];
    const row = new Float64Array(n).fill(1);
    for (let pixel = 0; pixel < target.length / 3; pixel++) {
      for (let k = 0; k < z; k++) row[k] = latent.data[pixel * z + k];
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) square[i * n + j] += row[i] * row[j];
        for (let c = 0; c < 3; c++) right[i * 3 + c] += row[i] * target[pixel * 3 + c];
      }
    }
    const pixels = target.length / 3;
    for (let k = 0; k < z; k++) square[k * n + k] += RIDGE * (square[k * n + k] + pixels);
    return new LatentPreview(solve(square, right, n), latent.shape, image.shape[2], image.shape[1]);
  }

  /** The first image of a latent of the fitted one's size, enlarged to the size of the decoded image. */
  picture(latent: Float32Array): Image {
    const [, h, w, z] = this.shape;
    const data = new Float32Array(h * w * 3);
    for (let pixel = 0; pixel < h * w; pixel++) {
      for (let c = 0; c < 3; c++) {
        let value = this.weights[z * 3 + c];
        for (let k = 0; k < z; k++) value += latent[pixel * z + k] * this.weights[k * 3 + c];
        data[pixel * 3 + c] = value;
      }
    }
    return fromUnit(resizeBicubic({ width: w, height: h, channels: 3, data }, this.width, this.height), 'round');
  }
}

/**
 * Listeners for `restoreImages` or `Restorer.restore` that hand every picture to `write` under its name, and wait for it: a stage's, such as 'stage1', then 'step-01'
 * and so on, with as many digits as the number of steps needs, two at least; of a photo in pieces with 'face-2-' or the like before that.
 */
export function previewEvents(
  write: (name: string, picture: Image) => void | Promise<void>,
): Required<Pick<RestoreEvents, 'picture' | 'step' | 'piece'>> {
  let preview: LatentPreview | null = null;
  let which = '';
  return {
    piece({ what, number, count }) {
      which = count > 1 ? `${what}-${number}-` : '';
    },
    async picture(stage, image, latent) {
      preview = LatentPreview.fit(latent, image);
      await write(`${which}${stage}`, fromUnit(images(image)[0], 'round'));
    },
    async step({ step, steps, denoised }) {
      const digits = Math.max(2, String(steps).length);
      if (preview) await write(`${which}step-${String(step).padStart(digits, '0')}`, preview.picture(denoised));
    },
  };
}

/** Images (N, f h, f w, 3) averaged to (N, h, w, 3). */
function averaged({ data, shape: [n, height, width] }: Values, [, h, w]: readonly number[]): Float64Array {
  const [fy, fx] = [height / h, width / w];
  const means = new Float64Array(n * h * w * 3);
  for (let y = 0; y < n * height; y++) {
    for (let x = 0; x < width; x++) {
      const to = (Math.floor(y / fy) * w + Math.floor(x / fx)) * 3;
      for (let c = 0; c < 3; c++) means[to + c] += data[(y * width + x) * 3 + c] / (fx * fy);
    }
  }
  return means;
}

/** Solves square (n, n) x = right (n, 3) by Gaussian elimination with the largest pivot; square is positive definite. Changes both. */
function solve(square: Float64Array, right: Float64Array, n: number): Float64Array {
  for (let i = 0; i < n; i++) {
    let pivot = i;
    for (let r = i + 1; r < n; r++) if (Math.abs(square[r * n + i]) > Math.abs(square[pivot * n + i])) pivot = r;
    for (const [matrix, width] of [
      [square, n],
      [right, 3],
    ] as const) {
      const kept = matrix.slice(i * width, (i + 1) * width);
      matrix.copyWithin(i * width, pivot * width, (pivot + 1) * width);
      matrix.set(kept, pivot * width);
    }
    for (let r = 0; r < n; r++) {
      if (r === i) continue;
      const factor = square[r * n + i] / square[i * n + i];
      for (let j = i; j < n; j++) square[r * n + j] -= factor * square[i * n + j];
      for (let c = 0; c < 3; c++) right[r * 3 + c] -= factor * right[i * 3 + c];
    }
  }
  return right.map((value, at) => value / square[Math.floor(at / 3) * n + Math.floor(at / 3)]);
}
