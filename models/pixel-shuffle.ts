/** Blocks of pixels become channels, in the order of `torch.nn.PixelUnshuffle`: as an operation, and of values on the host. */
import { ShapeError } from '../core/errors.ts';
import { describe, type Shape, type Tensor } from '../core/tensor.ts';
import { permute } from '../kernels/copy.ts';
import { reshape } from '../kernels/reshape.ts';

/** x (N, H, W, C) -> (N, H / r, W / r, C r r), channel c r r + dy r + dx. Throws ShapeError unless r divides the sides. */
export function pixelUnshuffle(x: Tensor, r: number): Tensor {
  const [n, h, w, c] = x.shape;
  if (h % r || w % r) throw new ShapeError(`pixelUnshuffle: ${r} does not divide the sides of ${describe(x)}.`);
  const rows = permute(reshape(x, [(n * h) / r, r, w / r, r * c]), [0, 2, 1, 3]);
  return reshape(permute(reshape(rows, [(n * h * w) / r ** 2, r * r, c]), [0, 2, 1]), [n, h / r, w / r, c * r * r]);
}

/** The same of values (N, H, W, C). */
export function unshuffled(x: Float32Array, [n, h, w, c]: Shape, r: number): Float32Array {
  const y = new Float32Array(x.length);
  let at = 0;
  for (let row = 0; row < n * h; row += r)
    for (let column = 0; column < w; column += r)
      for (let channel = 0; channel < c; channel++)
        for (let dy = 0; dy < r; dy++) for (let dx = 0; dx < r; dx++) y[at++] = x[((row + dy) * w + column + dx) * c + channel];
  return y;
}
