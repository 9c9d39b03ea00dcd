/**
 * Layers, and adapters of them: y = act(x W^T + bias + t up^T) with t = scale (x down^T), the ranks of any number of adapters concatenated.
 * (Hu et al. 2021, arXiv 2106.09685) t is a layer of its own with `down` in place of W, whose result is multiplied by a scale for each rank; t and
 * up are further inputs of the layer, over which its kernel's sum goes on.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type OpTensor } from '../core/op.ts';
import { describe, type Shape, sameShape, showShape, type Tensor } from '../core/tensor.ts';
import { mul } from './binary.ts';

/** What a linear layer or a convolution reads. */
export type LayerInputs = {
  x: Tensor;
  w: Tensor;
  /** A value that is added to each column. */
  bias: Tensor | null;
  /** A factor on each column; not beside a bias. */
  scale: Tensor | null;
  /** Adapters: t (..., R) and up (O, R), both or none. */
  t: Tensor | null;
  up: Tensor | null;
  /** What is added to the result. */
  residual: Tensor | null;
};

/** The optional inputs, absent. */
export const BARE = { bias: null, scale: null, t: null, up: null, residual: null };

/** The result of a linear layer or a convolution. */
export type LayerTensor = OpTensor<unknown, LayerInputs>;

/** x through a layer of the same kind (linear, or a convolution of the same steps) with other weights, multiplied by scales (R) if any. -> (..., R) */
export function lowRankDown({ source: { op, attrs } }: LayerTensor, x: Tensor, down: Tensor, scale: Tensor | null): Tensor {
  return apply(op, { ...BARE, x, w: down, scale }, attrs);
}

/** A layer, as it was traced, with t (..., R) and up (O, R) added to it; R is a multiple of 4. Throws ShapeError. */
export function withLowRank({ source: { op, inputs, attrs } }: LayerTensor, t: Tensor, up: Tensor): Tensor {
  return apply(op, { ...inputs, t, up }, attrs);
}

/** Throws ShapeError unless t (..., R) and up (O, R), where there are adapters, fit a result (..., O). */
export function checkLowRank({ t, up }: LayerInputs, result: Shape): void {
  if (!t || !up) return;
  const rank = up.shape[1];
  const [outs, rows] = [result[result.length - 1], result.slice(0, -1)];
  if (!sameShape(up.shape, [outs, rank]) || rank % 4 || !sameShape(t.shape, [...rows, rank]) || t.dtype !== 'f32' || up.dtype !== 'f32') {
    throw new ShapeError(
      `An adapter of ${describe(t)} and ${describe(up)} does not fit a result ${showShape(result)}: (..., rank) and (columns, rank) in f32, the rank a multiple of 4.`,
    );
  }
}

/** The derivative by a layer's result before its columns are scaled. */
export function unscaled(upstream: Tensor, { scale }: LayerInputs): Tensor {
  return scale ? mul(upstream, scale) : upstream;
}
