/**
 * Broadcasting: axes are matched from the last, and an axis of size 1, or one that an operand lacks, repeats. (NumPy's rule) Kernels walk over at
 * most four axes; neighbours that all operands walk through without a gap count as one.
 */
import { ShapeError } from '../core/errors.ts';
import { sizeOf } from '../core/shape.ts';
import { describe, type Shape, type Tensor } from '../core/tensor.ts';

/** The shape that all operands broadcast to. Throws ShapeError. */
export function broadcastShape(name: string, operands: readonly Tensor[]): Shape {
  const rank = Math.max(...operands.map(({ shape }) => shape.length));
  const aligned = operands.map(({ shape }) => align(shape, rank));
  const result = aligned[0].map((_, axis) => aligned.map((shape) => shape[axis]).find((size) => size !== 1) ?? 1);
  const named = operands.map(describe).join(' and ');
  if (aligned.some((shape) => shape.some((size, axis) => size !== 1 && size !== result[axis])))
    throw new ShapeError(`${name}: ${named} do not broadcast.`);
  if (collapse(aligned, result).length > 4) throw new ShapeError(`${name}: ${named} broadcast over more than four separate axes.`);
  return result;
}

interface Axis {
  size: number;
  /** Elements from one index to the next, for each operand; 0 where it repeats. */
  steps: number[];
}

/** How a kernel walks over a result and what it is computed of: four axes, in loads of so many elements. */
export interface Walk {
  loads: 1 | 4;
  /** Loads of the result. */
  count: number;
  /** Sizes of the four axes in loads, and the steps of each operand along them. */
  sizes: number[];
  steps: number[][];
}

export function walkOver(operands: readonly { shape: Shape }[], result: Shape): Walk {
  const axes = collapse(
    operands.map(({ shape }) => align(shape, result.length)),
    result,
  );
  while (axes.length < 4) axes.unshift({ size: 1, steps: operands.map(() => 0) });
  const inner = axes[3];
  const loads = inner.size % 4 === 0 && inner.steps.every((step) => step === 1) ? 4 : 1;
  return {
    loads,
    count: sizeOf(result) / loads,
    sizes: axes.map(({ size }, i) => (i === 3 ? size / loads : size)),
    steps: operands.map((_, n) => axes.map(({ steps }, i) => (i === 3 ? steps[n] : steps[n] / loads))),
  };
}

function align(shape: Shape, rank: number): number[] {
  return [...new Array(rank - shape.length).fill(1), ...shape];
}

/** Axes of more than one index, neighbours merged where no operand has a gap between them. */
function collapse(operands: readonly number[][], result: Shape): Axis[] {
  const merged: Axis[] = [];
  const strides = operands.map(() => 1);
  for (let i = result.length - 1; i >= 0; i--) {
    const axis = { size: result[i], steps: operands.map((shape, n) => (shape[i] === 1 ? 0 : strides[n])) };
    operands.forEach((shape, n) => {
      strides[n] *= shape[i];
    });
    const next = merged[0];
    if (axis.size === 1) continue;
    if (next && axis.steps.every((step, n) => step === next.steps[n] * next.size)) next.size *= axis.size;
    else merged.unshift(axis);
  }
  return merged;
}
