/**
 * groupMoments: mean and variance (divided by the count) of each image's group of channels, the first half of groupNorm.
 * x (N, ..., C) f32 | f16, all middle axes together P pixels, whole or in parts; moments (N, groups, 2) f32; groups divides C.
 *
 * Two dispatches: mean and squared deviations per (n, group, slice of pixels), and where x is in parts also per part, the sums taken about the
 * mean of 64 elements so that they do not cancel; then mean and variance per (n, group), by merging slices (Chan, Golub & LeVeque 1983).
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Lowering, type Op, type Operand } from '../core/op.ts';
import { type DType, elementType, loopBelow, remembered, shader } from '../core/shader.ts';
import { describe, sizeOf, type Tensor } from '../core/tensor.ts';
import { channelSpans, loadsWithin } from './channel-spans.ts';
import { ALONE_THREADS, ROW_THREADS, rowTree } from './rows.ts';
import { averageOf, declareMoments, meanOfMoments, takeIntoMoments } from './running-moments.ts';

/** Elements that one thread of a workgroup sums at most; more pixels make more slices. */
const PER_THREAD = 256;
/** What a thread alone sums: a share of its group, between so many loads. Rounding errors grow with them. */
const ALONE = { share: 1 / 16, least: 128, most: 1024 };

/** Mean and variance of every group of x (N, ..., C). -> (N, groups, 2). Throws ShapeError. */
export function groupMoments(x: Tensor, groups: number): Tensor {
  return apply(groupMomentsOp, { x }, { groups });
}

export const groupMomentsOp: Op<{ groups: number }, { x: Tensor }> = {
  name: 'groupMoments',
  inParts: ['x'],

  infer({ x }, { groups }) {
    checkGroups('groupMoments', x, groups);
    return { shape: [x.shape[0], groups, 2], dtype: 'f32' };
  },

  lower({ x }, output, { groups }, to) {
    lowerMoments(to, x, output, groups);
  },
};

/** Throws ShapeError unless x is (N, ..., C) and `groups` divides C. */
export function checkGroups(name: string, x: Tensor, groups: number): void {
  const channels = x.shape[x.shape.length - 1];
  if (x.shape.length < 2) throw new ShapeError(`${name}: x must be (N, ..., C), not ${describe(x)}.`);
  if (channels % groups) throw new ShapeError(`${name}: ${groups} groups do not divide the ${channels} channels of ${describe(x)}.`);
}

export function lowerMoments(to: Lowering, x: Operand, moments: Operand, groups: number): void {
  const { partial, slices } = lowerSlices(to, x, groups);
  const count = x.shape[0] * groups;
  to.dispatch({ shader: momentsShader, operands: { partial, moments }, params: { count, slices }, threads: count });
}

/** The first dispatch alone, for a kernel that merges: partial (slices, N groups, 4) as MERGE reads them. */
export function lowerSlices(to: Lowering, x: Operand, groups: number): { partial: Operand; slices: number } {
  const count = x.shape[0] * groups;
  const channels = x.shape[x.shape.length - 1];
  const pixels = sizeOf(x.shape) / x.shape[0] / channels;
  const perGroup = channels / groups;
  const elements = pixels * perGroup;
  const alone = to.facts.schedule === 'subgroup';
  const threads = alone ? 1 : ROW_THREADS;
  const spans = channelSpans([x]);
  const loads = alone ? loadsWithin(perGroup, ...spans.flatMap(({ first, end, sources: [{ stride }] }) => [first, end, stride])) : 1;
  const most = alone ? Math.min(loads * ALONE.most, Math.max(loads * ALONE.least, ALONE.share * elements)) : ROW_THREADS * PER_THREAD;
  const perSlice = Math.ceil(pixels / Math.ceil(elements / most));
  const slices = Math.ceil(pixels / perSlice);
  const partial = to.scratch('slice moments', [spans.length * slices, count, 4]);
  for (const [i, { first, end, sources }] of spans.entries()) {
    const [{ operand, stride }] = sources;
    to.dispatch({
      shader: alone ? slicesAloneShader(operand.dtype, loads) : slicesShader(operand.dtype),
      operands: { x: operand, partial },
      params: {
        slots: slices * count,
        count,
        offset: i * slices * count,
        groups,
        pixels,
        per_slice: perSlice,
        per_group: perGroup / loads,
        span_first: first / loads,
        span_end: end / loads,
        stride: stride / loads,
      },
      threads: slices * count * threads,
    });
  }
  return { partial, slices: spans.length * slices };
}

/** What the slices' shaders begin with: the first pixel of a slice, the end behind its last, and its group's channels in the span. */
const SLICE = `
  let g = slot % p.count;
  let image = g / p.groups;
  let first = (slot / p.count) * p.per_slice;
  let end = min(first + p.per_slice, p.pixels);
  let low = max((g % p.groups) * p.per_group, p.span_first);
  let size = max(min((g % p.groups + 1u) * p.per_group, p.span_end), low) - low;
  let base = (image * p.pixels + first) * p.stride + low - p.span_first;`;

const slicesShader = remembered((x: DType) => {
  return shader({
    name: `groupNorm slices ${x}`,
    bindings: {
      x: { dtype: x, width: 1 },
      // Mean, squared deviations and number of elements; some groups have none in this span of channels.
      partial: { dtype: 'f32', width: 4, write: true },
    },
    params: {
      slots: 'u32',
      count: 'u32',
      offset: 'u32',
      groups: 'u32',
      pixels: 'u32',
      per_slice: 'u32',
      per_group: 'u32',
      span_first: 'u32',
      span_end: 'u32',
      stride: 'u32',
    },
    workgroup: ROW_THREADS,
    code: `
${rowTree('sums', 'vec2<f32>', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let slot = min(group, p.slots - 1u);
  ${SLICE}
  let count = (end - first) * size;
  let sample = min(local, max(count, 1u) - 1u);
  let about = combine_sums(local, vec2<f32>(x_load(base + (sample / max(size, 1u)) * p.stride + sample % max(size, 1u)))).x / ${ROW_THREADS}.0;
  var part = vec2<f32>(0.0);
  for (var i = local; i < count; i += ${ROW_THREADS}u) {
    let d = x_load(base + (i / size) * p.stride + i % size) - about;
    part += vec2<f32>(d, d * d);
  }
  let total = combine_sums(local, part);
  if (local == 0u && group < p.slots) {
    let shift = total.x / f32(count);
    partial_store(p.offset + slot, vec4<f32>(about + shift, max(total.y - total.x * shift, 0.0), f32(count), 0.0));
  }
}`,
  });
});

/**
 * The same with a slice to a thread alone, which reads it once. Channels are in loads. Loops end at their foot: drivers go once more through those that end
 * at their head, with all lanes masked.
 */
const slicesAloneShader = remembered((x: DType, loads: 1 | 4) => {
  const type = elementType({ dtype: 'f32', width: loads });
  const average = averageOf(loads);
  const shared = slicesShader(x);
  return shader({
    ...shared,
    name: `groupNorm slices ${x} x${loads} alone`,
    bindings: { x: { dtype: x, width: loads }, partial: shared.bindings.partial },
    workgroup: ALONE_THREADS,
    code: `
fn run(slot: u32, group: u32, local: u32) {
  if (slot >= p.slots) { return; }
  ${SLICE}
  var n = 0.0;
  ${declareMoments(type)}
  var about = 0.0;
  if (size > 0u) {
    about = ${average('x_load(base)')};
    var at = base;
    let behind = base + (end - first) * p.stride;
    loop {
      var c = 0u;
      loop {
        let d = x_load(at + c) - about;
        n += 1.0;
        ${takeIntoMoments()}
        continuing {
          c++;
          break if c >= size;
        }
      }
      continuing {
        at += p.stride;
        break if at >= behind;
      }
    }
  }
  ${meanOfMoments(loads)}
  partial_store(p.offset + slot, vec4<f32>(about + mean, ${average('squares + n * between * between')} * ${loads}.0, n * ${loads}.0, 0.0));
}`,
  });
});

/** Uniform parameters of MERGE: slices, and groups of all images. */
export const MERGE_PARAMS = { slices: 'u32', count: 'u32' } as const;

/** WGSL of `merged(g)`: mean and variance of a group, from its slices in `partial`. */
export const MERGE = `
fn merged(g: u32) -> vec2<f32> {
  var elements = 0.0;
  var mean = 0.0;
  var square = 0.0;
  ${loopBelow(
    'i',
    'p.slices',
    `let slice = partial_load(i * p.count + g);
    let n = slice.z;
    // Without elements there is no mean.
    if (n > 0.0) {
      let apart = slice.x - mean;
      square += slice.y + apart * apart * (elements * n / (elements + n));
      elements += n;
      mean += apart * (n / elements);
    }`,
  )}
  return vec2<f32>(mean, square / elements);
}`;

const momentsShader = shader({
  name: 'groupNorm moments',
  bindings: {
    partial: { dtype: 'f32', width: 4 },
    moments: { dtype: 'f32', width: 1, write: true },
  },
  params: MERGE_PARAMS,
  workgroup: 64,
  code: `
${MERGE}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let moments = merged(id);
  moments_store(2u * id, moments.x);
  moments_store(2u * id + 1u, moments.y);
}`,
});
