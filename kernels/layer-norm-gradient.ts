/**
 * layerNormGradient: dx = s (h - mean(h) - n mean(h n)) + residual with h = g gamma, n = (x - mean) s, s = 1 / sqrt(var + eps), means over the last axis.
 * g (..., C) f32; x (..., C) f32 | f16; gamma (C) f32; dx and residual, which may be absent, (..., C) f32.
 */
import { apply, type Op, width } from '../core/op.ts';
import { type DType, each, elementType, loopBelow, remembered, shader, when } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { ALONE_THREADS, ROW_THREADS, ROWS_ALONE, rowTree } from './rows.ts';
import { averageOf, declareMoments, meanOfMoments, takeIntoMoments } from './running-moments.ts';

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
      shader: (alone ? aloneShader : sharedShader)(x.dtype, loads, residual !== null),
      operands: { g, x, gamma, residual, y: output },
      params: { rows, columns: columns / loads, eps },
      threads: alone ? Math.ceil(rows / ROWS_ALONE) : rows * ROW_THREADS,
    });
  },
};

const PARAMS = { rows: 'u32', columns: 'u32', eps: 'f32' } as const;

const bindings = (x: DType, loads: 1 | 4, added: boolean) =>
  ({
    g: { dtype: 'f32', width: loads },
    x: { dtype: x, width: loads },
    gamma: { dtype: 'f32', width: loads },
    ...when(added, { residual: { dtype: 'f32', width: loads } } as const),
    y: { dtype: 'f32', width: loads, write: true },
  }) as const;

const nameOf = (x: DType, loads: 1 | 4, added: boolean) => `layerNormGradient ${x} x${loads}${added ? ' + residual' : ''}`;

/** A workgroup has a row. */
const sharedShader = remembered((x: DType, loads: 1 | 4, added: boolean) => {
  const type = elementType({ dtype: 'f32', width: loads });
  const total = (parts: string) => (loads === 4 ? `dot(${parts}, vec4<f32>(1.0))` : parts);
  const walk = `for (var c = local; c < p.columns; c += ${ROW_THREADS}u)`;
  return shader({
    name: nameOf(x, loads, added),
    bindings: bindings(x, loads, added),
    params: PARAMS,
    workgroup: ROW_THREADS,
    code: `
${rowTree('sum', 'f32', (a, b) => `${a} + ${b}`)}
${rowTree('sums', 'vec2<f32>', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let at = min(group, p.rows - 1u) * p.columns;
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
  if (group >= p.rows) { return; }
  ${walk} {
    let dx = scale * (g_load(at + c) * gamma_load(c) - means.x - (x_load(at + c) - mean) * scale * means.y);
    y_store(at + c, dx${added ? ' + residual_load(at + c)' : ''});
  }
}`,
  });
});

/** A thread alone reads its rows once for all sums: means and squares of x go along as in layer-norm.ts, and h is multiplied by differences from a load. */
const aloneShader = remembered((x: DType, loads: 1 | 4, added: boolean) => {
  const type = elementType({ dtype: 'f32', width: loads });
  const average = averageOf(loads);
  const rows = (line: (i: number) => string) => each(ROWS_ALONE, line);
  return shader({
    name: `${nameOf(x, loads, added)} alone`,
    bindings: bindings(x, loads, added),
    params: PARAMS,
    workgroup: ALONE_THREADS,
    code: `
fn run(id: u32, group: u32, local: u32) {
  let row = id * ${ROWS_ALONE}u;
  if (row >= p.rows) { return; }
  ${rows(
    (i) => `let at${i} = min(row + ${i}u, p.rows - 1u) * p.columns;
  let about${i} = ${average(`x_load(at${i})`)};
  ${declareMoments(type, i)}
  var sum${i} = ${type}(0.0);
  var product${i} = ${type}(0.0);`,
  )}
  var n = 0.0;
  ${loopBelow(
    'c',
    'p.columns',
    `n += 1.0;
    let factor = gamma_load(c);
    ${rows(
      (i) => `let d${i} = x_load(at${i} + c) - about${i};
    ${takeIntoMoments(i)}
    let h${i} = g_load(at${i} + c) * factor;
    sum${i} += h${i};
    product${i} += h${i} * d${i};`,
    )}`,
  )}
  ${rows(
    (i) => `${meanOfMoments(loads, i)}
  let scale${i} = 1.0 / sqrt(${average(`squares${i} / n + between${i} * between${i}`)} + p.eps);
  let h_mean${i} = ${average(`sum${i} / n`)};
  let slope${i} = scale${i} * scale${i} * (${average(`product${i} / n`)} - h_mean${i} * mean${i});`,
  )}
  ${loopBelow(
    'c',
    'p.columns',
    `let factor = gamma_load(c);
    ${rows(
      (i) =>
        `y_store(at${i} + c, scale${i} * (g_load(at${i} + c) * factor - h_mean${i} - (x_load(at${i} + c) - about${i} - mean${i}) * slope${i})${added ? ` + residual_load(at${i} + c)` : ''});`,
    )}`,
  )}
}`,
  });
});
