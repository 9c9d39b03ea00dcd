/** reshape: a view, which moves nothing. */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { describe, type Shape, showShape, sizeOf, type Tensor } from '../core/tensor.ts';

/** The same values under another shape of equal size. No data moves. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  if (sizeOf(shape) !== x.size) throw new ShapeError(`reshape: ${describe(x)} does not fit into ${showShape(shape)}.`);
  return apply(reshapeOp, { x }, { shape });
}

export const reshapeOp: Op<{ shape: Shape }, { x: Tensor }> = {
  name: 'reshape',
  integers: true,
  infer: ({ x }, { shape }) => ({ shape, dtype: x.dtype }),
  gradient: ({ source }, upstream) => ({ x: reshape(upstream, source.inputs.x.shape) }),
};
