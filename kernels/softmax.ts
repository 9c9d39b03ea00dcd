/**
 * softmax: y = exp(x - max) / sum exp(x - max) along the last axis.
 * x (..., L) f32 | f16; y (..., L) f32. A row is never held: a workgroup reads it three times, a thread alone twice.
 */
import { apply, type Lowering, type Op, type Operand, width } from '../core/op.ts';
import { type DType, elementType, loopBelow, remembered, shader } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { ALONE_THREADS, ROW_THREADS, rowTree } from './rows.ts';
import { softmaxGradient } from './softmax-gradient.ts';

/** Softmax along the last axis. */
export function softmax(x: Tensor): Tensor {
  return apply(softmaxOp, { x }, null);
}

export const softmaxOp: Op<null, { x: Tensor }> = {
  name: 'softmax',

  infer({ x }) {
    return { shape: x.shape, dtype: 'f32' };
  },

  lower({ x }, output, _attrs, to) {
    lowerSoftmax(to, x, output, 1);
  },

  gradient(result, upstream) {
    return { x: softmaxGradient(upstream, result) };
  },
};

/** Softmax of scale x along the last axis, scale > 0. */
export function lowerSoftmax(to: Lowering, x: Operand, y: Operand, scale: number): void {
  const columns = x.shape[x.shape.length - 1];
  const rows = sizeOf(x.shape) / columns;
  if (to.facts.schedule === 'subgroup') {
    const loads = width(x.shape);
    const params = { rows, columns: columns / loads, scale };
    to.dispatch({ shader: softmaxAloneShader(x.dtype, loads), operands: { x, y }, params, threads: rows });
    return;
  }
  to.dispatch({ shader: softmaxShader(x.dtype), operands: { x, y }, params: { rows, columns, scale }, threads: rows * ROW_THREADS });
}

/** A workgroup has a row. */
const softmaxShader = remembered((x: DType) => {
  return shader({
    name: `softmax ${x}`,
    bindings: {
      x: { dtype: x, width: 1 },
      y: { dtype: 'f32', width: 1, write: true },
    },
    params: { rows: 'u32', columns: 'u32', scale: 'f32' },
    workgroup: ROW_THREADS,
    code: `
${rowTree('max', 'f32', (a, b) => `max(${a}, ${b})`)}
${rowTree('sum', 'f32', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let row = min(group, p.rows - 1u) * p.columns;
  var largest = -3.4e38;
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { largest = max(largest, x_load(row + c)); }
  largest = combine_max(local, largest);
  var part = 0.0;
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { part += exp(p.scale * (x_load(row + c) - largest)); }
  let total = combine_sum(local, part);
  if (group >= p.rows) { return; }
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { y_store(row + c, exp(p.scale * (x_load(row + c) - largest)) / total); }
}`,
  });
});

/** A thread has a row to itself: it takes in maximum and sum together, and scales what it has when a larger element comes (Milakov & Gimelshein 2018). */
const softmaxAloneShader = remembered((x: DType, loads: 1 | 4) => {
  const type = elementType({ dtype: 'f32', width: loads });
  const [any, most, total] =
    loads === 4
      ? ['any(v > most)', 'max(max(most.x, most.y), max(most.z, most.w))', `dot(sums, exp(p.scale * (most - largest)))`]
      : ['v > most', 'most', 'sums'];
  return shader({
    ...softmaxShader(x),
    name: `softmax ${x} x${loads} alone`,
    bindings: {
      x: { dtype: x, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    workgroup: ALONE_THREADS,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.rows) { return; }
  let at = id * p.columns;
  var most = ${type}(-3.4e38);
  var sums = ${type}(0.0);
  ${loopBelow(
    'c',
    'p.columns',
    `let v = ${type}(x_load(at + c));
    if (${any}) {
      let now = max(most, v);
      sums *= exp(p.scale * (most - now));
      most = now;
    }
    sums += exp(p.scale * (v - most));`,
  )}
  let largest = ${most};
  let total = ${total};
  ${loopBelow('c', 'p.columns', `y_store(at + c, exp(p.scale * (${type}(x_load(at + c)) - largest)) / total);`)}
}`,
  });
});
