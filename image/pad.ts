/** Padding to the right and below, up to multiples of a size. */
import type { FloatImage } from './image.ts';

/** zero: 0; replicate: the last pixel again; reflect: back from the last pixel, which is not repeated. */
export type Border = 'zero' | 'replicate' | 'reflect';

/** The image in the upper left corner of one whose sides are the next multiples of `multiple`. The same image where they are that already. */
export function padToMultiple(image: FloatImage, multiple: number, border: Border): FloatImage {
  const { width, height, channels, data } = image;
  const [toWidth, toHeight] = [width, height].map((side) => Math.ceil(side / multiple) * multiple);
  if (toWidth === width && toHeight === height) return image;
  const padded = new Float32Array(toWidth * toHeight * channels);
  for (let y = 0; y < toHeight; y++) {
    const fromY = source(y, height, border);
    for (let x = 0; x < toWidth; x++) {
      const fromX = source(x, width, border);
      if (fromY < 0 || fromX < 0) continue;
      const [to, from] = [(y * toWidth + x) * channels, (fromY * width + fromX) * channels];
      for (let c = 0; c < channels; c++) padded[to + c] = data[from + c];
    }
  }
  return { width: toWidth, height: toHeight, channels, data: padded };
}

/** Where a position beyond `length` takes its value from; -1 for zero. */
function source(at: number, length: number, border: Border): number {
  if (at < length) return at;
  if (border === 'zero') return -1;
  if (border === 'replicate' || length === 1) return length - 1;
  const period = 2 * (length - 1);
  const within = at % period;
  return within < length ? within : period - within;
}

/** The upper left corner of an image. */
export function cropTo(image: FloatImage, width: number, height: number): FloatImage {
  const { channels, data } = image;
  const cropped = new Float32Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    const from = y * image.width * channels;
    cropped.set(data.subarray(from, from + width * channels), y * width * channels);
  }
  return { width, height, channels, data: cropped };
}
