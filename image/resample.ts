/**
 * Separable resampling: tables that say which source pixels an output pixel reads, and the pass that applies them. Resizing and blurring are
 * both such tables. The antialiased ones are Pillow's `Image.resize`, which torch's `interpolate(antialias=True)` follows.
 */
import type { FloatImage } from './image.ts';

export type Filter = 'box' | 'bilinear' | 'bicubic' | 'lanczos';

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Keys' cubic convolution kernel, support 2; a is the slope at 1. (Keys 1981) */
export function cubic(x: number, a: number): number {
  const d = Math.abs(x);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return (((d - 5) * d + 8) * d - 4) * a;
  return 0;
}

/** Each filter's half width in source pixels and its value at a distance x. */
const FILTERS: Record<Filter, { support: number; value: (x: number) => number }> = {
  box: { support: 0.5, value: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, value: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, value: (x) => cubic(x, -0.5) },
  lanczos: { support: 3, value: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** The source pixels of every output pixel along one side: output i reads source first[i] + k with weight weights[i * taps + k]. */
export interface Taps {
  taps: number;
  first: Int32Array;
  /** (outputs, taps) f64; unused places are 0 */
  weights: Float64Array;
  /** how many of the taps output i uses: never past the border */
  count: Int32Array;
}

export const emptyTaps = (to: number, taps: number): Taps => ({
  taps,
  first: new Int32Array(to),
  weights: new Float64Array(to * taps),
  count: new Int32Array(to),
});

/** Antialiased: the filter stretched by the downscaling factor, cut at the image's border and normalised. */
export function filterTaps(filter: Filter, from: number, to: number): Taps {
  const { support, value } = FILTERS[filter];
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  const taps = Math.ceil(reach) * 2 + 1;
  const table = emptyTaps(to, taps);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const count = Math.min(from, Math.trunc(center + reach + 0.5)) - first;
    let sum = 0;
    for (let k = 0; k < count; k++) sum += table.weights[i * taps + k] = value((first + k - center + 0.5) * (1 / stretch));
    for (let k = 0; k < count && sum !== 0; k++) table.weights[i * taps + k] /= sum;
    table.first[i] = first;
    table.count[i] = count;
  }
  return table;
}

/** Where a place outside 0..size-1 reads: the border pixel, or the image mirrored with (symmetric) or without (reflect) repeating that pixel. */
export type Border = 'replicate' | 'reflect' | 'symmetric';

function insidePlace(place: number, size: number, border: Border): number {
  if (border === 'replicate' || size === 1) return Math.min(Math.max(place, 0), size - 1);
  const period = border === 'reflect' ? 2 * size - 2 : 2 * size;
  const wrapped = ((place % period) + period) % period;
  return wrapped < size ? wrapped : period - wrapped - (border === 'reflect' ? 0 : 1);
}

/** `taps` taps from left(i) on with weights(i); those outside the image are added to the pixel that the border rule gives. */
export function borderTaps(
  from: number,
  to: number,
  taps: number,
  border: Border,
  left: (i: number) => number,
  weights: (i: number) => ArrayLike<number>,
): Taps {
  const table = emptyTaps(to, taps);
  for (let i = 0; i < to; i++) {
    const places = Array.from({ length: taps }, (_, k) => insidePlace(left(i) + k, from, border));
    const first = places.reduce((a, b) => Math.min(a, b));
    const values = weights(i);
    for (let k = 0; k < taps; k++) table.weights[i * taps + places[k] - first] += values[k];
    table.first[i] = first;
    table.count[i] = places.reduce((a, b) => Math.max(a, b)) - first + 1;
  }
  return table;
}

/** One pass along the middle axis, sums in f64: x (outer, from, inner) -> out (outer, to, inner). */
export function applyTaps(
  x: Uint8Array | Float32Array | Float64Array,
  out: Float32Array | Float64Array,
  shape: { outer: number; from: number; to: number; inner: number },
  { taps, first, count, weights }: Taps,
): void {
  const { outer, from, to, inner } = shape;
  const sums = new Float64Array(inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < to; i++) {
      sums.fill(0);
      for (let k = 0; k < count[i]; k++) {
        const weight = weights[i * taps + k];
        const source = (o * from + first[i] + k) * inner;
        for (let c = 0; c < inner; c++) sums[c] += weight * x[source + c];
      }
      out.set(sums, (o * to + i) * inner);
    }
  }
}

/** Both passes on a float image, horizontal first, f32 after each. */
export function resample(x: FloatImage, across: Taps, down: Taps): FloatImage {
  const [width, height] = [across.first.length, down.first.length];
  const rows = new Float32Array(x.height * width * x.channels);
  applyTaps(x.data, rows, { outer: x.height, from: x.width, to: width, inner: x.channels }, across);
  const data = new Float32Array(height * width * x.channels);
  applyTaps(rows, data, { outer: 1, from: x.height, to: height, inner: width * x.channels }, down);
  return { width, height, channels: x.channels, data };
}
