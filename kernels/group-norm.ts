/**
 * groupNorm: y = act((x - mean) / sqrt(var + eps) * gamma + beta) over each image's group of channels. (Wu & He 2018)
 * x (N, ..., C) f32 | f16, all middle axes together P pixels; gamma, beta (C) f32; groups divides C; y x's shape, f32. Accumulates in f32.
 * Instead of the activation, a modulation may follow (zero-sft.ts). x and the modulation's raw come whole or in parts.
 *
 * The moments of the groups (group-moments.ts), then the elementwise part, which alone is normalizeGroups: with known moments, an image can be
 * normalised that is only at hand in windows. Both at once, where a subgroup can have a group to itself: group-norm-subgroup.ts.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Lowering, type Op, type Operand } from '../core/op.ts';
import { type DType, elementType, remembered, shader, when } from '../core/shader.ts';
import { describe, type OperandsOf, type OpTensor, type Scalar, sameShape, sizeOf, type Tensor } from '../core/tensor.ts';
import type { Activation } from './activation.ts';
import { channelSpans, loadsWithin } from './channel-spans.ts';
import { slice } from './copy.ts';
import { checkGroups, groupMoments, lowerMoments, lowerSlices, MERGE, MERGE_PARAMS } from './group-moments.ts';
import { normalized, spanOperands, spanParams } from './group-norm-ends.ts';
import { groupNormGradient, groupNormSums } from './group-norm-gradient.ts';
import { lowerGroupNormSubgroup } from './group-norm-subgroup.ts';
import { reshape } from './reshape.ts';
import { ALONE_THREADS } from './rows.ts';
import { sumAxis } from './sum-axis.ts';

interface Attrs {
  groups: number;
  eps: number;
  activation: Activation;
}

interface GroupNormAttrs extends Attrs {
  /** Scale of a modulation; null where there is none. */
  modulation: Scalar | null;
}

type NormInputs = { x: Tensor; moments: Tensor; gamma: Tensor; beta: Tensor };

/** gamma, beta and raw of a modulation are absent where there is none. */
type Modulation<T> = { sftGamma: T | null; sftBeta: T | null; raw: T | null };
type GroupNormInputs = Omit<NormInputs, 'moments'> & Modulation<Tensor> & { moments: Tensor | null };

/** A tensor that groupNorm made. */
export type GroupNorm = OpTensor<GroupNormAttrs, GroupNormInputs>;

const NO_MODULATION: Modulation<never> = { sftGamma: null, sftBeta: null, raw: null };

/** x (N, ..., C), gamma and beta (C). -> x's shape. Throws ShapeError. */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, groups: number, eps = 1e-5): Tensor {
  return apply(groupNormOp, { x, moments: null, gamma, beta, ...NO_MODULATION }, { groups, eps, activation: 'none', modulation: null });
}

/** groupNorm with known moments (N, groups, 2), as groupMoments gives them. x (N, ..., C), gamma and beta (C). -> x's shape. Throws ShapeError. */
export function normalizeGroups(x: Tensor, moments: Tensor, gamma: Tensor, beta: Tensor, eps = 1e-5): Tensor {
  return apply(normalizeGroupsOp, { x, moments, gamma, beta }, { groups: moments.shape[1], eps, activation: 'none' });
}

export const groupNormOp: Op<GroupNormAttrs, GroupNormInputs> = {
  name: 'groupNorm',
  inParts: ['x', 'raw'],

  infer({ x, gamma, beta }, { groups }) {
    checkGroups('groupNorm', x, groups);
    checkAffine('groupNorm', x, gamma, beta);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower(inputs, output, attrs, to) {
    const { x } = inputs;
    const { groups, modulation } = attrs;
    if (!inputs.moments && to.facts.schedule === 'subgroup') {
      if (lowerGroupNormSubgroup(to, inputs, output, attrs)) return;
      // A dispatch more costs a CPU driver as much as all threads' merging.
      const { partial, slices } = lowerSlices(to, x, groups);
      lowerNormalize(to, { ...inputs, moments: partial }, output, attrs, modulation, slices);
      return;
    }
    const moments = inputs.moments ?? to.scratch('moments', [x.shape[0], groups, 2]);
    if (!inputs.moments) lowerMoments(to, x, moments, groups);
    lowerNormalize(to, { ...inputs, moments }, output, attrs, modulation);
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x, gamma, beta } = inputs;
    const given = { g: upstream, x, moments: inputs.moments ?? groupMoments(x, attrs.groups), gamma, beta };
    const sums = groupNormSums(given, attrs);
    const ofImages = sumAxis(sums, 0);
    const row = (i: number) => reshape(slice(ofImages, 1, i, i + 1), gamma.shape);
    return { ...NO_MODULATION, moments: null, x: groupNormGradient({ ...given, sums }, attrs), gamma: row(1), beta: row(0) };
  },
};

export const normalizeGroupsOp: Op<Attrs, NormInputs> = {
  name: 'normalizeGroups',
  inParts: ['x'],

  infer({ x, moments, gamma, beta }, { groups }) {
    checkGroups('normalizeGroups', x, groups);
    checkAffine('normalizeGroups', x, gamma, beta);
    if (!sameShape(moments.shape, [x.shape[0], groups, 2]) || moments.dtype !== 'f32')
      throw new ShapeError(`normalizeGroups: ${describe(moments)} must be (${x.shape[0]}, groups, 2) f32 for ${describe(x)}.`);
    return { shape: x.shape, dtype: 'f32' };
  },

  lower(inputs, output, attrs, to) {
    lowerNormalize(to, { ...inputs, ...NO_MODULATION }, output, attrs, null);
  },
};

function checkAffine(name: string, x: Tensor, gamma: Tensor, beta: Tensor): void {
  const channels = x.shape[x.shape.length - 1];
  if ([gamma, beta].some(({ shape, dtype }) => !sameShape(shape, [channels]) || dtype !== 'f32'))
    throw new ShapeError(`${name}: ${describe(gamma)} and ${describe(beta)} must match the last axis of ${describe(x)} and be f32.`);
}

/** Pixels of a run that one thread normalises, and threads of a workgroup: GPUs want many threads, each of which takes a CPU driver as long as some loads. */
const RUN = { subgroup: 32, tiled: 4, matrix: 4 };
/** The least pixels of a run for every slice whose moments its thread merges. */
const RUN_OF_SLICE = 4;
const THREADS = { subgroup: ALONE_THREADS, tiled: 64, matrix: 64 };

/** `slices`: what `moments` are yet to be merged of; 0 where they are. */
function lowerNormalize(
  to: Lowering,
  { x, moments, gamma, beta, sftGamma, sftBeta, raw }: OperandsOf<NormInputs> & Modulation<Operand>,
  output: Operand,
  { groups, eps, activation }: Attrs,
  modulation: Scalar | null,
  slices = 0,
): void {
  const [images] = x.shape;
  const channels = x.shape[x.shape.length - 1];
  const pixels = sizeOf(x.shape) / images / channels;
  const perGroup = channels / groups;
  const { schedule } = to.facts;
  for (const span of channelSpans(raw ? [x, raw] : [x])) {
    const { first, end, sources } = span;
    const operands = spanOperands({ gamma, beta, sftGamma, sftBeta }, output, span);
    const loads = loadsWithin(end - first, first, channels, ...sources.flatMap(({ stride, start }) => [stride, start]));
    const sameGroup = loads === 1 || perGroup % 4 === 0;
    const runs = Math.ceil(pixels / Math.max(RUN[schedule], RUN_OF_SLICE * slices * (sameGroup ? 1 : 4)));
    const count = (images * runs * (end - first)) / loads;
    to.dispatch({
      shader: normalizeShader(
        { workgroup: THREADS[schedule], loads, sameGroup, merges: slices > 0 },
        operands.x.dtype,
        activation,
        operands.raw?.dtype,
      ),
      operands: { ...operands, ...(slices > 0 ? { partial: moments } : { moments }) },
      params: {
        threads: count,
        groups,
        per_group: perGroup,
        pixels,
        runs,
        per_run: Math.ceil(pixels / runs),
        eps,
        columns: (end - first) / loads,
        ...spanParams(span, channels, loads),
        scale: modulation,
        ...when(slices > 0, { slices, count: images * groups }),
      },
      threads: count,
    });
  }
}

interface NormalizeVariant {
  workgroup: number;
  loads: 1 | 4;
  /** Whether the channels of a load are of one group. */
  sameGroup: boolean;
  /** Whether a thread merges the moments of slices. */
  merges: boolean;
}

/** A thread has its channels of a run of pixels, so that it divides and reads what belongs to a channel only once. `raw`: with a modulation. */
const normalizeShader = remembered((how: NormalizeVariant, x: DType, activation: Activation, raw?: DType) => {
  const { workgroup, loads, sameGroup, merges } = how;
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  const lane = (i: number) => `one(image, channel + ${i}u)`;
  const read = { dtype: 'f32', width: loads } as const;
  const { step, functions, result } = normalized(activation, raw, type, '(x_load(at_x) - mean) * scale * factor + shift');
  return shader({
    name: `groupNorm apply ${x} x${loads}${sameGroup ? '' : ' across groups'}${merges ? ' merging' : ''}${step}`,
    bindings: {
      x: { dtype: x, width: loads },
      ...when(!merges, { moments: { dtype: 'f32', width: 1 } }),
      ...when(merges, { partial: { dtype: 'f32', width: 4 } }),
      gamma: read,
      beta: read,
      ...when(Boolean(raw), { sft_gamma: read, sft_beta: read, raw: { dtype: raw ?? 'f32', width: loads } }),
      y: { ...read, write: true },
    },
    params: {
      threads: 'u32',
      groups: 'u32',
      per_group: 'u32',
      pixels: 'u32',
      runs: 'u32',
      per_run: 'u32',
      eps: 'f32',
      // In loads: the span's channels and its first, all channels, and where the span lies.
      columns: 'u32',
      first: 'u32',
      y_stride: 'u32',
      x_stride: 'u32',
      x_start: 'u32',
      ...when(Boolean(raw), { raw_stride: 'u32', raw_start: 'u32', scale: 'f32' }),
      ...when(merges, MERGE_PARAMS),
    },
    workgroup,
    code: `
${functions}
${merges ? MERGE : ''}
// Mean and 1 / std of the channel's group.
fn one(image: u32, channel: u32) -> vec2<f32> {
  let g = image * p.groups + channel / p.per_group;
  let m = ${merges ? 'merged(g)' : 'vec2<f32>(moments_load(2u * g), moments_load(2u * g + 1u))'};
  return vec2<f32>(m.x, 1.0 / sqrt(m.y + p.eps));
}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.threads) { return; }
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
  let first = image * p.pixels + run_number * p.per_run;
  let behind = min(first + p.per_run, (image + 1u) * p.pixels);
  var i = first * p.y_stride + c;
  var at_x = first * p.x_stride + p.x_start + column;
  ${raw ? 'var at_raw = first * p.raw_stride + p.raw_start + column;' : ''}
  var row = first;
  loop {
    y_store(i, ${result});
    continuing {
      i += p.y_stride;
      at_x += p.x_stride;
      ${raw ? 'at_raw += p.raw_stride;' : ''}
      row++;
      break if row >= behind;
    }
  }
}`,
  });
});
