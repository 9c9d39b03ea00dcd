/**
 * layerNormGradient: dx = s (h - mean(h) - n mean(h n)) + residual with h = g gamma, n = (x - mean) s, s = 1 / sqrt(var + eps), means over the last axis.
 * g (..., C) f32; x (..., C) f32 | f16; gamma (C) f32; dx and residual, which may be absent, (..., C) f32.
 */
import { apply, type Op, width } from '../core/op.ts';
import { type DType, elementType, remembered, shader, when } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { ROW_THREADS, rowAlone, rowTree } from './rows.ts';

export function layerNormGradient(g: Tensor, x: Tensor, gamma: Tensor, attrs: { eps: number }): Tensor {
  return apply(layerNormGradientOp, { g, x, gamma, residual: null }, attrs);
}

export const layerNormGradientOp: Op<{ eps: number }, { g: Tensor; x: Tensor; gamma: Tensor; residual: Tensor | null }> = {
  name: 'layerNormGradient',

  infer({ x }) {
    return { shape: x.shape, dtype: 'f32' };
  },

  lower({ g, x, gamma, residual }, output, { eps }, to) {
    const columns = x.shape[x.shape.length - 1];
    const rows = sizeOf(x.shape) / columns;
    const alone = to.facts.schedule === 'subgroup';
    const loads = width(x.shape);
    to.dispatch({
      shader: layerNormGradientShader(x.dtype, loads, alone, residual !== null),
      operands: { g, x, gamma, residual, y: output },
      params: { rows, columns: columns / loads, eps },
      threads: rows * (alone ? 1 : ROW_THREADS),
    });
  },
};

/** A workgroup, or a thread alone, has a row. */
const layerNormGradientShader = remembered((x: DType, loads: 1 | 4, alone: boolean, added: boolean) => {
  const type = elementType({ dtype: 'f32', width: loads });
  const total = (parts: string) => (loads === 4 ? `dot(${parts}, vec4<f32>(1.0))` : parts);
  const walk = `for (var c = ${alone ? '0u' : 'local'}; c < p.columns; c += ${alone ? 1 : ROW_THREADS}u)`;
  const combine = (name: string, kind: string) => (alone ? rowAlone(name, kind) : rowTree(name, kind, (a, b) => `${a} + ${b}`));
  return shader({
    name: `layerNormGradient ${x} x${loads}${added ? ' + residual' : ''}${alone ? ' alone' : ''}`,
    bindings: {
      g: { dtype: 'f32', width: loads },
      x: { dtype: x, width: loads },
      gamma: { dtype: 'f32', width: loads },
      ...when(added, { residual: { dtype: 'f32', width: loads } } as const),
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { rows: 'u32', columns: 'u32', eps: 'f32' },
    workgroup: ROW_THREADS,
    code: `
${combine('sum', 'f32')}
${combine('sums', 'vec2<f32>')}
fn run(id: u32, group: u32, local: u32) {
  let row = ${alone ? 'id' : 'group'};
  let at = min(row, p.rows - 1u) * p.columns;
  let count = f32(p.columns * ${loads}u);
  // About the first element, so that a large mean does not round the sum.
  let about = x_load(at)${loads === 4 ? '.x' : ''};
  var part = ${type}(0.0);
  ${walk} { part += x_load(at + c) - about; }
  let mean = about + combine_sum(local, ${total('part')}) / count;
  part = ${type}(0.0);
  ${walk} {
    let d = x_load(at + c) - mean;
    part += d * d;
  }
  let scale = 1.0 / sqrt(combine_sum(local, ${total('part')}) / count + p.eps);
  part = ${type}(0.0);
  var product = ${type}(0.0);
  ${walk} {
    let h = g_load(at + c) * gamma_load(c);
    part += h;
    product += h * (x_load(at + c) - mean);
  }
  let means = combine_sums(local, vec2<f32>(${total('part')}, ${total('product')} * scale)) / count;
  if (row >= p.rows) { return; }
  ${walk} {
    let dx = scale * (g_load(at + c) * gamma_load(c) - means.x - (x_load(at + c) - mean) * scale * means.y);
    y_store(at + c, dx${added ? ' + residual_load(at + c)' : ''});
  }
}`,
  });
});
