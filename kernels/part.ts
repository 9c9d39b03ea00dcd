/** part: consecutive elements of a tensor under a shape of their own, seen where they lie. A kernel with several results writes them one after the other. */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { describe, type Shape, showShape, sizeOf, type Tensor } from '../core/tensor.ts';

/** What a part's first element is a multiple of: adapters bind buffers from every 256th byte on. */
const ALIGNED = 64;

/** Where a part may begin behind one of so many elements. */
export const placeBehind = (size: number): number => ALIGNED * Math.ceil(size / ALIGNED);

/** The elements of x, f32, from `first` on, as a tensor of a shape. No data moves. Throws ShapeError. */
export function part(x: Tensor, first: number, shape: Shape): Tensor {
  if (first % ALIGNED || first + sizeOf(shape) > x.size || x.dtype !== 'f32')
    throw new ShapeError(`part: ${showShape(shape)} from ${first} on is no part of ${describe(x)}.`);
  return apply(partOp, { x }, { first, shape });
}

const partOp: Op<{ first: number; shape: Shape }, { x: Tensor }> = {
  name: 'part',
  infer: (_inputs, { shape }) => ({ shape, dtype: 'f32' }),
  begins: ({ first }) => 4 * first,
};
