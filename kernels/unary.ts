/**
 * unary: y = f(x) elementwise, or y = scale x + shift with scalars that may change between runs.
 * x, y of one shape, f32 | f16. One pipeline for every function: which one is a uniform.
 */
import { apply, type Op } from '../core/op.ts';
import { type DType, elementType, remembered, shader } from '../core/shader.ts';
import { type Scalar, sizeOf, type Tensor } from '../core/tensor.ts';
import { activationWgsl } from './activation.ts';
import { runAlong } from './axes.ts';
import { tanhWgsl, trigonometryWgsl } from './functions.ts';
import { unaryGradient } from './unary-gradient.ts';

// The first four codes are those of activation.ts.
const FUNCTIONS = [
  'affine',
  'silu',
  'gelu',
  'quickGelu',
  'exp',
  'sigmoid',
  'tanh',
  'sqrt',
  'abs',
  'square',
  'cast',
  'log',
  'relu',
  'leakyRelu',
  'sin',
  'cos',
] as const;
export type UnaryFunction = (typeof FUNCTIONS)[number];

export interface UnaryAttrs {
  fn: UnaryFunction;
  scale: Scalar;
  shift: Scalar;
  dtype: DType;
}

const unary = (fn: Exclude<UnaryFunction, 'affine' | 'cast' | 'leakyRelu'>) => (x: Tensor) =>
  apply(unaryOp, { x }, { fn, scale: 1, shift: 0, dtype: 'f32' });

/** x sigmoid(x) */
export const silu = unary('silu');
/** x Phi(x), exact (erf) */
export const gelu = unary('gelu');
/** x sigmoid(1.702 x), CLIP-L's */
export const quickGelu = unary('quickGelu');
export const exp = unary('exp');
export const sigmoid = unary('sigmoid');
export const tanh = unary('tanh');
/** Of values >= 0. */
export const sqrt = unary('sqrt');
export const abs = unary('abs');
export const square = unary('square');

/** The natural logarithm, of values > 0. */
export const log = unary('log');
/** max(x, 0); its slope at 0 is taken as 0. */
export const relu = unary('relu');
/** Of radians, |x| up to 8192. */
export const sin = unary('sin');
export const cos = unary('cos');

/** x where x > 0, else slope x. */
export function leakyRelu(x: Tensor, slope: Scalar): Tensor {
  return apply(unaryOp, { x }, { fn: 'leakyRelu', scale: slope, shift: 0, dtype: 'f32' });
}

/** scale x + shift, with numbers or scalars of the program. */
export function affine(x: Tensor, scale: Scalar, shift: Scalar): Tensor {
  return apply(unaryOp, { x }, { fn: 'affine', scale, shift, dtype: 'f32' });
}

/** The same values stored as f16 or f32. */
export function cast(x: Tensor, dtype: 'f32' | 'f16'): Tensor {
  return apply(unaryOp, { x }, { fn: 'cast', scale: 1, shift: 0, dtype });
}

export const unaryOp: Op<UnaryAttrs, { x: Tensor }> = {
  name: 'unary',
  integers: true,

  infer({ x }, { dtype }) {
    return { shape: x.shape, dtype };
  },

  lower({ x }, output, { fn, scale, shift }, to) {
    // Rows do not matter here, and buffers end on whole words, so an f16 result may overrun into the padding.
    const size = sizeOf(x.shape);
    const loads = output.dtype === 'f16' || size % 4 === 0 ? 4 : 1;
    const all = Math.ceil(size / loads);
    const run = runAlong(all, all, to.facts);
    const count = all / run;
    to.dispatch({
      shader: unaryShader(loads, x.dtype, output.dtype),
      operands: { x, y: output },
      params: { count, run, fn_code: FUNCTIONS.indexOf(fn), scale, shift },
      threads: count,
    });
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x } = inputs;
    const { fn, scale } = attrs;
    if (x.dtype === 'u32') return { x: null };
    if (fn === 'affine') return { x: affine(upstream, scale, 0) };
    return { x: fn === 'cast' ? upstream : unaryGradient(upstream, x, fn, fn === 'leakyRelu' ? scale : 0) };
  },
};

const unaryShader = remembered((loads: 1 | 4, x: DType, y: DType) => {
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  return shader({
    name: `unary ${x} -> ${y} x${loads}`,
    bindings: {
      x: { dtype: x, width: loads },
      y: { dtype: y, width: loads, write: true },
    },
    params: { count: 'u32', run: 'u32', fn_code: 'u32', scale: 'f32', shift: 'f32' },
    workgroup: 64,
    code: `
${activationWgsl(type)}
${tanhWgsl(type)}
${trigonometryWgsl(type)}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  var i = id * p.run;
  let behind = i + p.run;
  loop {
    let x = ${type}(x_load(i));
    var v = x;
    switch (p.fn_code) {
      case 0u: { v = x * p.scale + p.shift; }
      case 1u: { v = silu(x); }
      case 2u: { v = gelu(x); }
      case 3u: { v = quickGelu(x); }
      case 4u: { v = exp(x); }
      case 5u: { v = sigmoid(x); }
      case 6u: { v = exact_tanh(x); }
      case 7u: { v = sqrt(x); }
      case 8u: { v = abs(x); }
      case 9u: { v = x * x; }
      case 11u: { v = log(x); }
      case 12u: { v = select(x, ${type}(0.0), x <= ${type}(0.0)); } // not max: a NaN stays one
      case 13u: { v = select(x, p.scale * x, x <= ${type}(0.0)); }
      case 14u: { v = sine(x); }
      case 15u: { v = cosine(x); }
      default: {}
    }
    y_store(i, v);
    continuing {
      i++;
      break if i >= behind;
    }
  }
}`,
  });
});
