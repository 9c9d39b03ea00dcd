/**
 * Image quality against a reference: PSNR and SSIM (Wang et al. 2004) as scikit-image computes them, and SSIM over scales (Wang et al. 2003). All in
 * f64, data range 255.
 */
import { ShapeError } from '../core/errors.ts';
import { gaussianWindow } from './blur.ts';
import type { Image } from './image.ts';
import { halved, luma } from './luma.ts';
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
  const y = new Float64Array(data.length / 3);
  for (let i = 0; i < y.length; i++) y[i] = 16 + (65.481 * data[3 * i] + 128.553 * data[3 * i + 1] + 24.966 * data[3 * i + 2]) / 255;
  return { channels: 1, data: y };
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
  const pair = [select(a, options.channels ?? 'rgb'), select(b, options.channels ?? 'rgb')] as const;
  return similarity(...pair, a.width, a.height, weights, options.window === 'uniform' ? size ** 2 / (size ** 2 - 1) : 1).whole;
}

/** The exponents of contrast and structure at each scale, the first one full size; luminance counts at the last alone. (Wang et al. 2003) */
const SCALES = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
const MS_SSIM_SIDE = 11 * 2 ** (SCALES.length - 1);

/**
 * Structural similarity over five scales of the luma, each half of the one before by the mean of 2 x 2 pixels (an odd last row or column is left
 * out); at most 1. Null where a side is below 176 pixels, so that the last scale does not hold a window. ShapeError if the sizes differ.
 */
export function msSsim(a: Image, b: Image): number | null {
  checkSameSize('msSsim', a, b);
  let { width, height } = a;
  if (Math.min(width, height) < MS_SSIM_SIDE) return null;
  let [x, y] = [luma(a), luma(b)];
  const weights = gaussianWindow(1.5, 5);
  let product = 1;
  for (const [scale, exponent] of SCALES.entries()) {
    const { whole, contrast } = similarity({ channels: 1, data: x }, { channels: 1, data: y }, width, height, weights, 1);
    product *= Math.max(0, scale === SCALES.length - 1 ? whole : contrast) ** exponent;
    [x, y] = [halved(x, width, height), halved(y, width, height)];
    [width, height] = [width >> 1, height >> 1];
  }
  return product;
}

/** The mean over all windows of SSIM, and of its part of contrast and structure alone. `unbias` multiplies variances. */
function similarity(
  { channels, data: x }: Channels,
  { data: y }: Channels,
  width: number,
  height: number,
  weights: Float64Array,
  unbias: number,
): { whole: number; contrast: number } {
  const mean = (values: Float64Array) => windowMeans(values, width, height, channels, weights);
  const product = (p: Float64Array, q: Float64Array) => mean(p.map((value, i) => value * q[i]));
  const [mx, my, xx, yy, xy] = [mean(x), mean(y), product(x, x), product(y, y), product(x, y)];
  const [c1, c2] = [(0.01 * 255) ** 2, (0.03 * 255) ** 2];
  const sums = { whole: 0, contrast: 0 };
  for (let i = 0; i < mx.length; i++) {
    const [vx, vy] = [unbias * (xx[i] - mx[i] ** 2), unbias * (yy[i] - my[i] ** 2)];
    const contrast = (2 * unbias * (xy[i] - mx[i] * my[i]) + c2) / (vx + vy + c2);
    sums.contrast += contrast;
    sums.whole += (contrast * (2 * mx[i] * my[i] + c1)) / (mx[i] ** 2 + my[i] ** 2 + c1);
  }
  return { whole: sums.whole / mx.length, contrast: sums.contrast / mx.length };
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
