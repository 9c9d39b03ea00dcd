/**
 * layerNorm: y = (x - mean) / sqrt(var + eps) * gamma + beta over the last axis. (Ba et al. 2016)
 * x (..., C) f32 | f16; gamma, beta (C) f32; y (..., C) f32. The variance is taken about the mean in a second read, so it cannot cancel.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import type { DType, ShaderSpec } from '../core/shader.ts';
import { constant, describe, sameShape, sizeOf, type Tensor } from '../core/tensor.ts';
import { mul } from './binary.ts';
import { layerNormGradient } from './layer-norm-gradient.ts';
import { ROW_THREADS, rowTree } from './rows.ts';
import { sumRows } from './sum-axis.ts';

/** x (..., C), gamma and beta (C). -> x's shape. Throws ShapeError. */
export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-5): Tensor {
  return apply(layerNormOp, [x, gamma, beta], { eps });
}

export const layerNormOp: Op<{ eps: number }> = {
  name: 'layerNorm',

  infer([x, gamma, beta]) {
    const channels = x.shape.slice(-1);
    if ([gamma, beta].some(({ shape, dtype }) => !sameShape(shape, channels) || dtype !== 'f32'))
      throw new ShapeError(`layerNorm: ${describe(gamma)} and ${describe(beta)} must match the last axis of ${describe(x)} and be f32.`);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower([x, gamma, beta], output, { eps }, to) {
    const columns = x.shape[x.shape.length - 1];
    const rows = sizeOf(x.shape) / columns;
    to.dispatch({
      shader: layerNormShader(x.dtype),
      operands: [x, gamma, beta, output],
      params: [rows, columns, eps],
      threads: rows * ROW_THREADS,
    });
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const [x, gamma, beta] = inputs;
    const one = constant(new Float32Array(gamma.size).fill(1), gamma.shape);
    const zero = constant(new Float32Array(gamma.size), gamma.shape);
    const normal = apply(layerNormOp, [x, one, zero], attrs);
    return [layerNormGradient(upstream, x, gamma, attrs), sumRows(mul(upstream, normal), gamma.shape), sumRows(upstream, beta.shape)];
  },
};

function layerNormShader(x: DType): ShaderSpec {
  return {
    name: `layerNorm ${x}`,
    bindings: [
      { name: 'x', dtype: x, width: 1 },
      { name: 'gamma', dtype: 'f32', width: 1 },
      { name: 'beta', dtype: 'f32', width: 1 },
      { name: 'y', dtype: 'f32', width: 1, write: true },
    ],
    params: ['rows: u32', 'columns: u32', 'eps: f32'],
    workgroup: ROW_THREADS,
    code: `
${rowTree('sum', 'f32', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let row = min(group, p.rows - 1u) * p.columns;
  var part = 0.0;
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { part += x_load(row + c); }
  let mean = combine_sum(local, part) / f32(p.columns);
  part = 0.0;
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) {
    let d = x_load(row + c) - mean;
    part += d * d;
  }
  let scale = 1.0 / sqrt(combine_sum(local, part) / f32(p.columns) + p.eps);
  if (group >= p.rows) { return; }
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) {
    y_store(row + c, (x_load(row + c) - mean) * scale * gamma_load(c) + beta_load(c));
  }
}`,
  };
}
