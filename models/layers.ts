/**
 * Layers: functions of a tensor that carry their weights as properties, so that `this.conv(x)` computes and `conv.weight` is the checkpoint's
 * `conv.weight`.
 */
import { Parameter } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { type Conv2dOptions, conv2d as convolve } from '../kernels/conv2d.ts';
import { groupNorm as normalizeGroups } from '../kernels/group-norm.ts';
import { layerNorm as normalizeLayer } from '../kernels/layer-norm.ts';
import { linear as project } from '../kernels/linear.ts';

export type Layer = (x: Tensor) => Tensor;
type WithBias = { weight: Parameter; bias: Parameter };

/** x (N, H, W, in) -> (N, OH, OW, out); square window, by default stride 1 and same-size padding. */
export function conv2d(inChannels: number, outChannels: number, window: number, options: Conv2dOptions = {}): Layer & WithBias {
  const weight = new Parameter([outChannels, inChannels, window, window], 'conv');
  const bias = new Parameter([outChannels], 'vector');
  const settings = { padding: (window - 1) / 2, ...options };
  return Object.assign((x: Tensor) => convolve(x, weight.tensor, bias.tensor, settings), { weight, bias });
}

/** x (..., in) -> (..., out) */
export function linear(inChannels: number, outChannels: number): Layer & WithBias {
  const weight = new Parameter([outChannels, inChannels], 'matrix');
  const bias = new Parameter([outChannels], 'vector');
  return Object.assign((x: Tensor) => project(x, weight.tensor, bias.tensor), { weight, bias });
}

/** linear without a bias: attention's queries, keys and values. */
export function projection(inChannels: number, outChannels: number): Layer & { weight: Parameter } {
  const weight = new Parameter([outChannels, inChannels], 'matrix');
  return Object.assign((x: Tensor) => project(x, weight.tensor), { weight });
}

/** x (N, ..., channels) -> the same shape. */
export function groupNorm(channels: number, groups: number, eps = 1e-5): Layer & WithBias {
  const weight = new Parameter([channels], 'vector');
  const bias = new Parameter([channels], 'vector');
  return Object.assign((x: Tensor) => normalizeGroups(x, weight.tensor, bias.tensor, groups, eps), { weight, bias });
}

/** x (..., channels) -> the same shape. */
export function layerNorm(channels: number): Layer & WithBias {
  const weight = new Parameter([channels], 'vector');
  const bias = new Parameter([channels], 'vector');
  return Object.assign((x: Tensor) => normalizeLayer(x, weight.tensor, bias.tensor), { weight, bias });
}

/** Layers one after the other; their weights are named by position: `0.weight`, `2.weight`. */
export function sequential(...layers: Layer[]): Layer {
  return Object.assign((x: Tensor) => layers.reduce((value, layer) => layer(value), x), layers);
}

/** Where training has dropout, inference has nothing, but the position counts. */
export const identity: Layer = (x) => x;
