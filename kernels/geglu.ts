/**
 * geglu: y = value gelu(gate), where the first half of x's last axis is the value and the second the gate. (Shazeer 2020; exact erf GELU)
 * x (..., 2 H) f32 | f16; y (..., H) f32.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op, width } from '../core/op.ts';
import { type DType, elementType, loopBelow, remembered, shader } from '../core/shader.ts';
import { describe, sizeOf, type Tensor } from '../core/tensor.ts';
import { activationWgsl } from './activation.ts';
import { gegluGradient } from './geglu-gradient.ts';
import { threadsOfRow } from './rows.ts';

/** x (..., 2 H) -> (..., H). Throws ShapeError when the last axis is odd. */
export function geglu(x: Tensor): Tensor {
  return apply(gegluOp, { x }, null);
}

export const gegluOp: Op<null, { x: Tensor }> = {
  name: 'geglu',

  infer({ x }) {
    const channels = x.shape[x.shape.length - 1];
    if (channels % 2) throw new ShapeError(`geglu: the last axis of ${describe(x)} must be even.`);
    return { shape: [...x.shape.slice(0, -1), channels / 2], dtype: 'f32' };
  },

  lower({ x }, output, _attrs, to) {
    const loads = width(output.shape);
    const half = output.shape[output.shape.length - 1] / loads;
    const rows = sizeOf(output.shape) / loads / half;
    const threads = threadsOfRow(to.facts);
    to.dispatch({
      shader: gegluShader(loads, x.dtype, threads),
      operands: { x, y: output },
      params: { rows, half_width: half },
      threads: rows * threads,
    });
  },

  gradient({ source }, upstream) {
    return { x: gegluGradient(upstream, source.inputs.x) };
  },
};

/** A workgroup has a row: so no thread divides, which is dear. */
const gegluShader = remembered((loads: 1 | 4, x: DType, threads: number) => {
  return shader({
    name: `geglu ${x} x${loads}`,
    bindings: {
      x: { dtype: x, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { rows: 'u32', half_width: 'u32' },
    workgroup: threads,
    code: `
${activationWgsl(elementType({ dtype: 'f32', width: loads }) as 'f32')}
fn run(id: u32, group: u32, local: u32) {
  if (group >= p.rows) { return; }
  let value = group * 2u * p.half_width;
  ${loopBelow(
    'first',
    'p.half_width',
    `let c = first + local;
    if (c < p.half_width) { y_store(group * p.half_width + c, x_load(value + c) * gelu(x_load(value + p.half_width + c))); }`,
    `${threads}u`,
  )}
}`,
  });
});
