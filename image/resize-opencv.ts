/**
 * The two OpenCV resizes of the published demo: INTER_LANCZOS4 (enlarging) and INTER_AREA. OpenCV keeps 8-bit coefficients in 11-bit fixed
 * point and rounds once, after the vertical pass; INTER_AREA averages in float when it reduces and is a shifted bilinear when it enlarges.
 */
import { checkSize, type Image } from './image.ts';
import { applyTaps, borderTaps, emptyTaps, type Taps } from './resample.ts';

export type OpenCVFilter = 'lanczos4' | 'area';

const COEFFICIENT_BITS = 11;

/**
 * OpenCV's `resize` on 8-bit images, within 1 level of it. Not antialiased for lanczos4; alpha is resized like a colour.
 * UserError if the size is empty or above SIZE_LIMITS.
 */
export function resizeOpenCV(image: Image, width: number, height: number, filter: OpenCVFilter): Image {
  checkSize(width, height, 'resizeOpenCV');
  const reduces = width <= image.width && height <= image.height;
  const average = filter === 'area' && reduces;
  const table = filter === 'lanczos4' ? lanczos4Taps : reduces ? areaTaps : steppedLinearTaps;
  const [across, down] = [table(image.width, width), table(image.height, height)];
  if (!average) for (const taps of [across, down]) toFixed(taps);
  const divisor = average ? 1 : 2 ** (2 * COEFFICIENT_BITS);
  const resizePlanes = (data: Uint8Array, channels: number): Uint8Array => {
    const rows = new Float64Array(image.height * width * channels);
    applyTaps(data, rows, { outer: image.height, from: image.width, to: width, inner: channels }, across);
    const sums = new Float64Array(height * width * channels);
    applyTaps(rows, sums, { outer: 1, from: image.height, to: height, inner: width * channels }, down);
    const out = new Uint8ClampedArray(sums.length);
    for (let i = 0; i < out.length; i++) out[i] = average ? sums[i] : Math.floor(sums[i] / divisor + 0.5);
    return new Uint8Array(out.buffer);
  };
  const result: Image = { width, height, data: resizePlanes(image.data, 3) };
  if (image.alpha) result.alpha = resizePlanes(image.alpha, 1);
  return result;
}

/** Weights to 11-bit fixed point, rounded. */
function toFixed(table: Taps): void {
  for (let i = 0; i < table.weights.length; i++) table.weights[i] = Math.round(table.weights[i] * (1 << COEFFICIENT_BITS));
}

/** Eight taps of sinc(x) sinc(x/4), normalised; the border pixel repeated. */
function lanczos4Taps(from: number, to: number): Taps {
  const place = (i: number) => ((i + 0.5) * from) / to - 0.5;
  const left = (i: number) => Math.floor(place(i)) - 3;
  return borderTaps(from, to, 8, 'replicate', left, (i) => {
    const values = Float64Array.from({ length: 8 }, (_, k) => lanczos4(place(i) - left(i) - k));
    const sum = values.reduce((a, b) => a + b);
    return values.map((value) => value / sum);
  });
}

function lanczos4(x: number): number {
  if (Math.abs(x) < 1e-7) return 1;
  const angle = Math.PI * x;
  return (Math.sin(angle) * Math.sin(angle / 4) * 4) / (angle * angle);
}

/** The share of each source pixel in the stretch of the source that an output pixel covers. */
function areaTaps(from: number, to: number): Taps {
  const scale = from / to;
  const table = emptyTaps(to, Math.ceil(scale) + 2);
  for (let i = 0; i < to; i++) {
    const [begin, end] = [i * scale, Math.min((i + 1) * scale, from)];
    const first = Math.min(Math.floor(begin + 1e-9), from - 1);
    const last = Math.max(first, Math.min(Math.ceil(end - 1e-9), from) - 1);
    for (let k = 0; k <= last - first; k++) {
      const covered = Math.min(end, first + k + 1) - Math.max(begin, first + k);
      table.weights[i * table.taps + k] = covered / (end - begin);
    }
    table.first[i] = first;
    table.count[i] = last - first + 1;
  }
  return table;
}

/** INTER_AREA when a side grows: linear, but flat over most of each source pixel, so that whole factors repeat pixels. */
function steppedLinearTaps(from: number, to: number): Taps {
  const [scale, inverse] = [from / to, to / from];
  const table = emptyTaps(to, 2);
  for (let i = 0; i < to; i++) {
    const first = Math.min(Math.floor(i * scale), from - 1);
    const excess = i + 1 - (first + 1) * inverse;
    const fraction = excess <= 0 || first === from - 1 ? 0 : excess - Math.floor(excess);
    table.weights.set([1 - fraction, fraction], i * 2);
    table.first[i] = first;
    table.count[i] = fraction > 0 ? 2 : 1;
  }
  return table;
}
