/** Damage on purpose, for training, evaluation and tests: blur, loss of resolution, noise and JPEG, in this order. (The usual degradation model, cf. Wang et al. 2021) */

import { TorchRandom } from '../core/random.ts';
import { checkValue, keysOf, type OptionValues, type Range, range } from '../options/schema.ts';
import { gaussianBlur } from './blur.ts';
import { encodeJpeg } from './encode.ts';
import { type Image, SIZE_LIMITS } from './image.ts';
import { readJpeg } from './jpeg.ts';
import { opaque } from './opaque.ts';
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

export type DegradationRanges = Partial<Record<DegradationKey, Range>> & Pick<Degradation, 'enlarge'>;

/** The degradation of the paper's figures: Gaussian blur of sigma 2, then a quarter of the size. (arXiv 2408.17060, sec. 4) */
export const PAPER_DEGRADATION: DegradationRanges = { blur: 2, scale: 4 };

/** The kinds of damage as options, each one value or a range to draw from. */
export const DEGRADATION = {
  blur: range(0, 1000, { group: 'damage', of: 'sigma', default: null, help: 'damage: Gaussian blur in pixels, one value or a range' }),
  scale: range(1, 1000, { group: 'damage', of: 'factor', default: null, help: 'damage: loss of resolution, one value or a range' }),
  noise: range(0, 1000, { group: 'damage', of: 'levels', default: null, help: 'damage: noise, in levels of 255, one value or a range' }),
  jpeg: range(1, 100, { group: 'damage', of: 'quality', default: null, help: 'damage: JPEG quality, one value or a range' }),
};
type DegradationKey = keyof typeof DEGRADATION;

/** Throws UserError for values out of range. */
export function checkDegradation(ranges: DegradationRanges): void {
  for (const key of keysOf(DEGRADATION)) if (ranges[key] !== undefined) checkValue(DEGRADATION, key, ranges[key]);
}

/** The damage that was chosen; the paper's where none was. */
export function degradationOf(given: Partial<OptionValues<typeof DEGRADATION>>): DegradationRanges {
  const chosen = keysOf(DEGRADATION).flatMap((key) => (given[key] == null ? [] : [[key, given[key]]]));
  return chosen.length > 0 ? Object.fromEntries(chosen) : PAPER_DEGRADATION;
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
  let result: Image = { width, height, data: opaque(image).data.slice() };
  if (blur > 0) {
    const blurred = gaussianBlur({ width, height, channels: 3, data: Float32Array.from(result.data) }, blur);
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
