/**
 * Adapters of linear layers and convolutions: y = act(x W^T + bias + t up^T) with t = scales (x down^T), the ranks of any number of adapters
 * one behind the other. (Hu et al. 2021, arXiv 2106.09685) t is a layer of its own with `down` in place of W, whose result is multiplied
 * by a scale for each rank; t and up are further operands of the layer, over which its kernel's sum goes on.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type OpTensor } from '../core/op.ts';
import { describe, type Shape, sameShape, showShape, type Tensor } from '../core/tensor.ts';
import { mul } from './binary.ts';

/** Which operands a layer has behind x and w, in this order: a value for each column, t and up, what is added to the result. */
export interface LayerAttrs {
  hasBias: boolean;
  /** The column values are multiplied by instead of added. */
  scaled: boolean;
  hasLowRank: boolean;
  hasResidual: boolean;
}

export function operandsOf<T>(inputs: readonly T[], { hasBias, hasLowRank, hasResidual }: LayerAttrs) {
  let at = 0;
  const next = () => inputs[at++];
  return {
    x: next(),
    w: next(),
    bias: hasBias ? next() : null,
    lowRank: hasLowRank ? { t: next(), up: next() } : null,
    residual: hasResidual ? next() : null,
  };
}

/** x through a layer of the same kind (linear, or a convolution of the same steps) with other weights, multiplied by scales (R) if any. -> (..., R) */
export function lowRankDown({ source: { op, attrs } }: OpTensor<unknown>, x: Tensor, down: Tensor, scales: Tensor | null): Tensor {
  const own: LayerAttrs = { hasBias: scales !== null, scaled: true, hasLowRank: false, hasResidual: false };
  return apply(op, scales ? [x, down, scales] : [x, down], { ...(attrs as object), ...own });
}

/** A layer, as it was traced, with t (..., R) and up (O, R) added to it; R is a multiple of 4. Throws ShapeError. */
export function withLowRank({ source: { op, inputs, attrs } }: OpTensor<unknown>, t: Tensor, up: Tensor): Tensor {
  return apply(op, [...inputs, t, up], { ...(attrs as LayerAttrs), hasLowRank: true });
}

/** Throws ShapeError unless t (..., R) and up (O, R) fit a result (..., O). */
export function checkLowRank({ t, up }: { t: Tensor; up: Tensor }, result: Shape): void {
  const rank = up.shape[1];
  const [outs, rows] = [result[result.length - 1], result.slice(0, -1)];
  if (!sameShape(up.shape, [outs, rank]) || rank % 4 || !sameShape(t.shape, [...rows, rank]) || t.dtype !== 'f32' || up.dtype !== 'f32') {
    throw new ShapeError(
      `An adapter of ${describe(t)} and ${describe(up)} does not fit a result ${showShape(result)}: (..., rank) and (columns, rank) in f32, the rank a multiple of 4.`,
    );
  }
}

/** The derivative by a layer's result before its columns are scaled. */
export function unscaled(upstream: Tensor, bias: Tensor | null, { scaled }: LayerAttrs): Tensor {
  return scaled && bias ? mul(upstream, bias) : upstream;
}
