/**
 * scatterRows: dx[r] = sum of g[i] over every i with index[i] = r, the reverse of gatherRows. Each row looks for its readers, so that the order
 * of the sum, and with it the result, is the same every time.
 * g (L, C) f32; index (L) u32; dx (R, C) f32.
 */
import { apply, type Op, width } from '../core/op.ts';
import { elementType, shader } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';

export function scatterRows(g: Tensor, index: Tensor, rows: number): Tensor {
  return apply(scatterRowsOp, { g, index }, { rows });
}

export const scatterRowsOp: Op<{ rows: number }, { g: Tensor; index: Tensor }> = {
  name: 'scatterRows',
  integers: true,

  infer({ g }, { rows }) {
    return { shape: [rows, g.shape[1]], dtype: 'f32' };
  },

  lower({ g, index }, output, { rows }, to) {
    const loads = width(g.shape);
    const threads = sizeOf(output.shape) / loads;
    to.dispatch({
      shader: scatterRowsShader(loads),
      operands: { g, index, y: output },
      params: { count: threads, columns: g.shape[1] / loads, rows, length: g.shape[0] },
      threads,
    });
  },
};

function scatterRowsShader(loads: 1 | 4) {
  return shader({
    name: `scatterRows x${loads}`,
    bindings: {
      g: { dtype: 'f32', width: loads },
      index: { dtype: 'u32', width: 1 },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { count: 'u32', columns: 'u32', rows: 'u32', length: 'u32' },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let row = id / p.columns;
  var total = ${elementType({ dtype: 'f32', width: loads })}(0.0);
  for (var i = 0u; i < p.length; i++) {
    if (min(index_load(i), p.rows - 1u) == row) { total += g_load(i * p.columns + id % p.columns); }
  }
  y_store(id, total);
}`,
  });
}
