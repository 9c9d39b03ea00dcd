/** Damage on purpose, for demonstrations and tests: blur, loss of resolution, noise and JPEG, in this order. (The usual degradation model, cf. Wang et al. 2021) */

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
  /** standard deviation of the Gaussian noise, in levels of 0..255; default 0, none */
  noise?: number;
  /** quality 1 to 100 of a JPEG round trip; default none */
  jpeg?: number;
  /** of the noise; the same seed gives the same image everywhere; default 0 */
  seed?: number;
}

/** A degraded copy of the same size, without alpha. UserError for values out of range. */
export function degrade(image: Image, degradation: Degradation): Image {
  const { blur = 0, scale = 1, noise = 0, jpeg, seed = 0 } = degradation;
  if (!(blur >= 0 && scale >= 1 && noise >= 0))
    throw new UserError(`degrade: blur ${blur}, scale ${scale}, noise ${noise} are out of range.`);
  const { width, height } = image;
  let result: Image = { width, height, data: image.data.slice() };
  if (blur > 0) {
    const blurred = gaussianBlur({ width, height, channels: 3, data: Float32Array.from(image.data) }, blur);
    result.data = toBytes(blurred.data);
  }
  if (scale > 1) {
    const reduced = (side: number) => Math.max(1, Math.round(side / scale));
    result = resize(resize(result, reduced(width), reduced(height), 'bicubic'), width, height, 'bicubic');
  }
  if (noise > 0) {
    const normal = new TorchRandom(seed).randn(result.data.length);
    result.data = toBytes(normal.map((value, i) => result.data[i] + noise * value));
  }
  return jpeg === undefined ? result : readJpeg(encodeJpeg(result, jpeg), 'degrade', SIZE_LIMITS).image;
}

/** Rounded and clipped to 0..255. */
const toBytes = (values: Float32Array): Uint8Array => new Uint8Array(Uint8ClampedArray.from(values).buffer);
