/**
 * groupNorm: y = act((x - mean) / sqrt(var + eps) * gamma + beta) over each image's group of channels. (Wu & He 2018)
 * x (N, ..., C) f32 | f16, all middle axes together P pixels; gamma, beta (C) f32; groups divides C; y x's shape, f32. Accumulates in f32.
 * Instead of the activation, a modulation may follow (zero-sft.ts). x and the modulation's raw come whole or in parts.
 *
 * The moments of the groups (group-moments.ts), then the elementwise part, which alone is normalizeGroups: with known moments, an image can be
 * normalised that is only at hand in windows.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Lowering, type Op, type Operand } from '../core/op.ts';
import { type DType, elementType, type ShaderSpec } from '../core/shader.ts';
import { constant, describe, type Scalar, sameShape, sizeOf, type Tensor } from '../core/tensor.ts';
import { type Activation, activationWgsl } from './activation.ts';
import { mul } from './binary.ts';
import { channelSpans, loadsWithin, touched } from './channel-spans.ts';
import { checkGroups, groupMoments, lowerMoments } from './group-moments.ts';
import { groupNormGradient } from './group-norm-gradient.ts';
import { sumRows } from './sum-axis.ts';
import { modulationWgsl } from './zero-sft.ts';

interface Attrs {
  groups: number;
  eps: number;
  activation: Activation;
}

interface GroupNormAttrs extends Attrs {
  /** Scale of a modulation, whose gamma, beta and raw are the inputs behind the norm's own; null where there is none. */
  modulation: Scalar | null;
}

/** x (N, ..., C), gamma and beta (C). -> x's shape. Throws ShapeError. */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, groups: number, eps = 1e-5): Tensor {
  return apply(groupNormOp, [x, gamma, beta], { groups, eps, activation: 'none', modulation: null });
}

/** groupNorm with known moments (N, groups, 2), as groupMoments gives them. x (N, ..., C), gamma and beta (C). -> x's shape. Throws ShapeError. */
export function normalizeGroups(x: Tensor, moments: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-5): Tensor {
  return apply(normalizeGroupsOp, [x, moments, gamma, beta], { groups: moments.shape[1], eps, activation: 'none' });
}

export const groupNormOp: Op<GroupNormAttrs> = {
  name: 'groupNorm',
  inParts: [0, 5],

  infer([x, gamma, beta], { groups }) {
    checkGroups('groupNorm', x, groups);
    checkAffine('groupNorm', x, gamma, beta);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower([x, gamma, beta, ...modulation], output, attrs, to) {
    const moments = to.scratch('moments', [x.shape[0], attrs.groups, 2]);
    lowerMoments(to, x, moments, attrs.groups);
    lowerNormalize(to, [x, moments, gamma, beta, ...modulation], output, attrs, attrs.modulation);
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const [x, gamma, beta] = inputs;
    const moments = groupMoments(x, attrs.groups);
    const one = constant(new Float32Array(gamma.size).fill(1), gamma.shape);
    const zero = constant(new Float32Array(gamma.size), gamma.shape);
    return [
      groupNormGradient(upstream, x, moments, gamma, attrs.eps),
      sumRows(mul(upstream, normalizeGroups(x, moments, one, zero, attrs.eps)), gamma.shape),
      sumRows(upstream, beta.shape),
    ];
  },
};

export const normalizeGroupsOp: Op<Attrs> = {
  name: 'normalizeGroups',
  inParts: [0],

  infer([x, moments, gamma, beta], { groups }) {
    checkGroups('normalizeGroups', x, groups);
    checkAffine('normalizeGroups', x, gamma, beta);
    if (!sameShape(moments.shape, [x.shape[0], groups, 2]) || moments.dtype !== 'f32')
      throw new ShapeError(`normalizeGroups: ${describe(moments)} must be (${x.shape[0]}, groups, 2) f32 for ${describe(x)}.`);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower(inputs, output, attrs, to) {
    lowerNormalize(to, inputs, output, attrs, null);
  },
};

function checkAffine(name: string, x: Tensor, gamma: Tensor, beta: Tensor): void {
  const channels = x.shape[x.shape.length - 1];
  if ([gamma, beta].some(({ shape, dtype }) => !sameShape(shape, [channels]) || dtype !== 'f32'))
    throw new ShapeError(`${name}: ${describe(gamma)} and ${describe(beta)} must match the last axis of ${describe(x)} and be f32.`);
}

/** Pixels of a run that one thread normalises: few on GPUs, which want many threads. */
const RUN = { subgroup: 16, tiled: 4, matrix: 4 };

/** Inputs as normalizeGroups has them, then gamma, beta and raw of a modulation. */
function lowerNormalize(to: Lowering, inputs: Operand[], output: Operand, attrs: Attrs, modulation: Scalar | null): void {
  const [x, moments, gamma, beta, sftGamma, sftBeta, raw] = inputs;
  const { groups, eps, activation } = attrs;
  const [images] = x.shape;
  const channels = x.shape[x.shape.length - 1];
  const pixels = sizeOf(x.shape) / images / channels;
  const perGroup = channels / groups;
  const runs = Math.ceil(pixels / RUN[to.facts.schedule]);
  for (const { first, end, sources } of channelSpans(raw ? [x, raw] : [x])) {
    const sizes = [end - first, first, channels, ...sources.flatMap(({ stride, start }) => [stride, start])];
    const loads = loadsWithin(...sizes);
    const part = (operand: Operand) => touched(operand, end - first);
    const [source, rawSource] = sources.map(({ operand }) => operand);
    const threads = (images * runs * (end - first)) / loads;
    to.dispatch({
      shader: normalizeShader(loads, loads === 1 || perGroup % 4 === 0, source.dtype, activation, rawSource?.dtype),
      operands: [...[source, moments, part(gamma), part(beta)], ...(raw ? [part(sftGamma), part(sftBeta), rawSource] : []), part(output)],
      params: [
        ...[threads, groups, perGroup, pixels, runs, Math.ceil(pixels / runs), eps],
        ...sizes.map((size) => size / loads),
        ...(modulation === null ? [] : [modulation]),
      ],
      threads,
    });
  }
}

/** A thread has its channels of a run of pixels, so that it divides and reads what belongs to a channel only once. `raw`: with a modulation. */
function normalizeShader(loads: 1 | 4, sameGroup: boolean, x: DType, activation: Activation, raw?: DType): ShaderSpec {
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  const lane = (i: number) => `one(image, channel + ${i}u)`;
  const read = (name: string, dtype: DType = 'f32') => ({ name, dtype, width: loads });
  const step = raw ? `modulated, raw ${raw}` : activation === 'none' ? '' : activation;
  const normal = '(x_load(row * p.x_stride + p.x_start + column) - mean) * scale * factor + shift';
  const result = raw
    ? `modulate(${normal}, sft_gamma_load(i), sft_beta_load(i), raw_load(row * p.raw_stride + p.raw_start + column))`
    : `${activation === 'none' ? '' : activation}(${normal})`;
  return {
    name: `groupNorm apply ${x} x${loads}${sameGroup ? '' : ' across groups'}${step && ` ${step}`}`,
    bindings: [
      read('x', x),
      { name: 'moments', dtype: 'f32', width: 1 },
      read('gamma'),
      read('beta'),
      ...(raw ? [read('sft_gamma'), read('sft_beta'), read('raw', raw)] : []),
      { ...read('y'), write: true },
    ],
    params: [
      ...['count: u32', 'groups: u32', 'per_group: u32', 'pixels: u32', 'runs: u32', 'per_run: u32', 'eps: f32'],
      // In loads: the span's channels and its first, all channels, and where the span lies.
      ...['columns: u32', 'first: u32', 'y_stride: u32', 'x_stride: u32', 'x_start: u32'],
      ...(raw ? ['raw_stride: u32', 'raw_start: u32', 'scale: f32'] : []),
    ],
    workgroup: 64,
    code: `
${raw ? modulationWgsl(type) : activation === 'none' ? '' : activationWgsl(type)}
// Mean and 1 / std of the channel's group.
fn one(image: u32, channel: u32) -> vec2<f32> {
  let g = image * p.groups + channel / p.per_group;
  return vec2<f32>(moments_load(2u * g), 1.0 / sqrt(moments_load(2u * g + 1u) + p.eps));
}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let column = id % p.columns;
  let run_number = (id / p.columns) % p.runs;
  let image = id / (p.columns * p.runs);
  let c = p.first + column;
  let channel = c * ${loads}u;
  ${
    sameGroup
      ? `let m = one(image, channel);
  let mean = ${type}(m.x);
  let scale = ${type}(m.y);`
      : `let m0 = ${lane(0)}; let m1 = ${lane(1)}; let m2 = ${lane(2)}; let m3 = ${lane(3)};
  let mean = vec4<f32>(m0.x, m1.x, m2.x, m3.x);
  let scale = vec4<f32>(m0.y, m1.y, m2.y, m3.y);`
  }
  let factor = gamma_load(c);
  let shift = beta_load(c);
  let first = run_number * p.per_run;
  let end = min(first + p.per_run, p.pixels);
  for (var pixel = first; pixel < end; pixel++) {
    let row = image * p.pixels + pixel;
    let i = row * p.y_stride + c;
    y_store(i, ${result});
  }
}`,
  };
}
