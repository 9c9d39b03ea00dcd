/**
 * groupNorm: y = act((x - mean) / sqrt(var + eps) * gamma + beta) over each image's group of channels. (Wu & He 2018)
 * x (N, ..., C) f32 | f16, all middle axes together P pixels; gamma, beta (C) f32; groups divides C; y x's shape, f32. Accumulates in f32.
 *
 * Three dispatches: mean and squared deviations per (n, group, slice of pixels), the sums taken about the mean of 64 elements so that they
 * do not cancel; mean and variance per (n, group), by merging slices (Chan, Golub & LeVeque 1983); then the elementwise part. The first two
 * by themselves are groupMoments, the third is normalizeGroups: with these, an image can be normalised that is only at hand in parts.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, isOp, type Lowering, type Op, type Operand, type OpTensor, width } from '../core/op.ts';
import { type DType, elementType, type ShaderSpec } from '../core/shader.ts';
import { constant, describe, sameShape, sizeOf, type Tensor } from '../core/tensor.ts';
import { type Activation, activationWgsl } from './activation.ts';
import { mul } from './binary.ts';
import { groupNormGradient } from './group-norm-gradient.ts';
import { ROW_THREADS, rowTree } from './rows.ts';
import { sumRows } from './sum-axis.ts';
import { unaryOp } from './unary.ts';

interface Attrs {
  groups: number;
  eps: number;
  activation: Activation;
}

/** Elements that one thread of the first dispatch sums at most; more pixels make more slices. */
const PER_THREAD = 256;

/** x (N, ..., C), gamma and beta (C). -> x's shape. Throws ShapeError. */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, groups: number, eps = 1e-5): Tensor {
  return apply(groupNormOp, [x, gamma, beta], { groups, eps, activation: 'none' });
}

/** Mean and variance (divided by the count) of every group of x (N, ..., C). -> (N, groups, 2). Throws ShapeError. */
export function groupMoments(x: Tensor, groups: number): Tensor {
  return apply(groupMomentsOp, [x], { groups });
}

/** groupNorm with known moments (N, groups, 2), as groupMoments gives them. x (N, ..., C), gamma and beta (C). -> x's shape. Throws ShapeError. */
export function normalizeGroups(x: Tensor, moments: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-5): Tensor {
  return apply(normalizeGroupsOp, [x, moments, gamma, beta], { groups: moments.shape[1], eps, activation: 'none' });
}

export const groupNormOp: Op<Attrs> = {
  name: 'groupNorm',

  infer([x, gamma, beta], { groups }) {
    checkGroups('groupNorm', x, groups);
    checkAffine('groupNorm', x, gamma, beta);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower([x, gamma, beta], output, attrs, to) {
    const moments = to.scratch('moments', [x.shape[0], attrs.groups, 2]);
    lowerMoments(to, x, moments, attrs.groups);
    lowerNormalize(to, x, moments, gamma, beta, output, attrs);
  },

  absorb: (producer, consumer) => absorbActivation(groupNormOp, producer, consumer),

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

export const groupMomentsOp: Op<{ groups: number }> = {
  name: 'groupMoments',

  infer([x], { groups }) {
    checkGroups('groupMoments', x, groups);
    return { shape: [x.shape[0], groups, 2], dtype: 'f32' };
  },

  lower([x], output, { groups }, to) {
    lowerMoments(to, x, output, groups);
  },
};

export const normalizeGroupsOp: Op<Attrs> = {
  name: 'normalizeGroups',

  infer([x, moments, gamma, beta], { groups }) {
    checkGroups('normalizeGroups', x, groups);
    checkAffine('normalizeGroups', x, gamma, beta);
    if (!sameShape(moments.shape, [x.shape[0], groups, 2]) || moments.dtype !== 'f32')
      throw new ShapeError(`normalizeGroups: ${describe(moments)} must be (${x.shape[0]}, groups, 2) f32 for ${describe(x)}.`);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower([x, moments, gamma, beta], output, attrs, to) {
    lowerNormalize(to, x, moments, gamma, beta, output, attrs);
  },

  absorb: (producer, consumer) => absorbActivation(normalizeGroupsOp, producer, consumer),
};

function checkGroups(name: string, x: Tensor, groups: number): void {
  const channels = x.shape[x.shape.length - 1];
  if (x.shape.length < 2) throw new ShapeError(`${name}: x must be (N, ..., C), not ${describe(x)}.`);
  if (channels % groups) throw new ShapeError(`${name}: ${groups} groups do not divide the ${channels} channels of ${describe(x)}.`);
}

function checkAffine(name: string, x: Tensor, gamma: Tensor, beta: Tensor): void {
  const channels = x.shape[x.shape.length - 1];
  if ([gamma, beta].some(({ shape, dtype }) => !sameShape(shape, [channels]) || dtype !== 'f32'))
    throw new ShapeError(`${name}: ${describe(gamma)} and ${describe(beta)} must match the last axis of ${describe(x)} and be f32.`);
}

function absorbActivation(op: Op<Attrs>, producer: OpTensor<Attrs>, consumer: Tensor): Tensor | null {
  const { inputs, attrs } = producer.source;
  if (attrs.activation !== 'none' || !isOp(consumer, unaryOp)) return null;
  const { fn } = consumer.source.attrs;
  return fn === 'silu' || fn === 'gelu' || fn === 'quickGelu' ? apply(op, inputs, { ...attrs, activation: fn }) : null;
}

function lowerMoments(to: Lowering, x: Operand, moments: Operand, groups: number): void {
  const images = x.shape[0];
  const channels = x.shape[x.shape.length - 1];
  const pixels = sizeOf(x.shape) / images / channels;
  const perGroup = channels / groups;
  const alone = to.facts.schedule === 'subgroup';
  const threads = alone ? 1 : ROW_THREADS;
  const perSlice = Math.ceil(pixels / Math.ceil((pixels * perGroup) / (threads * PER_THREAD)));
  const slices = Math.ceil(pixels / perSlice);
  const partial = to.scratch('slice moments', [images * groups * slices, 2]);
  to.dispatch({
    shader: alone ? slicesAloneShader(x.dtype, perGroup % 4 === 0 ? 4 : 1) : slicesShader(x.dtype),
    operands: [x, partial],
    params: [images * groups * slices, slices, groups, perGroup, pixels, perSlice],
    threads: images * groups * slices * threads,
  });
  to.dispatch({
    shader: momentsShader,
    operands: [partial, moments],
    params: [images * groups, slices, perGroup, pixels, perSlice],
    threads: images * groups,
  });
}

/** Pixels of a run that one thread normalises: few on GPUs, which want many threads. */
const RUN = { subgroup: 16, tiled: 4, matrix: 4 };

function lowerNormalize(
  to: Lowering,
  x: Operand,
  moments: Operand,
  gamma: Operand,
  beta: Operand,
  output: Operand,
  { groups, eps, activation }: Attrs,
): void {
  const channels = x.shape[x.shape.length - 1];
  const pixels = sizeOf(x.shape) / x.shape[0] / channels;
  const perGroup = channels / groups;
  const loads = width(x.shape);
  const runs = Math.ceil(pixels / RUN[to.facts.schedule]);
  const threads = (x.shape[0] * runs * channels) / loads;
  to.dispatch({
    shader: normalizeShader(loads, perGroup % 4 === 0, x.dtype, activation),
    operands: [x, moments, gamma, beta, output],
    params: [threads, channels, groups, perGroup, pixels, runs, Math.ceil(pixels / runs), eps],
    threads,
  });
}

function slicesShader(x: DType): ShaderSpec {
  return {
    name: `groupNorm slices ${x}`,
    bindings: [
      { name: 'x', dtype: x, width: 1 },
      { name: 'partial', dtype: 'f32', width: 1, write: true },
    ],
    params: ['slots: u32', 'slices: u32', 'groups: u32', 'per_group: u32', 'pixels: u32', 'per_slice: u32'],
    workgroup: ROW_THREADS,
    code: `
${rowTree('sums', 'vec2<f32>', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let slot = min(group, p.slots - 1u);
  let g = slot / p.slices;
  let first = (slot % p.slices) * p.per_slice;
  let count = (min(first + p.per_slice, p.pixels) - first) * p.per_group;
  let channels = p.groups * p.per_group;
  let base = ((g / p.groups) * p.pixels + first) * channels + (g % p.groups) * p.per_group;
  let sample = min(local, count - 1u);
  let about = combine_sums(local, vec2<f32>(x_load(base + (sample / p.per_group) * channels + sample % p.per_group))).x / ${ROW_THREADS}.0;
  var part = vec2<f32>(0.0);
  for (var i = local; i < count; i += ${ROW_THREADS}u) {
    let d = x_load(base + (i / p.per_group) * channels + i % p.per_group) - about;
    part += vec2<f32>(d, d * d);
  }
  let total = combine_sums(local, part);
  if (local == 0u && group < p.slots) {
    let shift = total.x / f32(count);
    partial_store(2u * slot, about + shift);
    partial_store(2u * slot + 1u, max(total.y - total.x * shift, 0.0));
  }
}`,
  };
}

/** The same with a slice to a thread alone: small enough to be read twice, so that its mean is known before its squares are summed. */
function slicesAloneShader(x: DType, loads: 1 | 4): ShaderSpec {
  const type = elementType({ dtype: 'f32', width: loads });
  const total = (parts: string) => (loads === 4 ? `dot(${parts}, vec4<f32>(1.0))` : parts);
  const walk = (body: string) => `
  for (var pixel = first; pixel < end; pixel++) {
    for (var c = 0u; c < size; c++) {
      let v = x_load((image * p.pixels + pixel) * p.groups * size + (g % p.groups) * size + c);
      ${body}
    }
  }`;
  return {
    ...slicesShader(x),
    name: `groupNorm slices ${x} x${loads} alone`,
    bindings: [
      { name: 'x', dtype: x, width: loads },
      { name: 'partial', dtype: 'f32', width: 1, write: true },
    ],
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.slots) { return; }
  let g = id / p.slices;
  let image = g / p.groups;
  let first = (id % p.slices) * p.per_slice;
  let end = min(first + p.per_slice, p.pixels);
  let size = p.per_group / ${loads}u;
  var sum = ${type}(0.0);
  ${walk('sum += v;')}
  let mean = ${total('sum')} / f32((end - first) * p.per_group);
  var square = ${type}(0.0);
  ${walk('square += (v - mean) * (v - mean);')}
  partial_store(2u * id, mean);
  partial_store(2u * id + 1u, ${total('square')});
}`,
  };
}

const momentsShader: ShaderSpec = {
  name: 'groupNorm moments',
  bindings: [
    { name: 'partial', dtype: 'f32', width: 1 },
    { name: 'moments', dtype: 'f32', width: 1, write: true },
  ],
  params: ['count: u32', 'slices: u32', 'per_group: u32', 'pixels: u32', 'per_slice: u32'],
  workgroup: 64,
  code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  var elements = 0.0;
  var mean = 0.0;
  var square = 0.0;
  for (var i = 0u; i < p.slices; i++) {
    let slot = id * p.slices + i;
    let n = f32(min(p.per_slice, p.pixels - i * p.per_slice) * p.per_group);
    let apart = partial_load(2u * slot) - mean;
    square += partial_load(2u * slot + 1u) + apart * apart * (elements * n / (elements + n));
    elements += n;
    mean += apart * (n / elements);
  }
  moments_store(2u * id, mean);
  moments_store(2u * id + 1u, square / elements);
}`,
};

/** A thread has its channels of a run of pixels, so that it divides and reads what belongs to a channel only once. */
function normalizeShader(loads: 1 | 4, sameGroup: boolean, x: DType, activation: Activation): ShaderSpec {
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  const lane = (i: number) => `one(image, channel + ${i}u)`;
  return {
    name: `groupNorm apply ${x} x${loads}${activation === 'none' ? '' : ` ${activation}`}`,
    bindings: [
      { name: 'x', dtype: x, width: loads },
      { name: 'moments', dtype: 'f32', width: 1 },
      { name: 'gamma', dtype: 'f32', width: loads },
      { name: 'beta', dtype: 'f32', width: loads },
      { name: 'y', dtype: 'f32', width: loads, write: true },
    ],
    params: ['count: u32', 'channels: u32', 'groups: u32', 'per_group: u32', 'pixels: u32', 'runs: u32', 'per_run: u32', 'eps: f32'],
    workgroup: 64,
    code: `
${activation === 'none' ? '' : activationWgsl(type)}
// Mean and 1 / std of the channel's group.
fn one(image: u32, channel: u32) -> vec2<f32> {
  let g = image * p.groups + channel / p.per_group;
  return vec2<f32>(moments_load(2u * g), 1.0 / sqrt(moments_load(2u * g + 1u) + p.eps));
}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let columns = p.channels / ${loads}u;
  let c = id % columns;
  let run_number = (id / columns) % p.runs;
  let image = id / (columns * p.runs);
  let channel = c * ${loads}u;
  ${
    loads === 1 || sameGroup
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
    let i = (image * p.pixels + pixel) * columns + c;
    y_store(i, ${activation === 'none' ? '' : activation}((x_load(i) - mean) * scale * factor + shift));
  }
}`,
  };
}
