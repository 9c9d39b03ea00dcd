/**
 * gegluGradient: of y = value gelu(gate), the derivatives by value, g gelu(gate), and by gate, g value gelu'(gate), side by side.
 * g (..., H) f32; x (..., 2 H) f32 | f16, value then gate; dx (..., 2 H) f32.
 */
import { apply, type Op, width } from '../core/op.ts';
import { type DType, elementType, shader } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { activationWgsl } from './activation.ts';
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
    const count = sizeOf(g.shape) / loads;
    const half = g.shape[g.shape.length - 1] / loads;
    to.dispatch({
      shader: gegluGradientShader(loads, x.dtype),
      operands: { g, x, y: output },
      params: { count, half_width: half },
      threads: count,
    });
  },
};

function gegluGradientShader(loads: 1 | 4, x: DType) {
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  return shader({
    name: `gegluGradient ${x} x${loads}`,
    bindings: {
      g: { dtype: 'f32', width: loads },
      x: { dtype: x, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { count: 'u32', half_width: 'u32' },
    workgroup: 64,
    code: `
${activationWgsl(type)}
${slopeWgsl(type)}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let value = (id / p.half_width) * 2u * p.half_width + id % p.half_width;
  let gate = x_load(value + p.half_width);
  let g = g_load(id);
  y_store(value, g * gelu(gate));
  y_store(value + p.half_width, g * x_load(value) * gelu_slope(gate));
}`,
  });
}
