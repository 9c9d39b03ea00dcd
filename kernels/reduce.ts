/**
 * reduce: sum, mean or maximum of x along an axis.
 * x f32 | f16, seen as (outer, length, inner); y (outer, inner) f32. Accumulates in f32: rows (inner = 1) in 64 strided parts and a tree, other axes
 * in slices (sum-axis.ts).
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { type DType, shader } from '../core/shader.ts';
import { describe, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { div, equal, mul } from './binary.ts';
import { repeat } from './copy.ts';
import { reshape } from './reshape.ts';
import { ROW_THREADS, rowTree } from './rows.ts';
import { lowerAlongAxis } from './sum-axis.ts';
import { affine } from './unary.ts';

interface ReduceOptions {
  /** The axis or axes to reduce; negative ones count from the last. Default the last. */
  axis?: number | readonly number[];
  /** Whether reduced axes stay, with size 1. Default: they go; where all go, the result is (1). */
  keep?: boolean;
}

type Reduce = (x: Tensor, options?: ReduceOptions) => Tensor;

/** Sum along an axis or several. Throws ShapeError where x has no such axis. */
export const sum: Reduce = (x, options) => along('sum', x, options);
/** Mean along an axis or several. Throws ShapeError where x has no such axis. */
export const mean: Reduce = (x, options) => along('mean', x, options);
/** Largest value along an axis or several; its derivative is shared evenly among equal ones. Throws ShapeError where x has no such axis. */
export const max: Reduce = (x, options) => along('max', x, options);

function along(fn: 'sum' | 'mean' | 'max', x: Tensor, { axis = -1, keep = false }: ReduceOptions = {}): Tensor {
  const rank = x.shape.length;
  const axes = [axis].flat().map((each) => (each < 0 ? each + rank : each));
  const odd = axes.findIndex((each, i) => !(each in x.shape) || axes.indexOf(each) !== i);
  if (odd >= 0) throw new ShapeError(`${fn}: ${describe(x)} has no axis ${[axis].flat()[odd]}, or it is named twice.`);
  let y = x;
  for (const each of axes) y = reduceAxis(fn, y, each);
  if (keep) return y;
  const rest = y.shape.filter((_, i) => !axes.includes(i));
  return reshape(y, rest.length > 0 ? rest : [1]);
}

/** The axis is kept with size 1. */
function reduceAxis(fn: 'sum' | 'mean' | 'max', x: Tensor, axis: number): Tensor {
  const { length } = viewed(x.shape, axis);
  if (fn !== 'mean') return apply(reduceOp, { x }, { fn, axis, factor: 1 });
  if (axis === x.shape.length - 1) return apply(reduceOp, { x }, { fn: 'sum', axis, factor: 1 / length });
  return affine(apply(reduceOp, { x }, { fn: 'sum', axis, factor: 1 }), 1 / length, 0);
}

function viewed(shape: Shape, axis: number) {
  return { outer: sizeOf(shape.slice(0, axis)), length: shape[axis], inner: sizeOf(shape.slice(axis + 1)) };
}

interface ReduceAttrs {
  fn: 'sum' | 'max';
  axis: number;
  /** On the sum of the last axis. */
  factor: number;
}

export const reduceOp: Op<ReduceAttrs, { x: Tensor }> = {
  name: 'reduce',

  infer({ x }, { axis }) {
    return { shape: x.shape.with(axis, 1), dtype: 'f32' };
  },

  lower({ x }, output, { fn, axis, factor }, to) {
    const { outer, length, inner } = viewed(x.shape, axis);
    if (inner > 1) lowerAlongAxis(to, fn, x, output, outer, length);
    else
      to.dispatch({
        shader: reduceShader(x.dtype, fn === 'max'),
        operands: { x, y: output },
        params: { rows: outer, columns: length, factor },
        threads: outer * ROW_THREADS,
      });
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x } = inputs;
    const { outer, length, inner } = viewed(x.shape, attrs.axis);
    const view = (tensor: Tensor, size: number) => reshape(tensor, [outer, size, inner]);
    if (attrs.fn === 'sum') return { x: reshape(repeat(view(affine(upstream, attrs.factor, 0), 1), 1, length), x.shape) };
    const largest = equal(view(x, length), view(apply(reduceOp, inputs, attrs), 1));
    const share = div(view(upstream, 1), apply(reduceOp, { x: largest }, { fn: 'sum', axis: 1, factor: 1 }));
    return { x: reshape(mul(largest, share), x.shape) };
  },
};

function reduceShader(x: DType, isMax: boolean) {
  const combine = (a: string, b: string) => (isMax ? `max(${a}, ${b})` : `${a} + ${b}`);
  return shader({
    name: `reduce ${isMax ? 'max' : 'sum'} ${x}`,
    bindings: {
      x: { dtype: x, width: 1 },
      y: { dtype: 'f32', width: 1, write: true },
    },
    params: { rows: 'u32', columns: 'u32', factor: 'f32' },
    workgroup: ROW_THREADS,
    code: `
${rowTree('all', 'f32', combine)}
fn run(id: u32, group: u32, local: u32) {
  let row = min(group, p.rows - 1u);
  var part = ${isMax ? 'x_load(row * p.columns + min(local, p.columns - 1u))' : '0.0'};
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { part = ${combine('part', 'x_load(row * p.columns + c)')}; }
  let total = combine_all(local, part);
  if (local == 0u && group < p.rows) { y_store(row, total * p.factor); }
}`,
  });
}
