/**
 * reduce: y[r] = sum, mean or maximum of a row of x. Other axes are reduced by permuting them last.
 * x (..., L) f32 | f16; y (...) f32. Accumulates in f32, in 64 strided parts and a tree.
 */
import { UserError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { type DType, shader } from '../core/shader.ts';
import { describe, sizeOf, type Tensor } from '../core/tensor.ts';
import { repeat } from './copy.ts';
import { reshape } from './reshape.ts';
import { ROW_THREADS, rowTree } from './rows.ts';
import { affine } from './unary.ts';

type ReduceFunction = 'sum' | 'mean' | 'max';

const reduce = (fn: ReduceFunction) => (x: Tensor) => apply(reduceOp, { x }, { fn });

/** Sum over the last axis; (L) gives (1). */
export const sum = reduce('sum');
export const mean = reduce('mean');
export const max = reduce('max');

export const reduceOp: Op<{ fn: ReduceFunction }, { x: Tensor }> = {
  name: 'reduce',

  infer({ x }) {
    return { shape: x.shape.length > 1 ? x.shape.slice(0, -1) : [1], dtype: 'f32' };
  },

  lower({ x }, output, { fn }, to) {
    const rows = sizeOf(output.shape);
    const columns = sizeOf(x.shape) / rows;
    to.dispatch({
      shader: reduceShader(x.dtype, fn === 'max'),
      operands: { x, y: output },
      params: { rows, columns, factor: fn === 'mean' ? 1 / columns : 1 },
      threads: rows * ROW_THREADS,
    });
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x } = inputs;
    const length = x.shape[x.shape.length - 1];
    if (attrs.fn === 'max') throw new UserError(`gradient: no rule for the maximum of ${describe(x)}.`);
    const each = attrs.fn === 'mean' ? affine(upstream, 1 / length, 0) : upstream;
    return { x: repeat(reshape(each, [...x.shape.slice(0, -1), 1]), -1, length) };
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
  var part = ${isMax ? '-3.4e38' : '0.0'};
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { part = ${combine('part', 'x_load(row * p.columns + c)')}; }
  let total = combine_all(local, part);
  if (local == 0u && group < p.rows) { y_store(row, total * p.factor); }
}`,
  });
}
