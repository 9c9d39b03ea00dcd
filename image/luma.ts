/** The brightness of an image as a plane of numbers: what measures of sharpness, noise and structure look at. */
import type { Image } from './image.ts';

/** BT.601 luma in full range, 0.299 R + 0.587 G + 0.114 B: (height, width) f64, 0..255. */
export function luma({ data }: Pick<Image, 'data'>): Float64Array {
  const y = new Float64Array(data.length / 3);
  for (let i = 0; i < y.length; i++) y[i] = 0.299 * data[3 * i] + 0.587 * data[3 * i + 1] + 0.114 * data[3 * i + 2];
  return y;
}

/** A plane (height, width) at half its size, by the mean of 2 x 2 values; an odd last row or column is left out. */
export function halved(plane: Float64Array, width: number, height: number): Float64Array {
  const [w, h] = [width >> 1, height >> 1];
  const half = new Float64Array(w * h);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const i = 2 * y * width + 2 * x;
      half[y * w + x] = (plane[i] + plane[i + 1] + plane[i + width] + plane[i + width + 1]) / 4;
    }
  }
  return half;
}
