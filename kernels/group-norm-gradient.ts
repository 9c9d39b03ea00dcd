/**
 * groupNormGradient: dx = s (h - mean(h) - n mean(h n)) with h = g gamma, n = (x - mean) s, s = 1 / sqrt(var + eps), all means over each
 * image's group of channels.
 * g (N, ..., C) f32; x (N, ..., C) f32 | f16; moments (N, groups, 2) f32 as groupMoments gives them; gamma (C) f32; dx x's shape, f32.
 *
 * Two dispatches: both means of every (image, group), one workgroup each; then the elementwise part.
 */
import { apply, type Op, width } from '../core/op.ts';
import { type DType, elementType, type ShaderSpec } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { ROW_THREADS, rowTree } from './rows.ts';

export function groupNormGradient(g: Tensor, x: Tensor, moments: Tensor, gamma: Tensor, eps: number): Tensor {
  return apply(groupNormGradientOp, [g, x, moments, gamma], { eps });
}

export const groupNormGradientOp: Op<{ eps: number }> = {
  name: 'groupNormGradient',

  infer([, x]) {
    return { shape: x.shape, dtype: 'f32' };
  },

  lower([g, x, moments, gamma], output, { eps }, to) {
    const [images, groups] = moments.shape;
    const channels = x.shape[x.shape.length - 1];
    const pixels = sizeOf(x.shape) / images / channels;
    const perGroup = channels / groups;
    const means = to.scratch('means', [images * groups, 2]);
    to.dispatch({
      shader: meansShader(x.dtype),
      operands: [g, x, moments, gamma, means],
      params: [images * groups, groups, perGroup, pixels, eps],
      threads: images * groups * ROW_THREADS,
    });
    const loads = width(x.shape);
    to.dispatch({
      shader: applyShader(loads, perGroup % 4 === 0, x.dtype),
      operands: [g, x, moments, gamma, means, output],
      params: [sizeOf(x.shape) / loads, channels, groups, perGroup, pixels, eps],
      threads: sizeOf(x.shape) / loads,
    });
  },
};

function meansShader(x: DType): ShaderSpec {
  return {
    name: `groupNormGradient means ${x}`,
    bindings: [
      { name: 'g', dtype: 'f32', width: 1 },
      { name: 'x', dtype: x, width: 1 },
      { name: 'moments', dtype: 'f32', width: 1 },
      { name: 'gamma', dtype: 'f32', width: 1 },
      { name: 'means', dtype: 'f32', width: 1, write: true },
    ],
    params: ['count: u32', 'groups: u32', 'per_group: u32', 'pixels: u32', 'eps: f32'],
    workgroup: ROW_THREADS,
    code: `
${rowTree('sums', 'vec2<f32>', (a, b) => `${a} + ${b}`)}
fn run(id: u32, group: u32, local: u32) {
  let slot = min(group, p.count - 1u);
  let channels = p.groups * p.per_group;
  let channel = (slot % p.groups) * p.per_group;
  let base = (slot / p.groups) * p.pixels * channels + channel;
  let count = p.pixels * p.per_group;
  let mean = moments_load(2u * slot);
  let scale = 1.0 / sqrt(moments_load(2u * slot + 1u) + p.eps);
  var part = vec2<f32>(0.0);
  for (var i = local; i < count; i += ${ROW_THREADS}u) {
    let at = base + (i / p.per_group) * channels + i % p.per_group;
    let h = g_load(at) * gamma_load(channel + i % p.per_group);
    part += vec2<f32>(h, h * (x_load(at) - mean) * scale);
  }
  let total = combine_sums(local, part) / f32(count);
  if (local == 0u && group < p.count) {
    means_store(2u * slot, total.x);
    means_store(2u * slot + 1u, total.y);
  }
}`,
  };
}

function applyShader(loads: 1 | 4, sameGroup: boolean, x: DType): ShaderSpec {
  const type = elementType({ dtype: 'f32', width: loads });
  const lane = (name: string, i: number, offset: number) => `${name}_load(2u * slot(image, channel + ${offset}u) + ${i}u)`;
  const pick = (name: string, i: number) =>
    loads === 1 || sameGroup ? `${type}(${lane(name, i, 0)})` : `vec4<f32>(${[0, 1, 2, 3].map((o) => lane(name, i, o)).join(', ')})`;
  return {
    name: `groupNormGradient apply ${x} x${loads}`,
    bindings: [
      { name: 'g', dtype: 'f32', width: loads },
      { name: 'x', dtype: x, width: loads },
      { name: 'moments', dtype: 'f32', width: 1 },
      { name: 'gamma', dtype: 'f32', width: loads },
      { name: 'means', dtype: 'f32', width: 1 },
      { name: 'y', dtype: 'f32', width: loads, write: true },
    ],
    params: ['count: u32', 'channels: u32', 'groups: u32', 'per_group: u32', 'pixels: u32', 'eps: f32'],
    workgroup: 64,
    code: `
fn slot(image: u32, channel: u32) -> u32 { return image * p.groups + channel / p.per_group; }
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let channel = (id * ${loads}u) % p.channels;
  let image = (id * ${loads}u) / (p.channels * p.pixels);
  let scale = ${type}(1.0) / sqrt(${pick('moments', 1)} + p.eps);
  let n = (x_load(id) - ${pick('moments', 0)}) * scale;
  y_store(id, scale * (g_load(id) * gamma_load(channel / ${loads}u) - ${pick('means', 0)} - n * ${pick('means', 1)}));
}`,
  };
}
