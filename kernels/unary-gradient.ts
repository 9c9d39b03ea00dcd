/**
 * unaryGradient: dx = g f'(x) elementwise, for the functions of unary.ts; relu's and leakyRelu's slope at 0 is that below 0.
 * g f32 and x f32 | f16 of one shape; dx f32. One pipeline for every function: which one is a uniform.
 */
import { apply, type Op } from '../core/op.ts';
import { type DType, elementType, shader } from '../core/shader.ts';
import { type Scalar, sizeOf, type Tensor } from '../core/tensor.ts';
import { activationWgsl } from './activation.ts';
import { tanhWgsl, trigonometryWgsl } from './functions.ts';

const FUNCTIONS = [
  'silu',
  'gelu',
  'quickGelu',
  'exp',
  'sigmoid',
  'tanh',
  'sqrt',
  'abs',
  'square',
  'relu',
  'leakyRelu',
  'log',
  'sin',
  'cos',
] as const;
export type Sloped = (typeof FUNCTIONS)[number];

/** g f'(x); `slope` is leakyRelu's below 0. */
export function unaryGradient(g: Tensor, x: Tensor, fn: Sloped, slope: Scalar = 0): Tensor {
  return apply(unaryGradientOp, { g, x }, { fn, slope });
}

export const unaryGradientOp: Op<{ fn: Sloped; slope: Scalar }, { g: Tensor; x: Tensor }> = {
  name: 'unaryGradient',

  infer({ x }) {
    return { shape: x.shape, dtype: 'f32' };
  },

  lower({ g, x }, output, { fn, slope }, to) {
    const size = sizeOf(x.shape);
    const loads = size % 4 === 0 ? 4 : 1;
    to.dispatch({
      shader: unaryGradientShader(loads, x.dtype),
      operands: { g, x, y: output },
      params: { count: size / loads, fn_code: FUNCTIONS.indexOf(fn), slope },
      threads: size / loads,
    });
  },
};

/** WGSL of `gelu_and_slope(x)`, of which gelu(x) = x [0], and of `gelu_slope(x)`; needs activationWgsl's `erf_of`. */
export function slopeWgsl(type: 'f32' | 'vec4<f32>'): string {
  return `
fn gelu_and_slope(x: ${type}) -> array<${type}, 2> {
  let u = x * 0.70710678118654752;
  let e = exp(-u * u);
  let share = 0.5 * (${type}(1.0) + erf_of(u, e));
  return array<${type}, 2>(share, share + x * e * 0.39894228040143268);
}
fn gelu_slope(x: ${type}) -> ${type} { return gelu_and_slope(x)[1]; }`;
}

function unaryGradientShader(loads: 1 | 4, x: DType) {
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  return shader({
    name: `unaryGradient ${x} x${loads}`,
    bindings: {
      g: { dtype: 'f32', width: loads },
      x: { dtype: x, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { count: 'u32', fn_code: 'u32', slope: 'f32' },
    workgroup: 64,
    code: `
${activationWgsl(type)}
${slopeWgsl(type)}
${tanhWgsl(type)}
${trigonometryWgsl(type)}
fn slope(x: ${type}) -> ${type} {
  let one = ${type}(1.0);
  switch (p.fn_code) {
    case 0u: { let s = sigmoid(x); return s * (one + x * (one - s)); }
    case 1u: { return gelu_slope(x); }
    case 2u: { let s = sigmoid(1.702 * x); return s * (one + 1.702 * x * (one - s)); }
    case 3u: { return exp(x); }
    case 4u: { let s = sigmoid(x); return s * (one - s); }
    case 5u: { let t = exact_tanh(x); return one - t * t; }
    case 6u: { return 0.5 / sqrt(x); }
    case 7u: { return sign(x); }
    case 8u: { return 2.0 * x; }
    case 9u: { return select(${type}(0.0), one, x > ${type}(0.0)); }
    case 10u: { return select(${type}(p.slope), one, x > ${type}(0.0)); }
    case 11u: { return one / x; }
    case 12u: { return cosine(x); }
    default: { return -sine(x); }
  }
}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  y_store(id, g_load(id) * slope(x_load(id)));
}`,
  });
}
