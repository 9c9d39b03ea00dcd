/** Pixels against channels: blocks of pixels become channels and back, as `torch.nn.PixelUnshuffle` and a transposed convolution order them. */
import { ShapeError } from '../core/errors.ts';
import { describe, type Tensor } from '../core/tensor.ts';
import { permute } from '../kernels/copy.ts';
import { reshape } from '../kernels/reshape.ts';

/** x (N, H, W, C) -> (N, H / r, W / r, C r r), channel c r r + dy r + dx. Throws ShapeError unless r divides the sides. */
export function pixelUnshuffle(x: Tensor, r: number): Tensor {
  const [n, h, w, c] = x.shape;
  if (h % r || w % r) throw new ShapeError(`pixelUnshuffle: ${r} does not divide the sides of ${describe(x)}.`);
  const rows = permute(reshape(x, [(n * h) / r, r, w / r, r * c]), [0, 2, 1, 3]);
  return reshape(permute(reshape(rows, [(n * h * w) / r ** 2, r * r, c]), [0, 2, 1]), [n, h / r, w / r, c * r * r]);
}

/** x (N, H, W, r r C), channel (dy r + dx) C + c -> (N, r H, r W, C). */
export function spread(x: Tensor, r: number): Tensor {
  const [n, h, w, channels] = x.shape;
  const c = channels / r ** 2;
  return reshape(permute(reshape(x, [n * h, w, r, r * c]), [0, 2, 1, 3]), [n, r * h, r * w, c]);
}
