/** gradient: the derivatives of a loss by inputs, weights or intermediate results, as graph nodes; see core/gradient.ts. */
import { differentiation } from '../core/gradient.ts';
import { add } from './binary.ts';

/** gradient(of, wrt, { upstream, keep }) -> a derivative for each of `wrt`, f32 in its shape. Throws UserError. */
export const gradient = differentiation(add);
