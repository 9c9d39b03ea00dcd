/** spread: zeros between the pixels of a map, which a strided convolution's derivative by its input is a convolution of. */
import type { Tensor } from '../core/tensor.ts';
import { pad, slice } from './copy.ts';
import { reshape } from './reshape.ts';

/** g (N, H, W, C) with stride - 1 zeros between pixels. -> (N, (H - 1) stride + 1, (W - 1) stride + 1, C) */
export function spread(g: Tensor, stride: number): Tensor {
  if (stride === 1) return g;
  const [n, h, w, c] = g.shape;
  const wide = reshape(
    pad(reshape(g, [n * h * w, 1, c]), [
      [0, 0],
      [0, stride - 1],
      [0, 0],
    ]),
    [n * h, 1, w * stride * c],
  );
  const high = reshape(
    pad(wide, [
      [0, 0],
      [0, stride - 1],
      [0, 0],
    ]),
    [n, h * stride, w * stride, c],
  );
  return slice(slice(high, 1, 0, (h - 1) * stride + 1), 2, 0, (w - 1) * stride + 1);
}
