/** How sharp and how noisy a picture is, and how well its edges agree with the truth's. All on luma, 0..255, in f64. */
import { ShapeError } from '../core/errors.ts';
import type { Image } from './image.ts';
import { halved, luma } from './luma.ts';

function checkSize(name: string, { width, height }: Image, least: number): void {
  if (Math.min(width, height) >= least) return;
  throw new ShapeError(`${name}: the image is ${width}x${height}; both sides must have at least ${least} pixels.`);
}

function checkSameSize(name: string, a: Image, b: Image): void {
  if (a.width === b.width && a.height === b.height) return;
  throw new ShapeError(`${name}: the images are ${a.width}x${a.height} and ${b.width}x${b.height}; resize one of them first.`);
}

/** The sum over all inner pixels of f(sum of kernel * neighbours); kernel (3, 3), row by row. */
function sumOverInner({ width, height }: Image, plane: Float64Array, kernel: readonly number[], f: (value: number) => number): number {
  let sum = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      let value = 0;
      for (let k = 0; k < 9; k++) value += kernel[k] * plane[(y + Math.trunc(k / 3) - 1) * width + x + (k % 3) - 1];
      sum += f(value);
    }
  }
  return sum;
}

/** What [1 2 1] x [1 2 1] / 16 takes away. */
const DETAIL = [-1, -2, -1, -2, 12, -2, -1, -2, -1].map((weight) => weight / 16);

/**
 * The amplitude of `result`'s high frequencies relative to the truth's: the root of the mean square of what a binomial blur of 3 x 3 takes away. 1 is
 * as sharp as the truth, below is softer, above is noisier or oversharpened; Infinity where the truth is flat and the result is not.
 * ShapeError if sizes differ or a side is below 3.
 */
export function sharpness(truth: Image, result: Image): number {
  checkSameSize('sharpness', truth, result);
  checkSize('sharpness', truth, 3);
  const energy = (image: Image) => sumOverInner(image, luma(image), DETAIL, (value) => value * value);
  const [own, reference] = [energy(result), energy(truth)];
  return own === reference ? 1 : Math.sqrt(own / reference);
}

/** Blind to planes, edges along an axis and their slopes. */
const RESIDUE = [1, -2, 1, -2, 4, -2, 1, -2, 1];

/**
 * The standard deviation of noise in a picture, in levels of 0..255, without knowing the truth: fine texture counts as noise too. (Immerkaer 1996)
 * ShapeError where a side is below 3.
 */
export function noiseLevel(image: Image): number {
  checkSize('noiseLevel', image, 3);
  const sum = sumOverInner(image, luma(image), RESIDUE, Math.abs);
  return (Math.sqrt(Math.PI / 2) * sum) / (6 * (image.width - 2) * (image.height - 2));
}

/**
 * Gradient magnitude similarity deviation, 0 for equal pictures: how unevenly edges differ, at half the size. Gradients are Prewitt's, black beyond the
 * border as in the authors' program. ShapeError if sizes differ or a side is below 4. (Xue et al. 2014)
 */
export function gmsd(a: Image, b: Image): number {
  checkSameSize('gmsd', a, b);
  checkSize('gmsd', a, 4);
  const stable = 170;
  const [x, y] = [gradients(a), gradients(b)];
  const similarity = x.map((value, i) => (2 * value * y[i] + stable) / (value * value + y[i] * y[i] + stable));
  const mean = similarity.reduce((sum, value) => sum + value, 0) / similarity.length;
  return Math.sqrt(similarity.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (similarity.length - 1));
}

/** Magnitudes of Prewitt's gradient at half the size: (height >> 1, width >> 1). */
function gradients(image: Image): Float64Array {
  const [width, height] = [image.width >> 1, image.height >> 1];
  const plane = halved(luma(image), image.width, image.height);
  const at = (x: number, y: number) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : plane[y * width + x]);
  const magnitudes = new Float64Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let [across, down] = [0, 0];
      for (const k of [-1, 0, 1]) {
        across += at(x + 1, y + k) - at(x - 1, y + k);
        down += at(x + k, y + 1) - at(x + k, y - 1);
      }
      magnitudes[y * width + x] = Math.hypot(across, down) / 3;
    }
  }
  return magnitudes;
}
