/** Image quality against a reference as scikit-image computes it: PSNR, and SSIM (Wang et al. 2004). All in f64, data range 255. */
import { ShapeError } from '../core/errors.ts';
import { gaussianWindow } from './blur.ts';
import type { Image } from './image.ts';
import { applyTaps, type Taps } from './resample.ts';

/** 'rgb': all three channels. 'y': BT.601 luma in studio range, 16 + (65.481 R + 128.553 G + 24.966 B) / 255, not rounded. */
export type MetricChannels = 'rgb' | 'y';

interface Channels {
  channels: number;
  /** (height, width, channels) f64, 0..255 */
  data: Float64Array;
}

function select({ data }: Image, channels: MetricChannels): Channels {
  if (channels === 'rgb') return { channels: 3, data: Float64Array.from(data) };
  const luma = new Float64Array(data.length / 3);
  for (let i = 0; i < luma.length; i++) luma[i] = 16 + (65.481 * data[3 * i] + 128.553 * data[3 * i + 1] + 24.966 * data[3 * i + 2]) / 255;
  return { channels: 1, data: luma };
}

function checkSameSize(name: string, a: Image, b: Image): void {
  if (a.width === b.width && a.height === b.height) return;
  throw new ShapeError(`${name}: the images are ${a.width}x${a.height} and ${b.width}x${b.height}; resize one of them first.`);
}

/** Peak signal-to-noise ratio in dB, Infinity for equal images: 10 log10(255^2 / mean squared error). ShapeError if the sizes differ. */
export function psnr(a: Image, b: Image, channels: MetricChannels = 'rgb'): number {
  checkSameSize('psnr', a, b);
  const [x, y] = [select(a, channels).data, select(b, channels).data];
  let squares = 0;
  for (let i = 0; i < x.length; i++) squares += (x[i] - y[i]) ** 2;
  return 10 * Math.log10((255 * 255 * x.length) / squares);
}

export interface SsimOptions {
  channels?: MetricChannels;
  /** 'gaussian' (default): the paper's 11 taps of sigma 1.5, population covariance. 'uniform': scikit-image's defaults, 7 x 7, sample covariance. */
  window?: 'gaussian' | 'uniform';
}

/** Mean structural similarity over all channels and all pixels whose window lies inside, at most 1. ShapeError if the sizes differ or are below the window. */
export function ssim(a: Image, b: Image, options: SsimOptions = {}): number {
  checkSameSize('ssim', a, b);
  const weights = options.window === 'uniform' ? new Float64Array(7).fill(1 / 7) : gaussianWindow(1.5, 5);
  const size = weights.length;
  if (Math.min(a.width, a.height) < size) {
    throw new ShapeError(`ssim: the images are ${a.width}x${a.height}; both sides must have at least ${size} pixels.`);
  }
  const { channels, data: x } = select(a, options.channels ?? 'rgb');
  const { data: y } = select(b, options.channels ?? 'rgb');
  const mean = (values: Float64Array) => windowMeans(values, a.width, a.height, channels, weights);
  const product = (p: Float64Array, q: Float64Array) => mean(p.map((value, i) => value * q[i]));
  const [mx, my, xx, yy, xy] = [mean(x), mean(y), product(x, x), product(y, y), product(x, y)];
  const unbias = options.window === 'uniform' ? size ** 2 / (size ** 2 - 1) : 1;
  const [c1, c2] = [(0.01 * 255) ** 2, (0.03 * 255) ** 2];
  let sum = 0;
  for (let i = 0; i < mx.length; i++) {
    const [vx, vy] = [unbias * (xx[i] - mx[i] ** 2), unbias * (yy[i] - my[i] ** 2)];
    const covariance = unbias * (xy[i] - mx[i] * my[i]);
    sum += ((2 * mx[i] * my[i] + c1) * (2 * covariance + c2)) / ((mx[i] ** 2 + my[i] ** 2 + c1) * (vx + vy + c2));
  }
  return sum / mx.length;
}

/** Weighted mean of every window that lies inside: (height, width, channels) -> (height - size + 1, width - size + 1, channels). */
function windowMeans(values: Float64Array, width: number, height: number, channels: number, weights: Float64Array): Float64Array {
  const size = weights.length;
  const [across, down] = [width - size + 1, height - size + 1];
  const rows = new Float64Array(height * across * channels);
  applyTaps(values, rows, { outer: height, from: width, to: across, inner: channels }, slidingTaps(across, weights));
  const means = new Float64Array(down * across * channels);
  applyTaps(rows, means, { outer: 1, from: height, to: down, inner: across * channels }, slidingTaps(down, weights));
  return means;
}

function slidingTaps(to: number, weights: Float64Array): Taps {
  const repeated = new Float64Array(to * weights.length);
  for (let i = 0; i < to; i++) repeated.set(weights, i * weights.length);
  const first = Int32Array.from({ length: to }, (_, i) => i);
  return { taps: weights.length, first, weights: repeated, count: new Int32Array(to).fill(weights.length) };
}
