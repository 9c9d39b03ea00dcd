/** Gaussian blur: exp(-d^2 / (2 sigma^2)) over a square window, normalised to sum 1 and applied one axis at a time. */
import { UserError } from '../core/errors.ts';
import type { FloatImage } from './image.ts';
import { type Border, borderTaps, resample } from './resample.ts';

export interface BlurOptions {
  /** odd, pixels; default is scipy's: four sigmas to each side */
  kernelSize?: number;
  /** torch's pipelines use 'reflect', the default; scipy's default is 'symmetric' */
  border?: Border;
}

/** A normalised Gaussian window: weights (2 * radius + 1), centre at radius. */
export function gaussianWindow(sigma: number, radius: number): Float64Array {
  const weights = Float64Array.from({ length: 2 * radius + 1 }, (_, k) => Math.exp(-((k - radius) ** 2) / (2 * sigma * sigma)));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / sum);
}

/** x (height, width, channels) blurred with standard deviation sigma > 0 in pixels. UserError for a bad sigma or an even kernel. */
export function gaussianBlur(x: FloatImage, sigma: number, options: BlurOptions = {}): FloatImage {
  if (!(sigma > 0 && sigma <= 1000)) throw new UserError(`gaussianBlur: sigma is ${sigma}; it must be above 0 and at most 1000 pixels.`);
  const { kernelSize = 2 * Math.floor(4 * sigma + 0.5) + 1, border = 'reflect' } = options;
  if (!(kernelSize > 0 && kernelSize % 2 === 1)) throw new UserError(`gaussianBlur: the kernel size is ${kernelSize}; it must be odd.`);
  const radius = (kernelSize - 1) / 2;
  const window = gaussianWindow(sigma, radius);
  const taps = (size: number) =>
    borderTaps(
      size,
      size,
      kernelSize,
      border,
      (i) => i - radius,
      () => window,
    );
  return resample(x, taps(x.width), taps(x.height));
}
