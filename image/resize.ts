/**
 * Resizing as the programs around the published model do it: Pillow's on bytes (the network's input), torch's bicubic on floats (its output).
 * Both run the horizontal pass first. OpenCV's two are in resize-opencv.ts.
 */
import { checkSize, type FloatImage, type Image } from './image.ts';
import { borderTaps, cubic, type Filter, filterTaps, resample, type Taps } from './resample.ts';

const FRACTION_BITS = 22; // 32 - 8 bits of the pixel - 2 of headroom for the overshoot

/**
 * Pillow's `Image.resize`, bit for bit: antialiased, coefficients in 22-bit fixed point, rounded to bytes after each pass; a pass that changes
 * nothing is left out. Alpha is resized like a colour. UserError if the size is empty or above SIZE_LIMITS.
 */
export function resize(image: Image, width: number, height: number, filter: Filter): Image {
  checkSize(width, height, 'resize');
  const resizePlanes = (data: Uint8Array, channels: number): Uint8Array => {
    const rows = width === image.width ? data : resizeBytes(data, image.height, image.width, width, channels, filter);
    return height === image.height ? rows : resizeBytes(rows, 1, image.height, height, width * channels, filter);
  };
  const result: Image = { width, height, data: resizePlanes(image.data, 3).slice() };
  if (image.alpha) result.alpha = resizePlanes(image.alpha, 1).slice();
  return result;
}

/** One pass along the middle axis: data (outer, from, inner) u8 -> (outer, to, inner) u8. */
function resizeBytes(data: Uint8Array, outer: number, from: number, to: number, inner: number, filter: Filter): Uint8Array {
  const { taps, first, count, weights } = filterTaps(filter, from, to);
  const fixed = Int32Array.from(weights, (w) => Math.trunc(w * (1 << FRACTION_BITS) + (w < 0 ? -0.5 : 0.5)));
  const out = new Uint8ClampedArray(outer * to * inner);
  const sums = new Int32Array(inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < to; i++) {
      sums.fill(1 << (FRACTION_BITS - 1));
      for (let k = 0; k < count[i]; k++) {
        const weight = fixed[i * taps + k];
        const source = (o * from + first[i] + k) * inner;
        for (let c = 0; c < inner; c++) sums[c] += weight * data[source + c];
      }
      const target = (o * to + i) * inner;
      for (let c = 0; c < inner; c++) out[target + c] = sums[c] >> FRACTION_BITS;
    }
  }
  return new Uint8Array(out.buffer);
}

/**
 * torch's bicubic `interpolate` with align_corners false. Without antialias: a = -0.75, four taps, the border pixel repeated. With antialias:
 * a = -0.5, taps as Pillow's. UserError if the size is empty or above SIZE_LIMITS.
 */
export function resizeBicubic(x: FloatImage, width: number, height: number, options: { antialias?: boolean } = {}): FloatImage {
  checkSize(width, height, 'resizeBicubic');
  if (width === x.width && height === x.height) return { width, height, channels: x.channels, data: x.data.slice() }; // what the taps would give
  const table = options.antialias ? (from: number, to: number) => filterTaps('bicubic', from, to) : cubicTaps;
  return resample(x, table(x.width, width), table(x.height, height));
}

function cubicTaps(from: number, to: number): Taps {
  const place = (i: number) => ((i + 0.5) * from) / to - 0.5;
  const left = (i: number) => Math.floor(place(i)) - 1;
  return borderTaps(from, to, 4, 'replicate', left, (i) => [0, 1, 2, 3].map((k) => cubic(place(i) - left(i) - k, -0.75)));
}
