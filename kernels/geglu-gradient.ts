/**
 * gegluGradient: of y = value gelu(gate), the derivatives by value, g gelu(gate), and by gate, g value gelu'(gate), side by side.
 * g (..., H) f32; x (..., 2 H) f32 | f16, value then gate; dx (..., 2 H) f32.
 */
import { apply, type Op, width } from '../core/op.ts';
import { type DType, elementType, loopBelow, remembered, shader } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { activationWgsl } from './activation.ts';
import { threadsOfRow } from './rows.ts';
import { slopeWgsl } from './unary-gradient.ts';

export function gegluGradient(g: Tensor, x: Tensor): Tensor {
  return apply(gegluGradientOp, { g, x }, null);
}

export const gegluGradientOp: Op<null, { g: Tensor; x: Tensor }> = {
  name: 'gegluGradient',

  infer({ x }) {
    return { shape: x.shape, dtype: 'f32' };
  },

  lower({ g, x }, output, _attrs, to) {
    const loads = width(g.shape);
    const half = g.shape[g.shape.length - 1] / loads;
    const rows = sizeOf(g.shape) / loads / half;
    const threads = threadsOfRow(to.facts);
    to.dispatch({
      shader: gegluGradientShader(loads, x.dtype, threads),
      operands: { g, x, y: output },
      params: { rows, half_width: half },
      threads: rows * threads,
    });
  },
};

/** A workgroup has a row, as in geglu.ts. */
const gegluGradientShader = remembered((loads: 1 | 4, x: DType, threads: number) => {
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  return shader({
    name: `gegluGradient ${x} x${loads}`,
    bindings: {
      g: { dtype: 'f32', width: loads },
      x: { dtype: x, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { rows: 'u32', half_width: 'u32' },
    workgroup: threads,
    code: `
${activationWgsl(type)}
${slopeWgsl(type)}
fn run(id: u32, group: u32, local: u32) {
  if (group >= p.rows) { return; }
  ${loopBelow(
    'first',
    'p.half_width',
    `let c = first + local;
    if (c < p.half_width) {
      let value = group * 2u * p.half_width + c;
      let gate = x_load(value + p.half_width);
      let g = g_load(group * p.half_width + c);
      let slopes = gelu_and_slope(gate);
      y_store(value, g * gate * slopes[0]);
      y_store(value + p.half_width, g * x_load(value) * slopes[1]);
    }`,
    `${threads}u`,
  )}
}`,
  });
});
