/** A JPEG's coefficients to pixels, with libjpeg's own roundings, so that every sample is as its decoder gives it. */
import type { JpegComponent } from './jpeg-scan.ts';

/** One component's samples, (rows, stride) u8. */
export interface JpegPlane {
  data: Uint8Array;
  stride: number;
  /** samples that the picture has */
  width: number;
  height: number;
}

/** Fixed-point numbers of the transform have 13 bits behind the point, and 2 are kept between its passes. */
const [POINT, KEPT] = [13, 2];
const fixed = (x: number): number => Math.round(x * 2 ** POINT);
const c = (k: number): number => Math.SQRT2 * Math.cos((k * Math.PI) / 16);
const EVEN = { six: fixed(c(6)), sum: fixed(c(2) - c(6)), difference: fixed(c(2) + c(6)) };
const ODD = {
  all: fixed(c(3)),
  seven: fixed(-c(1) + c(3) + c(5) - c(7)),
  five: fixed(c(1) + c(3) - c(5) + c(7)),
  three: fixed(c(1) + c(3) + c(5) - c(7)),
  one: fixed(c(1) + c(3) - c(5) - c(7)),
  outer: fixed(c(7) - c(3)),
  inner: fixed(-c(1) - c(3)),
  sevenThree: fixed(-c(3) - c(5)),
  fiveOne: fixed(c(5) - c(3)),
};

/** The inverse cosine transform of eight numbers that lie `step` apart, by 11 multiplications. (Loeffler, Ligtenberg and Moschytz 1989, figure 1) */
function transform(x: Int32Array, at: number, step: number, shift: number): void {
  const [i1, i2, i3, i4] = [at + step, at + 2 * step, at + 3 * step, at + 4 * step];
  const [i5, i6, i7] = [at + 5 * step, at + 6 * step, at + 7 * step];
  const [x0, x1, x2, x3, x4, x5, x6, x7] = [x[at], x[i1], x[i2], x[i3], x[i4], x[i5], x[i6], x[i7]];
  const half = 2 ** (shift - 1);
  const middle = (x2 + x6) * EVEN.six;
  const low = middle - x6 * EVEN.difference;
  const high = middle + x2 * EVEN.sum;
  const plus = (x0 + x4) * 2 ** POINT + half;
  const minus = (x0 - x4) * 2 ** POINT + half;
  const all = (x7 + x3 + x5 + x1) * ODD.all;
  const outer = (x7 + x1) * ODD.outer;
  const inner = (x5 + x3) * ODD.inner;
  const sevenThree = (x7 + x3) * ODD.sevenThree + all;
  const fiveOne = (x5 + x1) * ODD.fiveOne + all;
  const odd0 = x1 * ODD.one + outer + fiveOne;
  const odd1 = x3 * ODD.three + inner + sevenThree;
  const odd2 = x5 * ODD.five + inner + fiveOne;
  const odd3 = x7 * ODD.seven + outer + sevenThree;
  x[at] = (plus + high + odd0) >> shift;
  x[i7] = (plus + high - odd0) >> shift;
  x[i1] = (minus + low + odd1) >> shift;
  x[i6] = (minus + low - odd1) >> shift;
  x[i2] = (minus - low + odd2) >> shift;
  x[i5] = (minus - low - odd2) >> shift;
  x[i3] = (plus - high + odd3) >> shift;
  x[i4] = (plus - high - odd3) >> shift;
}

/** A component's samples. Its coefficients are dropped. */
export function samplesOf(component: JpegComponent, width: number, height: number): JpegPlane {
  const { storedColumns, columns, rows, coefficients, steps } = component;
  const stride = 8 * columns;
  const data = new Uint8Array(stride * 8 * rows);
  const clipped = new Uint8ClampedArray(data.buffer);
  const block = new Int32Array(64);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = 64 * (row * storedColumns + column);
      for (let i = 0; i < 64; i++) block[i] = coefficients[from + i] * steps![i];
      for (let i = 0; i < 8; i++) transform(block, i, 8, POINT - KEPT);
      for (let i = 0; i < 8; i++) transform(block, 8 * i, 1, POINT + KEPT + 3);
      const to = 8 * (row * stride + column);
      for (let i = 0; i < 64; i++) clipped[to + (i >> 3) * stride + (i & 7)] = block[i] + 128;
    }
  }
  component.coefficients = new Int16Array();
  return { data, stride, width, height };
}

/**
 * Row y of a plane, enlarged `across` and `down` times. Halved axes get a triangle filter, 3/4 of the sample that a pixel lies in and 1/4 of the one
 * that it is next to, where there are more than two samples in a row; other factors repeat samples.
 */
export function enlargedRow(plane: JpegPlane, y: number, across: number, down: number, out: Uint8ClampedArray): void {
  const { data, stride, width, height } = plane;
  const here = Math.floor(y / down) * stride;
  const smooth = down <= 2 && (across === 1 || (across === 2 && width > 2));
  if (!smooth || across * down === 1) {
    for (let x = 0; x < out.length; x++) out[x] = data[here + Math.floor(x / across)];
    return;
  }
  const next = Math.min(Math.max(Math.floor(y / down) + (y % 2 ? 1 : -1), 0), height - 1) * stride;
  const mixed = (x: number) => (down === 1 ? data[here + x] : 3 * data[here + x] + data[next + x]);
  for (let x = 0; x < out.length; x++) {
    if (across === 1) out[x] = (mixed(x) + (y % 2 ? 2 : 1)) >> 2;
    else {
      const other = mixed(Math.min(Math.max((x >> 1) + (x % 2 ? 1 : -1), 0), width - 1));
      const sum = 3 * mixed(x >> 1) + other;
      out[x] = down === 1 ? (sum + (x % 2 ? 2 : 1)) >> 2 : (sum + (x % 2 ? 7 : 8)) >> 4;
    }
  }
}

const wide = (x: number): number => Math.round(x * 65536);
const [RED_OF_CR, GREEN_OF_CR, GREEN_OF_CB, BLUE_OF_CB] = [wide(1.402), wide(0.71414), wide(0.34414), wide(1.772)];

/** Rows of Y, Cb and Cr to R, G and B in place; 16-bit fixed point, rounded. (JFIF 1.02, page 3) */
export function toRgb([red, green, blue]: Uint8ClampedArray[]): void {
  for (let i = 0; i < red.length; i++) {
    const y = red[i];
    const cb = green[i] - 128;
    const cr = blue[i] - 128;
    red[i] = y + ((RED_OF_CR * cr + 32768) >> 16);
    green[i] = y + ((-GREEN_OF_CB * cb - GREEN_OF_CR * cr + 32768) >> 16);
    blue[i] = y + ((BLUE_OF_CB * cb + 32768) >> 16);
  }
}
