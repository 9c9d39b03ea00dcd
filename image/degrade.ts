/** Damage on purpose, for training, evaluation and tests: blur, loss of resolution, noise and JPEG, in this order. (The usual degradation model, cf. Wang et al. 2021) */

import { UserError } from '../core/errors.ts';
import { TorchRandom } from '../core/random.ts';
import { gaussianBlur } from './blur.ts';
import { encodeJpeg } from './encode.ts';
import { type Image, SIZE_LIMITS } from './image.ts';
import { readJpeg } from './jpeg.ts';
import { resize } from './resize.ts';

export interface Degradation {
  /** standard deviation of the Gaussian blur, pixels; default 0, none */
  blur?: number;
  /** the image is reduced by this factor >= 1 and enlarged again, both by Pillow's bicubic; default 1, not */
  scale?: number;
  /** false leaves the reduced image small; noise and JPEG are then its own; default true */
  enlarge?: boolean;
  /** standard deviation of the Gaussian noise, in levels of 0..255; default 0, none */
  noise?: number;
  /** quality 1 to 100 of a JPEG round trip; default none */
  jpeg?: number;
  /** of the noise; the same seed gives the same image everywhere; default 0 */
  seed?: number;
}

/** A range [low, high] to draw from, or one value. */
export type Range = number | readonly [number, number];

export type DegradationRanges = Partial<Record<'blur' | 'scale' | 'noise' | 'jpeg', Range>> & Pick<Degradation, 'enlarge'>;

/** The degradation of the paper's figures: Gaussian blur of sigma 2, then a quarter of the size. (arXiv 2408.17060, sec. 4) */
export const PAPER_DEGRADATION: DegradationRanges = { blur: 2, scale: 4 };

/** What each kind of damage may be. */
const LIMITS = { blur: [0, 1000], scale: [1, 1000], noise: [0, 1000], jpeg: [1, 100] } as const;

/** Throws UserError for values out of range. */
export function checkDegradation(ranges: DegradationRanges): void {
  for (const [key, [least, most]] of Object.entries(LIMITS)) {
    const range = ranges[key as keyof typeof LIMITS] ?? least;
    for (const value of typeof range === 'number' ? [range] : range)
      if (!(value >= least && value <= most))
        throw new UserError(`The damage '${key}' of ${value} is out of range; it must be from ${least} to ${most}.`);
  }
}

/** A degradation drawn from ranges, each evenly; JPEG's quality is rounded. */
export function drawDegradation(random: TorchRandom, { enlarge, ...ranges }: DegradationRanges): Degradation {
  const [u, v] = random.rand(2);
  const values = Object.entries(ranges).map(([key, range]) => {
    if (typeof range === 'number') return [key, range];
    const value = range[0] + (range[1] - range[0]) * random.rand(1)[0];
    return [key, key === 'jpeg' ? Math.round(value) : value];
  });
  const seed = Math.floor(v * 2 ** 24) ^ Math.floor(u * 2 ** 24);
  return { ...Object.fromEntries(values), ...(enlarge === undefined ? {} : { enlarge }), seed };
}

/** A degraded copy, without alpha; of the same size unless it is to stay small. UserError for values out of range. */
export function degrade(image: Image, degradation: Degradation): Image {
  const { blur = 0, scale = 1, enlarge = true, noise = 0, jpeg, seed = 0 } = degradation;
  checkDegradation(degradation);
  const { width, height } = image;
  let result: Image = { width, height, data: image.data.slice() };
  if (blur > 0) {
    const blurred = gaussianBlur({ width, height, channels: 3, data: Float32Array.from(image.data) }, blur);
    result.data = toBytes(blurred.data);
  }
  if (scale > 1) {
    const reduced = (side: number) => Math.max(1, Math.round(side / scale));
    result = resize(result, reduced(width), reduced(height), 'bicubic');
    if (enlarge) result = resize(result, width, height, 'bicubic');
  }
  if (noise > 0) {
    const normal = new TorchRandom(seed).randn(result.data.length);
    result.data = toBytes(normal.map((value, i) => result.data[i] + noise * value));
  }
  return jpeg === undefined ? result : readJpeg(encodeJpeg(result, jpeg), 'degrade', SIZE_LIMITS).image;
}

/** Rounded and clipped to 0..255. */
const toBytes = (values: Float32Array): Uint8Array => new Uint8Array(Uint8ClampedArray.from(values).buffer);
