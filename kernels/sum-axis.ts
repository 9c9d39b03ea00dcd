/**
 * sumAxis: y[o, i] = sum over k of x[o, k, i], one axis of x summed away where it stands; `lowerAlongAxis` takes the maximum too. What broadcasting, repetition and biases need in
 * their gradients.
 * x f32 | f16, seen as (outer, length, inner); y f32. Accumulates in f32. Long axes are cut into slices, whose sums a second dispatch adds up.
 */
import { apply, type Lowering, type Op, type Operand } from '../core/op.ts';
import { type DType, elementType, shader } from '../core/shader.ts';
import { type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { reshape } from './reshape.ts';

/** Elements that one thread adds up at most. */
const PER_THREAD = 64;

/** The axis (negative axes count from the last) is kept with size 1. */
export function sumAxis(x: Tensor, axis: number): Tensor {
  const at = axis < 0 ? axis + x.shape.length : axis;
  return x.shape[at] === 1 ? x : apply(sumAxisOp, { x }, { axis: at });
}

/** Sums x over the axes in which `shape` has 1 or nothing, the reverse of broadcasting `shape` to x. -> shape */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  const missing = x.shape.length - shape.length;
  const summed = x.shape.reduce((y, size, axis) => (size !== 1 && (shape[axis - missing] ?? 1) === 1 ? sumAxis(y, axis) : y), x);
  return summed.shape.length === shape.length ? summed : reshape(summed, shape);
}

/** Sums x over all axes but the last. -> shape, which has as many elements as the last axis */
export function sumRows(x: Tensor, shape: Shape): Tensor {
  const columns = x.shape[x.shape.length - 1];
  return reshape(sumAxis(reshape(x, [x.size / columns, columns]), 0), shape);
}

export const sumAxisOp: Op<{ axis: number }, { x: Tensor }> = {
  name: 'sumAxis',

  infer({ x }, { axis }) {
    return { shape: x.shape.map((size, i) => (i === axis ? 1 : size)), dtype: 'f32' };
  },

  lower({ x }, output, { axis }, to) {
    const length = x.shape[axis];
    lowerAlongAxis(to, 'sum', x, output, sizeOf(x.shape.slice(0, axis)), length);
  },
};

type Combination = 'sum' | 'max';

/** Emits the dispatches that reduce x, (outer, length, inner), along its middle axis: y (outer, inner). */
export function lowerAlongAxis(to: Lowering, fn: Combination, x: Operand, y: Operand, outer: number, length: number): void {
  const slices = Math.ceil(length / PER_THREAD);
  if (slices === 1) {
    lowerSlices(to, fn, x, y, outer, length);
    return;
  }
  const partial = to.scratch(fn === 'sum' ? 'sums of slices' : 'maxima of slices', [outer, slices, sizeOf(y.shape) / outer]);
  lowerSlices(to, fn, x, partial, outer, length, slices);
  lowerSlices(to, fn, partial, y, outer, slices);
}

/** Emits the dispatch that sums `from`, (outer, length, inner), over its middle axis in `slices` parts: y (outer, slices, inner). */
export function lowerSum(to: Lowering, from: Operand, y: Operand, outer: number, length: number, slices = 1): void {
  lowerSlices(to, 'sum', from, y, outer, length, slices);
}

function lowerSlices(to: Lowering, fn: Combination, from: Operand, y: Operand, outer: number, length: number, slices = 1): void {
  const inner = sizeOf(y.shape) / outer / slices;
  const loads = inner % 4 === 0 ? 4 : 1;
  const threads = (outer * slices * inner) / loads;
  to.dispatch({
    shader: axisShader(fn, loads, from.dtype),
    operands: { x: from, y },
    params: { count: threads, inner: inner / loads, length, slices, per_slice: Math.ceil(length / slices) },
    threads,
  });
}

function axisShader(fn: Combination, loads: 1 | 4, x: DType) {
  const [zero, first] = [`${elementType({ dtype: 'f32', width: loads })}(0.0)`, 'x_load((base + first) * p.inner + column)'];
  const element = 'x_load((base + k) * p.inner + column)';
  return shader({
    name: `${fn}Axis ${x} x${loads}`,
    bindings: {
      x: { dtype: x, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { count: 'u32', inner: 'u32', length: 'u32', slices: 'u32', per_slice: 'u32' },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let column = id % p.inner;
  let row = id / p.inner;
  let first = (row % p.slices) * p.per_slice;
  let end = min(first + p.per_slice, p.length);
  let base = (row / p.slices) * p.length;
  var total = ${fn === 'sum' ? zero : first};
  for (var k = first; k < end; k++) { ${fn === 'sum' ? `total += ${element};` : `total = max(total, ${element});`} }
  y_store(id, total);
}`,
  });
}
