/**
 * groupNormGradient: dx = s (h - mean(h) - n mean(h n)) with h = g gamma, n = (x - mean) s, s = 1 / sqrt(var + eps), all means over each
 * image's group of channels.
 * g (N, ..., C) f32; x (N, ..., C) f32 | f16; moments (N, groups, 2) f32 as groupMoments gives them; gamma (C) f32; dx x's shape, f32.
 *
 * Dispatches: both sums per (image, group, slice of pixels); the sums of the slices; then the elementwise part.
 */
import { apply, type Op, width } from '../core/op.ts';
import { type DType, elementType, shader } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { ROW_THREADS, rowAlone, rowTree } from './rows.ts';
import { lowerSum } from './sum-axis.ts';

/** Elements that one thread sums at most; more pixels make more slices. */
const PER_THREAD = 256;

export function groupNormGradient(g: Tensor, x: Tensor, moments: Tensor, gamma: Tensor, eps: number): Tensor {
  return apply(groupNormGradientOp, { g, x, moments, gamma }, { eps });
}

export const groupNormGradientOp: Op<{ eps: number }, { g: Tensor; x: Tensor; moments: Tensor; gamma: Tensor }> = {
  name: 'groupNormGradient',

  infer({ x }) {
    return { shape: x.shape, dtype: 'f32' };
  },

  lower({ g, x, moments, gamma }, output, { eps }, to) {
    const [images, groups] = moments.shape;
    const channels = x.shape[x.shape.length - 1];
    const pixels = sizeOf(x.shape) / images / channels;
    const perGroup = channels / groups;
    const alone = to.facts.schedule === 'subgroup';
    const threads = alone ? 1 : ROW_THREADS;
    const perSlice = Math.ceil(pixels / Math.ceil((pixels * perGroup) / (threads * PER_THREAD)));
    const slices = Math.ceil(pixels / perSlice);
    const sums = to.scratch('sums', [images * groups, 1, 2]);
    const partial = slices === 1 ? sums : to.scratch('sums of slices', [images * groups, slices, 2]);
    const perLoad = perGroup % 4 === 0 ? 4 : 1;
    to.dispatch({
      shader: sumsShader(x.dtype, perLoad, alone),
      operands: { g, x, moments, gamma, partial },
      params: { count: images * groups * slices, slices, groups, size: perGroup / perLoad, pixels, per_slice: perSlice, eps },
      threads: images * groups * slices * threads,
    });
    if (slices > 1) lowerSum(to, partial, sums, images * groups, slices);
    const loads = width(x.shape);
    to.dispatch({
      shader: applyShader(loads, perGroup % 4 === 0, x.dtype),
      operands: { g, x, moments, gamma, sums, y: output },
      params: { count: sizeOf(x.shape) / loads, channels, groups, per_group: perGroup, pixels, eps },
      threads: sizeOf(x.shape) / loads,
    });
  },
};

/** A workgroup, or a thread alone, has a slice of the pixels of an image's group. Sizes of groups are in loads. */
function sumsShader(x: DType, loads: 1 | 4, alone: boolean) {
  const type = elementType({ dtype: 'f32', width: loads });
  const total = (parts: string) => (loads === 4 ? `dot(${parts}, vec4<f32>(1.0))` : parts);
  return shader({
    name: `groupNormGradient sums ${x} x${loads}${alone ? ' alone' : ''}`,
    bindings: {
      g: { dtype: 'f32', width: loads },
      x: { dtype: x, width: loads },
      moments: { dtype: 'f32', width: 1 },
      gamma: { dtype: 'f32', width: loads },
      partial: { dtype: 'f32', width: 1, write: true },
    },
    params: { count: 'u32', slices: 'u32', groups: 'u32', size: 'u32', pixels: 'u32', per_slice: 'u32', eps: 'f32' },
    workgroup: ROW_THREADS,
    code: `
${alone ? rowAlone('sums', 'vec2<f32>') : rowTree('sums', 'vec2<f32>', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let slice = min(${alone ? 'id' : 'group'}, p.count - 1u);
  let slot = slice / p.slices;
  let first = (slice % p.slices) * p.per_slice;
  let count = (min(first + p.per_slice, p.pixels) - first) * p.size;
  let stride = p.groups * p.size;
  let channel = (slot % p.groups) * p.size;
  let base = ((slot / p.groups) * p.pixels + first) * stride + channel;
  let mean = moments_load(2u * slot);
  var part = ${type}(0.0);
  var product = ${type}(0.0);
  for (var i = ${alone ? '0u' : 'local'}; i < count; i += ${alone ? 1 : ROW_THREADS}u) {
    let at = base + (i / p.size) * stride + i % p.size;
    let h = g_load(at) * gamma_load(channel + i % p.size);
    part += h;
    product += h * (x_load(at) - mean);
  }
  let scale = 1.0 / sqrt(moments_load(2u * slot + 1u) + p.eps);
  let sums = combine_sums(local, vec2<f32>(${total('part')}, ${total('product')} * scale));
  if (${alone ? 'id < p.count' : 'local == 0u && group < p.count'}) {
    partial_store(2u * slice, sums.x);
    partial_store(2u * slice + 1u, sums.y);
  }
}`,
  });
}

function applyShader(loads: 1 | 4, sameGroup: boolean, x: DType) {
  const type = elementType({ dtype: 'f32', width: loads });
  const lane = (name: string, i: number, offset: number) => `${name}_load(2u * slot(image, channel + ${offset}u) + ${i}u)`;
  const pick = (name: string, i: number) =>
    loads === 1 || sameGroup ? `${type}(${lane(name, i, 0)})` : `vec4<f32>(${[0, 1, 2, 3].map((o) => lane(name, i, o)).join(', ')})`;
  return shader({
    name: `groupNormGradient apply ${x} x${loads}`,
    bindings: {
      g: { dtype: 'f32', width: loads },
      x: { dtype: x, width: loads },
      moments: { dtype: 'f32', width: 1 },
      gamma: { dtype: 'f32', width: loads },
      sums: { dtype: 'f32', width: 1 },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { count: 'u32', channels: 'u32', groups: 'u32', per_group: 'u32', pixels: 'u32', eps: 'f32' },
    workgroup: 64,
    code: `
fn slot(image: u32, channel: u32) -> u32 { return image * p.groups + channel / p.per_group; }
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let channel = (id * ${loads}u) % p.channels;
  let image = (id * ${loads}u) / (p.channels * p.pixels);
  let scale = ${type}(1.0) / sqrt(${pick('moments', 1)} + p.eps);
  let n = (x_load(id) - ${pick('moments', 0)}) * scale;
  let count = f32(p.per_group * p.pixels);
  y_store(id, scale * (g_load(id) * gamma_load(channel / ${loads}u) - (${pick('sums', 0)} + n * ${pick('sums', 1)}) / count));
}`,
  });
}
