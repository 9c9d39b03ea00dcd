/**
 * groupNorm of small maps on CPU drivers: a subgroup has a group of channels of an image to itself, reads it for its moments and again, from the cache,
 * to normalise it. One dispatch: a second one costs such a driver as long as some ten thousand elements take.
 */
import type { Lowering, Operand } from '../core/op.ts';
import { type DType, loopBelow, remembered, shader, when } from '../core/shader.ts';
import { type Scalar, sizeOf } from '../core/tensor.ts';
import type { Activation } from './activation.ts';
import { type ChannelSpan, channelSpans, loadsWithin } from './channel-spans.ts';
import { normalized, type OfChannels, spanOperands, spanParams } from './group-norm-ends.ts';
import { averageOf, declareMoments, meanOfMoments, takeIntoMoments } from './running-moments.ts';

/** Loads of a lane at most: rounding errors grow with them. */
const MOST_LOADS = 2048;

/** What a group norm reads. */
export interface NormOperands extends OfChannels {
  x: Operand;
  raw: Operand | null;
}

export interface NormAttrs {
  groups: number;
  eps: number;
  activation: Activation;
  modulation: Scalar | null;
}

/** Emits the group norm, a dispatch for each span of channels, and says so; false where groups are too large, or lie in several spans. */
export function lowerGroupNormSubgroup(to: Lowering, inputs: NormOperands, output: Operand, attrs: NormAttrs): boolean {
  const { x, raw } = inputs;
  const { groups, eps, activation, modulation } = attrs;
  const lanes = to.facts.subgroupSizes[0];
  const [images] = x.shape;
  const channels = x.shape[x.shape.length - 1];
  const perGroup = channels / groups;
  const pixels = sizeOf(x.shape) / images / channels;
  const spans = channelSpans(raw ? [x, raw] : [x]);
  if (!spans.every((span) => suits(span, perGroup)) || (Math.ceil(pixels / lanes) * perGroup) / 4 > MOST_LOADS) return false;
  for (const span of spans) {
    const operands = spanOperands(inputs, output, span);
    const groupsOfSpan = (span.end - span.first) / perGroup;
    const count = images * groupsOfSpan;
    to.dispatch({
      shader: subgroupShader(lanes, operands.x.dtype, activation, operands.raw?.dtype),
      operands,
      params: {
        count,
        groups: groupsOfSpan,
        per_group: perGroup / 4,
        pixels,
        eps,
        ...spanParams(span, channels, 4),
        scale: modulation,
      },
      threads: count * lanes,
    });
  }
  return true;
}

/** Whether the groups of a span lie in it whole, and loads of four in a group. */
function suits({ first, end, sources }: ChannelSpan, perGroup: number): boolean {
  const inLoads = loadsWithin(perGroup, first, ...sources.flatMap(({ stride, start }) => [stride, start])) === 4;
  return inLoads && first % perGroup === 0 && end % perGroup === 0;
}

/**
 * Lanes take turns with the pixels, and what each has of the moments is merged (Chan, Golub & LeVeque 1983).
 */
const subgroupShader = remembered((lanes: number, x: DType, activation: Activation, raw?: DType) => {
  const read = { dtype: 'f32', width: 4 } as const;
  const average = averageOf(4);
  const { step, functions, result } = normalized(activation, raw, 'vec4<f32>', '(x_load(at_x) - of_all) * scale * factor + shift');
  return shader({
    name: `groupNorm ${x} x4 subgroup ${lanes}${step}`,
    bindings: {
      x: { dtype: x, width: 4 },
      gamma: read,
      beta: read,
      ...when(Boolean(raw), { sft_gamma: read, sft_beta: read, raw: { dtype: raw ?? 'f32', width: 4 } }),
      y: { ...read, write: true },
    },
    params: {
      count: 'u32',
      // The span's groups; then in loads: channels of a group, the span's first, all channels, and where the span lies.
      groups: 'u32',
      per_group: 'u32',
      pixels: 'u32',
      eps: 'f32',
      first: 'u32',
      y_stride: 'u32',
      x_stride: 'u32',
      x_start: 'u32',
      ...when(Boolean(raw), { raw_stride: 'u32', raw_start: 'u32', scale: 'f32' }),
    },
    workgroup: lanes,
    subgroups: true,
    code: `
${functions}
fn run(id: u32, group: u32, local: u32) {
  let g = min(group, p.count - 1u);
  let image = g / p.groups;
  let column = (g % p.groups) * p.per_group;
  let begin = image * p.pixels * p.x_stride + p.x_start + column;
  var about = 0.0;
  var n = 0.0;
  ${declareMoments('vec4<f32>')}
  if (local < p.pixels) {
    var at = begin + local * p.x_stride;
    let behind = begin + p.pixels * p.x_stride;
    about = ${average('x_load(at)')};
    loop {
      ${loopBelow(
        'c',
        'p.per_group',
        `let d = x_load(at + c) - about;
        n += 1.0;
        ${takeIntoMoments()}`,
      )}
      continuing {
        at += ${lanes}u * p.x_stride;
        break if at >= behind;
      }
    }
  }
  ${meanOfMoments(4)}
  let of_lane = about + mean;
  let elements = subgroupAdd(n);
  let of_all = subgroupAdd(n * of_lane) / elements;
  let apart = of_lane - of_all;
  let variance = subgroupAdd(${average('squares + n * between * between')} + n * apart * apart) / elements;
  if (local >= p.pixels || group >= p.count) { return; }
  let scale = 1.0 / sqrt(variance + p.eps);
  ${loopBelow(
    'c',
    'p.per_group',
    `let factor = gamma_load(p.first + column + c);
    let shift = beta_load(p.first + column + c);
    let row = image * p.pixels + local;
    var i = row * p.y_stride + p.first + column + c;
    let behind = (image + 1u) * p.pixels * p.y_stride;
    var at_x = begin + local * p.x_stride + c;
    ${raw ? 'var at_raw = row * p.raw_stride + p.raw_start + column + c;' : ''}
    loop {
      y_store(i, ${result});
      continuing {
        i += ${lanes}u * p.y_stride;
        at_x += ${lanes}u * p.x_stride;
        ${raw ? `at_raw += ${lanes}u * p.raw_stride;` : ''}
        break if i >= behind;
      }
    }`,
  )}
}`,
  });
});
