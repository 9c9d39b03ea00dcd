/**
 * gatherRows: y[i] = x[index[i]], rows of the last axis. Embedding look-ups and the pooled token.
 * x (R, C) f32 | f16; index (L) u32, each below R (checked by whoever makes the indices; a larger one reads the last row); y (L, C) f32.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op, width } from '../core/op.ts';
import { type DType, elementType, shader } from '../core/shader.ts';
import { describe, type Tensor } from '../core/tensor.ts';
import { scatterRows } from './gather-rows-gradient.ts';

/** Rows of x (R, C) chosen by index (L) u32. -> (L, C). Throws ShapeError. */
export function gatherRows(x: Tensor, index: Tensor): Tensor {
  return apply(gatherRowsOp, { x, index }, null);
}

export const gatherRowsOp: Op<null, { x: Tensor; index: Tensor }> = {
  name: 'gatherRows',
  integers: true,

  infer({ x, index }) {
    if (x.shape.length !== 2 || index.shape.length !== 1 || index.dtype !== 'u32') {
      throw new ShapeError(
        `gatherRows: x must be (rows, columns) and index (length) u32, not ${describe(x)} and ${describe(index)} ${index.dtype}.`,
      );
    }
    return { shape: [index.shape[0], x.shape[1]], dtype: 'f32' };
  },

  lower({ x, index }, output, _attrs, to) {
    const loads = width(x.shape);
    const columns = x.shape[1] / loads;
    const threads = index.shape[0] * columns;
    to.dispatch({
      shader: gatherRowsShader(loads, x.dtype),
      operands: { x, index, y: output },
      params: { count: threads, columns, rows: x.shape[0] },
      threads,
    });
  },

  gradient({ source }, upstream) {
    const { x, index } = source.inputs;
    return { x: scatterRows(upstream, index, x.shape[0]), index: null };
  },
};

function gatherRowsShader(loads: 1 | 4, x: DType) {
  return shader({
    name: `gatherRows ${x} x${loads}`,
    bindings: {
      x: { dtype: x, width: loads },
      index: { dtype: 'u32', width: 1 },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { count: 'u32', columns: 'u32', rows: 'u32' },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let row = min(index_load(id / p.columns), p.rows - 1u);
  y_store(id, ${elementType({ dtype: 'f32', width: loads })}(x_load(row * p.columns + id % p.columns)));
}`,
  });
}
