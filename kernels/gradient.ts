/** gradient: the derivatives of a loss by inputs, weights or intermediate results, as graph nodes; see core/gradient.ts. */
import { differentiation } from '../core/gradient.ts';
import { isOp } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { add } from './binary.ts';
import { areApart, partsOf, together, togetherOp } from './part.ts';

/** The sum of two derivatives; those by different parts of a tensor are laid one after the other. */
function sum(a: Tensor, b: Tensor): Tensor {
  if (!isOp(a, togetherOp) || !isOp(b, togetherOp)) return add(a, b);
  const parts = [...partsOf(a), ...partsOf(b)];
  return areApart(parts) ? together(parts, a.shape) : add(a, b);
}

/** gradient(of, wrt, { upstream, keep }) -> a derivative for each of `wrt`, f32 in its shape. Throws UserError. */
export const gradient = differentiation(sum);
