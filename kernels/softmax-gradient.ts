/**
 * softmaxGradient: dx = y (g - sum g y) along the last axis, y being softmax's result.
 * g, y, dx (..., L) f32.
 */
import { apply, type Op } from '../core/op.ts';
import { shader } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { ROW_THREADS, rowAlone, rowTree } from './rows.ts';

export function softmaxGradient(g: Tensor, y: Tensor): Tensor {
  return apply(softmaxGradientOp, { g, y }, null);
}

export const softmaxGradientOp: Op<null, { g: Tensor; y: Tensor }> = {
  name: 'softmaxGradient',

  infer({ y }) {
    return { shape: y.shape, dtype: 'f32' };
  },

  lower({ g, y }, output, _attrs, to) {
    const columns = y.shape[y.shape.length - 1];
    const rows = sizeOf(y.shape) / columns;
    const alone = to.facts.schedule === 'subgroup';
    to.dispatch({
      shader: softmaxGradientShader(alone),
      operands: { g, y, dx: output },
      params: { rows, columns },
      threads: rows * (alone ? 1 : ROW_THREADS),
    });
  },
};

/** A workgroup, or a thread alone, has a row. */
function softmaxGradientShader(alone: boolean) {
  const walk = `for (var c = ${alone ? '0u' : 'local'}; c < p.columns; c += ${alone ? 1 : ROW_THREADS}u)`;
  return shader({
    name: `softmaxGradient${alone ? ' alone' : ''}`,
    bindings: {
      g: { dtype: 'f32', width: 1 },
      y: { dtype: 'f32', width: 1 },
      dx: { dtype: 'f32', width: 1, write: true },
    },
    params: { rows: 'u32', columns: 'u32' },
    workgroup: ROW_THREADS,
    code: `
${alone ? rowAlone('sum', 'f32') : rowTree('sum', 'f32', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let row = ${alone ? 'id' : 'group'};
  let at = min(row, p.rows - 1u) * p.columns;
  var part = 0.0;
  ${walk} { part += g_load(at + c) * y_load(at + c); }
  let total = combine_sum(local, part);
  if (row >= p.rows) { return; }
  ${walk} { dx_store(at + c, y_load(at + c) * (g_load(at + c) - total)); }
}`,
  });
}
