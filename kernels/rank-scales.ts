/**
 * rankScales: a vector of scalars, each repeated: y = (f0 s0, f0 s0, ..., f1 s1, ...). The scales of stacked adapters, one for each of their
 * ranks; scalars of the program may change between runs. y (R) f32.
 */
import { apply, type Op } from '../core/op.ts';
import { constant, type Scalar, type Tensor } from '../core/tensor.ts';
import { lowerFill } from './fill.ts';

export interface RankScale {
  scale: Scalar;
  /** A factor on the scale that never changes. */
  factor: number;
  /** How often it is repeated. */
  rank: number;
}

/** -> (R), R the sum of ranks; null where every value is 1 and stays so. */
export function rankScales(scales: readonly RankScale[]): Tensor | null {
  if (scales.some(({ scale }) => typeof scale !== 'number')) return apply(rankScalesOp, {}, scales);
  const values = scales.flatMap(({ scale, factor, rank }) => new Array<number>(rank).fill((scale as number) * factor));
  return values.every((value) => value === 1) ? null : constant(Float32Array.from(values), [values.length]);
}

export const rankScalesOp: Op<readonly RankScale[], Record<never, never>> = {
  name: 'rankScales',

  infer(_inputs, scales) {
    return { shape: [scales.reduce((sum, { rank }) => sum + rank, 0)], dtype: 'f32' };
  },

  lower(_inputs, output, scales, to) {
    let first = 0;
    for (const { scale, factor, rank } of scales) {
      lowerFill(to, output, first, rank, scale, factor);
      first += rank;
    }
  },
};
