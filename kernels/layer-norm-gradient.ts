/**
 * layerNormGradient: dx = s (h - mean(h) - n mean(h n)) with h = g gamma, n = (x - mean) s, s = 1 / sqrt(var + eps), means over the last axis.
 * g (..., C) f32; x (..., C) f32 | f16; gamma (C) f32; dx (..., C) f32.
 */
import { apply, type Op } from '../core/op.ts';
import type { DType, ShaderSpec } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { ROW_THREADS, rowTree } from './rows.ts';

export function layerNormGradient(g: Tensor, x: Tensor, gamma: Tensor, attrs: { eps: number }): Tensor {
  return apply(layerNormGradientOp, [g, x, gamma], attrs);
}

export const layerNormGradientOp: Op<{ eps: number }> = {
  name: 'layerNormGradient',

  infer([, x]) {
    return { shape: x.shape, dtype: 'f32' };
  },

  lower([g, x, gamma], output, { eps }, to) {
    const columns = x.shape[x.shape.length - 1];
    const rows = sizeOf(x.shape) / columns;
    to.dispatch({
      shader: layerNormGradientShader(x.dtype),
      operands: [g, x, gamma, output],
      params: [rows, columns, eps],
      threads: rows * ROW_THREADS,
    });
  },
};

function layerNormGradientShader(x: DType): ShaderSpec {
  return {
    name: `layerNormGradient ${x}`,
    bindings: [
      { name: 'g', dtype: 'f32', width: 1 },
      { name: 'x', dtype: x, width: 1 },
      { name: 'gamma', dtype: 'f32', width: 1 },
      { name: 'y', dtype: 'f32', width: 1, write: true },
    ],
    params: ['rows: u32', 'columns: u32', 'eps: f32'],
    workgroup: ROW_THREADS,
    code: `
${rowTree('sum', 'f32', (a, b) => `${a} + ${b}`)}
${rowTree('sums', 'vec2<f32>', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let row = min(group, p.rows - 1u) * p.columns;
  let count = f32(p.columns);
  var part = 0.0;
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) { part += x_load(row + c); }
  let mean = combine_sum(local, part) / count;
  part = 0.0;
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) {
    let d = x_load(row + c) - mean;
    part += d * d;
  }
  let scale = 1.0 / sqrt(combine_sum(local, part) / count + p.eps);
  var parts = vec2<f32>(0.0);
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) {
    let h = g_load(row + c) * gamma_load(c);
    parts += vec2<f32>(h, h * (x_load(row + c) - mean) * scale);
  }
  let means = combine_sums(local, parts) / count;
  if (group >= p.rows) { return; }
  for (var c = local; c < p.columns; c += ${ROW_THREADS}u) {
    let n = (x_load(row + c) - mean) * scale;
    y_store(row + c, scale * (g_load(row + c) * gamma_load(c) - means.x - n * means.y));
  }
}`,
  };
}
