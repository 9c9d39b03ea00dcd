/**
 * layerNorm: y = (x - mean) / sqrt(var + eps) * gamma + beta over the last axis. (Ba et al. 2016)
 * x (..., C) f32 | f16; gamma, beta (C) f32; y (..., C) f32. The variance is taken about the mean, so it cannot cancel.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op, width } from '../core/op.ts';
import { type DType, each, elementType, loopBelow, remembered, shader } from '../core/shader.ts';
import { constant, describe, sameShape, sizeOf, type Tensor } from '../core/tensor.ts';
import { mul } from './binary.ts';
import { layerNormGradient } from './layer-norm-gradient.ts';
import { ALONE_THREADS, ROW_THREADS, ROWS_ALONE, rowTree } from './rows.ts';
import { averageOf, declareMoments, meanOfMoments, takeIntoMoments } from './running-moments.ts';
import { sumRows } from './sum-axis.ts';

/** x (..., C), gamma and beta (C). -> x's shape. Throws ShapeError. */
export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-5): Tensor {
  return apply(layerNormOp, { x, gamma, beta }, { eps });
}

export const layerNormOp: Op<{ eps: number }, { x: Tensor; gamma: Tensor; beta: Tensor }> = {
  name: 'layerNorm',

  infer({ x, gamma, beta }) {
    const channels = x.shape.slice(-1);
    if ([gamma, beta].some(({ shape, dtype }) => !sameShape(shape, channels) || dtype !== 'f32'))
      throw new ShapeError(`layerNorm: ${describe(gamma)} and ${describe(beta)} must match the last axis of ${describe(x)} and be f32.`);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower({ x, gamma, beta }, output, { eps }, to) {
    const columns = x.shape[x.shape.length - 1];
    const rows = sizeOf(x.shape) / columns;
    const alone = to.facts.schedule === 'subgroup';
    const loads = width(x.shape);
    to.dispatch({
      shader: alone ? layerNormAloneShader(x.dtype, loads) : layerNormShader(x.dtype, loads),
      operands: { x, gamma, beta, y: output },
      params: { rows, columns: columns / loads, eps },
      threads: alone ? Math.ceil(rows / ROWS_ALONE) : rows * ROW_THREADS,
    });
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x, gamma, beta } = inputs;
    const one = constant(new Float32Array(gamma.size).fill(1), gamma.shape);
    const zero = constant(new Float32Array(gamma.size), gamma.shape);
    const normal = apply(layerNormOp, { x, gamma: one, beta: zero }, attrs);
    return {
      x: layerNormGradient(upstream, x, gamma, attrs),
      gamma: sumRows(mul(upstream, normal), gamma.shape),
      beta: sumRows(upstream, beta.shape),
    };
  },
};

/** A workgroup has a row. */
const layerNormShader = remembered((x: DType, loads: 1 | 4) => {
  const type = elementType({ dtype: 'f32', width: loads });
  const total = (parts: string) => (loads === 4 ? `dot(${parts}, vec4<f32>(1.0))` : parts);
  const walk = `for (var c = local; c < p.columns; c += ${ROW_THREADS}u)`;
  return shader({
    name: `layerNorm ${x} x${loads}`,
    bindings: {
      x: { dtype: x, width: loads },
      gamma: { dtype: 'f32', width: loads },
      beta: { dtype: 'f32', width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { rows: 'u32', columns: 'u32', eps: 'f32' },
    workgroup: ROW_THREADS,
    code: `
${rowTree('sum', 'f32', (a, b) => `${a} + ${b}`)}
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
  if (group >= p.rows) { return; }
  ${walk} { y_store(at + c, (x_load(at + c) - mean) * scale * gamma_load(c) + beta_load(c)); }
}`,
  });
});

/**
 * A thread alone reads its rows once for their moments.
 */
const layerNormAloneShader = remembered((x: DType, loads: 1 | 4) => {
  const type = elementType({ dtype: 'f32', width: loads });
  const average = averageOf(loads);
  const rows = (line: (i: number) => string) => each(ROWS_ALONE, line);
  return shader({
    ...layerNormShader(x, loads),
    name: `layerNorm ${x} x${loads} alone`,
    workgroup: ALONE_THREADS,
    code: `
fn run(id: u32, group: u32, local: u32) {
  let row = id * ${ROWS_ALONE}u;
  if (row >= p.rows) { return; }
  ${rows(
    (i) => `let at${i} = min(row + ${i}u, p.rows - 1u) * p.columns;
  let about${i} = ${average(`x_load(at${i})`)};
  ${declareMoments(type, i)}`,
  )}
  var n = 0.0;
  ${loopBelow(
    'c',
    'p.columns',
    `n += 1.0;
    ${rows(
      (i) => `let d${i} = x_load(at${i} + c) - about${i};
    ${takeIntoMoments(i)}`,
    )}`,
  )}
  ${rows(
    (i) => `${meanOfMoments(loads, i)}
  let variance${i} = ${average(`squares${i} / n + between${i} * between${i}`)};
  let scale${i} = 1.0 / sqrt(variance${i} + p.eps);`,
  )}
  ${loopBelow(
    'c',
    'p.columns',
    `let factor = gamma_load(c);
    let shift = beta_load(c);
    ${rows((i) => `y_store(at${i} + c, (x_load(at${i} + c) - about${i} - mean${i}) * scale${i} * factor + shift);`)}`,
  )}
}`,
  });
});
