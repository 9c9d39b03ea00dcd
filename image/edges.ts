/** Where a picture is flat: the weights of DiffBIR's restoration guidance. (arXiv 2308.15070, sec. 3.3) */
import type { FloatImage } from './image.ts';

/**
 * 1 in flat regions, towards 0 at edges, equal within blocks of 2x2 pixels: 1 - tanh of the sum of Sobel's gradient magnitudes over a block. Of the grey
 * values of an RGB picture in [0, 1] with even sides; the border pixel is repeated. f64 (height, width)
 */
export function flatness({ width, height, data }: FloatImage): Float64Array {
  const grey = Float64Array.from(
    { length: width * height },
    (_, i) => 0.2989 * data[3 * i] + 0.587 * data[3 * i + 1] + 0.114 * data[3 * i + 2],
  );
  const at = (x: number, y: number) => grey[Math.min(Math.max(y, 0), height - 1) * width + Math.min(Math.max(x, 0), width - 1)];
  const magnitude = (x: number, y: number) => {
    const [n, s, w, e] = [y - 1, y + 1, x - 1, x + 1];
    const across = at(e, n) + 2 * at(e, y) + at(e, s) - at(w, n) - 2 * at(w, y) - at(w, s);
    const down = at(w, s) + 2 * at(x, s) + at(e, s) - at(w, n) - 2 * at(x, n) - at(e, n);
    return Math.hypot(across, down);
  };
  const weights = new Float64Array(width * height);
  for (let y = 0; y < height; y += 2) {
    for (let x = 0; x < width; x += 2) {
      const sum = magnitude(x, y) + magnitude(x + 1, y) + magnitude(x, y + 1) + magnitude(x + 1, y + 1);
      const flat = 1 - Math.tanh(sum);
      for (const i of [y * width + x, y * width + x + 1, (y + 1) * width + x, (y + 1) * width + x + 1]) weights[i] = flat;
    }
  }
  return weights;
}
