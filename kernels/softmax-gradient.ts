/**
 * softmaxGradient: dx = y (g - sum g y) along the last axis, y being softmax's result.
 * g, y, dx (..., L) f32.
 */
import { apply, type Op } from '../core/op.ts';
import type { ShaderSpec } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { ROW_THREADS, rowTree } from './rows.ts';

export function softmaxGradient(g: Tensor, y: Tensor): Tensor {
  return apply(softmaxGradientOp, [g, y], null);
}

export const softmaxGradientOp: Op<null> = {
  name: 'softmaxGradient',

  infer([, y]) {
    return { shape: y.shape, dtype: 'f32' };
  },

  lower([g, y], output, _attrs, to) {
    const columns = y.shape[y.shape.length - 1];
    const rows = sizeOf(y.shape) / columns;
    to.dispatch({ shader: softmaxGradientShader, operands: [g, y, output], params: [rows, columns], threads: rows * ROW_THREADS });
  },
};

const softmaxGradientShader: ShaderSpec = {
  name: 'softmaxGradient',
  bindings: [
    { name: 'g', dtype: 'f32', width: 1 },
    { name: 'y', dtype: 'f32', width: 1 },
    { name: 'dx', dtype: 'f32', width: 1, write: true },
  ],
  params: ['rows: u32', 'columns: u32'],
  workgroup: ROW_THREADS,
  code: `
${rowTree('sum', 'f32', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let row = min(group, p.rows - 1u) * p.columns;
  var part = 0.0;
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { part += g_load(row + c) * y_load(row + c); }
  let total = combine_sum(local, part);
  if (group >= p.rows) { return; }
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { dx_store(row + c, y_load(row + c) * (g_load(row + c) - total)); }
}`,
};
