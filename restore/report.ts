/**
 * How faithful a restoration is, without knowing the truth: degraded back to the photo's size and sharpness, the result should be the photo again
 * ("consistency" in the super-resolution literature, cf. Lugmayr et al. 2020, NTIRE); and where it differs from the photo, the model changed something.
 */
import { gaussianBlur } from '../image/blur.ts';
import { sideBySide } from '../image/compose.ts';
import { fromUnit, type Image, toUnit } from '../image/image.ts';
import { psnr, ssim } from '../image/metrics.ts';
import { resize } from '../image/resize.ts';

/** An image degraded back to the photo, against the photo. */
export interface Consistency {
  /** Standard deviation, in the photo's pixels, of the Gaussian blur that brings the image nearest to the photo; 0 is none. */
  blur: number;
  /** dB; null where the two are equal. */
  psnr: number | null;
  /** Mean structural similarity, at most 1; null for photos with a side below 11 pixels. */
  ssim: number | null;
}

/** Absolute differences in levels of 0 to 255, each pixel's being the mean of its channels'. */
export interface Change {
  mean: number;
  /** 95 of 100 pixels differ by at most this. */
  p95: number;
  max: number;
  /** Share of pixels that differ by more than 16 levels, 0 to 1. */
  strong: number;
  /** The five most changed cells of an 8 by 8 grid, the most changed first; in the result's pixels. */
  regions: { x: number; y: number; width: number; height: number; mean: number }[];
}

export interface FidelityReport {
  photo: { width: number; height: number };
  result: { width: number; height: number };
  /** The result, and for comparison the stage-1 image, in which nothing is invented. */
  consistency: { result: Consistency; stage1: Consistency };
  /** The result against the photo (enlarged where it is smaller), and against the stage-1 image: what sampling did. */
  change: { photo: Change; stage1: Change };
}

/** What the numbers of a report mean, for a reader of the file. */
export const REPORT_MEANING = {
  consistency:
    'The image, reduced to the size of the photo and blurred as much as brings it nearest to it, against the photo. Near means that the image could have been photographed so; it does not mean that what was added is true.',
  'consistency.*.blur': 'Standard deviation of that blur, in pixels of the photo; 0 is none.',
  'consistency.*.psnr': 'In dB, higher is nearer; above 40 is hardly to be told apart. null where the two are equal.',
  'consistency.*.ssim': 'Structural similarity, 1 is equal; null for photos with a side below 11 pixels.',
  change: 'Absolute differences of pixels, in levels of 0 to 255: to the photo, and to the stage-1 image, in which nothing is invented.',
  'change.*.p95': '95 of 100 pixels differ by at most this.',
  'change.*.strong': 'Share of pixels that differ by more than 16 levels, 0 to 1.',
  'change.*.regions': 'The five most changed cells of an 8 by 8 grid, the most changed first, in pixels of the result.',
} as const;

/** Levels at which the change map is white. */
export const MAP_RANGE = 64;

/** Compares a result with its photo and its stage-1 image, which has the result's size. Alpha does not count. */
export function fidelity(photo: Image, stage1: Image, result: Image): FidelityReport {
  const enlarged = resize(opaque(photo), result.width, result.height, 'bicubic');
  return {
    photo: { width: photo.width, height: photo.height },
    result: { width: result.width, height: result.height },
    consistency: { result: consistency(photo, result), stage1: consistency(photo, stage1) },
    change: { photo: change(enlarged, result), stage1: change(stage1, result) },
  };
}

/**
 * The picture to a report, three parts side by side: the result, and its absolute difference to the photo and to the stage-1 image as heat, from
 * black (none) through red and yellow to white (64 levels of 255 or more).
 */
export function changeMap(photo: Image, stage1: Image, result: Image): Image {
  const enlarged = resize(opaque(photo), result.width, result.height, 'bicubic');
  return sideBySide([
    { image: opaque(result), label: 'restored' },
    { image: differenceMap(enlarged, result), label: `change to photo, white: ${MAP_RANGE}` },
    { image: differenceMap(stage1, result), label: `change to stage 1, white: ${MAP_RANGE}` },
  ]);
}

/** Where and how much an image differs from another of its size: heat as in `changeMap`. */
export function differenceMap(from: Image, to: Image): Image {
  return heat(differences(from, to), to);
}

/** `image`, reduced or enlarged to the photo's size and blurred by what suits best, against the photo. */
export function consistency(photo: Image, image: Image): Consistency {
  const same = resize(opaque(image), photo.width, photo.height, 'bicubic');
  const unit = toUnit(same);
  const blurred = (sigma: number) => (sigma > 0 ? fromUnit(gaussianBlur(unit, sigma, { border: 'symmetric' }), 'round') : same);
  let best = { blur: 0, image: same, psnr: psnr(photo, same) };
  const attempt = (sigma: number) => {
    if (sigma <= 0) return;
    const candidate = blurred(sigma);
    const quality = psnr(photo, candidate);
    if (quality > best.psnr) best = { blur: sigma, image: candidate, psnr: quality };
  };
  for (const sigma of [0.5, 1, 1.5, 2, 3, 4]) attempt(sigma);
  for (const step of [0.25, 0.125]) {
    const { blur } = best;
    attempt(blur - step);
    attempt(blur + step);
  }
  const measurable = Math.min(photo.width, photo.height) >= 11;
  return { blur: best.blur, psnr: finite(best.psnr), ssim: measurable ? ssim(photo, best.image) : null };
}

function change(from: Image, to: Image): Change {
  const values = differences(from, to);
  const sorted = values.slice().sort();
  return {
    mean: mean(values),
    p95: sorted[Math.floor(0.95 * (sorted.length - 1))],
    max: sorted[sorted.length - 1],
    strong: values.reduce((count, value) => count + (value > 16 ? 1 : 0), 0) / values.length,
    regions: regions(values, to.width, to.height),
  };
}

/** Mean absolute difference of each pixel's channels: (height, width) f32, 0 to 255. */
function differences(a: Image, b: Image): Float32Array {
  return Float32Array.from({ length: a.width * a.height }, (_, i) => {
    const at = 3 * i;
    return (Math.abs(a.data[at] - b.data[at]) + Math.abs(a.data[at + 1] - b.data[at + 1]) + Math.abs(a.data[at + 2] - b.data[at + 2])) / 3;
  });
}

function regions(values: Float32Array, width: number, height: number): Change['regions'] {
  const [across, down] = [Math.min(8, width), Math.min(8, height)];
  const cells: Change['regions'] = [];
  for (let row = 0; row < down; row++) {
    for (let column = 0; column < across; column++) {
      const [x, y] = [Math.floor((column * width) / across), Math.floor((row * height) / down)];
      const [right, bottom] = [Math.floor(((column + 1) * width) / across), Math.floor(((row + 1) * height) / down)];
      let sum = 0;
      for (let line = y; line < bottom; line++) for (let i = line * width + x; i < line * width + right; i++) sum += values[i];
      cells.push({ x, y, width: right - x, height: bottom - y, mean: sum / ((right - x) * (bottom - y)) });
    }
  }
  return cells.sort((a, b) => b.mean - a.mean).slice(0, 5);
}

/** Black, red, yellow, white over 0 to MAP_RANGE. */
function heat(values: Float32Array, { width, height }: Image): Image {
  const data = new Uint8ClampedArray(values.length * 3);
  values.forEach((value, i) => {
    const third = (3 * value) / MAP_RANGE;
    for (let c = 0; c < 3; c++) data[3 * i + c] = 255 * (third - c);
  });
  return { width, height, data: new Uint8Array(data.buffer) };
}

function opaque({ width, height, data }: Image): Image {
  return { width, height, data };
}

function mean(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** JSON has no infinity. */
function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
