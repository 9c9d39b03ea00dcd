/**
 * modulate: y = scale (x (1 + gamma) + beta) + (1 - scale) raw, the spatial feature transform of ZeroSFT with its blend by the control
 * scale. (SUPIR, arXiv 2401.13627, sec. 3.2; SFT: Wang et al. 2018)
 * x, gamma, beta, raw, y of one shape, f32; scale a scalar that may change between runs. A scale of exactly 0 returns raw's bits.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { elementType, remembered, shader } from '../core/shader.ts';
import { describe, type Scalar, sameShape, sizeOf, type Tensor } from '../core/tensor.ts';
import { addProduct, mul, sub } from './binary.ts';
import { affine } from './unary.ts';

/** All tensors of one shape. Throws ShapeError otherwise. */
export function modulate(x: Tensor, gamma: Tensor, beta: Tensor, raw: Tensor, scale: Scalar): Tensor {
  return apply(modulateOp, { x, gamma, beta, raw }, { scale });
}

export const modulateOp: Op<{ scale: Scalar }, { x: Tensor; gamma: Tensor; beta: Tensor; raw: Tensor }> = {
  name: 'modulate',

  infer(inputs) {
    const { x } = inputs;
    const odd = Object.values(inputs).find((tensor) => !sameShape(tensor.shape, x.shape) || tensor.dtype !== 'f32');
    if (odd) throw new ShapeError(`modulate: ${describe(odd)} ${odd.dtype} differs from ${describe(x)} f32.`);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower(inputs, output, { scale }, to) {
    const size = sizeOf(output.shape);
    const loads = size % 4 === 0 ? 4 : 1;
    to.dispatch({
      shader: modulateShader(loads),
      operands: { ...inputs, y: output },
      params: { count: size / loads, scale },
      threads: size / loads,
    });
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x, gamma } = inputs;
    // At a scale of 1, as in training, raw has no part in the result.
    const whole = attrs.scale === 1;
    const scaled = whole ? upstream : affine(upstream, attrs.scale, 0);
    return { x: addProduct(scaled, gamma), gamma: mul(scaled, x), beta: scaled, raw: whole ? null : sub(upstream, scaled) };
  },
};

/** WGSL of `modulate(x, gamma, beta, raw) -> y`, with the scale in p.scale. Where that is 0, x, gamma and beta may be infinite. */
export function modulationWgsl(type: 'f32' | 'vec4<f32>'): string {
  return `
fn modulate(x: ${type}, gamma: ${type}, beta: ${type}, raw: ${type}) -> ${type} {
  return select(p.scale * (x * (${type}(1.0) + gamma) + beta) + (1.0 - p.scale) * raw, raw, p.scale == 0.0);
}`;
}

const modulateShader = remembered((loads: 1 | 4) => {
  const read = { dtype: 'f32', width: loads } as const;
  return shader({
    name: `modulate x${loads}`,
    bindings: { x: read, gamma: read, beta: read, raw: read, y: { ...read, write: true } },
    params: { count: 'u32', scale: 'f32' },
    workgroup: 64,
    code: `
${modulationWgsl(elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>')}
fn run(id: u32, group: u32, local: u32) {
  if (id < p.count) { y_store(id, modulate(x_load(id), gamma_load(id), beta_load(id), raw_load(id))); }
}`,
  });
});
