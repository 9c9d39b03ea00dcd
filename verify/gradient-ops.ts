/** The golden operations of differentiation: one block, forward and backward, by its inputs and its weights. */

import { type Parameter, parameters } from '../core/module.ts';
import { checkpointOrder } from '../core/stored-order.ts';
import { input, type Tensor } from '../core/tensor.ts';
import type { RunInputs } from '../gpu/program.ts';
import { attention } from '../kernels/attention.ts';
import { gradient } from '../kernels/gradient.ts';
import { softmax } from '../kernels/softmax.ts';
import { gelu, silu } from '../kernels/unary.ts';
import { Downsample, ResBlock } from '../models/blocks.ts';
import { Conv2d, GroupNorm, LayerNorm, Linear } from '../models/layers.ts';
import { BasicTransformerBlock, CrossAttention, FeedForward, Geglu, SpatialTransformer } from '../models/transformer.ts';
import { Upsample } from '../models/upsample.ts';
import { ZeroCrossAttn, ZeroSFT } from '../models/zero-sft.ts';
import { attach } from '../weights/attach.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, type Golden, toChannelsFirst, toChannelsLast } from './golden.ts';

/** Fixed in the published networks: groups of every norm in a block, and ZeroSFT's hidden width. */
const [GROUPS, SFT_HIDDEN] = [32, 128];

interface Block {
  /** What holds the weights. */
  module: object;
  forward(inputs: Record<string, Tensor>): Tensor;
}

type Config = Record<string, number>;

/** A block of the networks by the golden cases' name; the channels that a configuration leaves out are read off its weights. */
function block(name: string, config: Config, weights: Record<string, { shape: readonly number[] }>): Block {
  const channels = (key: string, axis: number) => weights[key].shape[axis];
  const kernel = (compute: (x: Tensor) => Tensor): Block => ({ module: {}, forward: ({ x }) => compute(x) });
  const one = <M extends { forward(x: Tensor): Tensor }>(module: M): Block => ({ module, forward: ({ x }) => module.forward(x) });
  const two = <M extends { forward(x: Tensor, context: Tensor): Tensor }>(module: M): Block => ({
    module,
    forward: ({ x, context }) => module.forward(x, context ?? x),
  });
  switch (name) {
    case 'linear':
      return one(new Linear(channels('weight', 1), channels('weight', 0), { bias: Boolean(config.bias) }));
    case 'conv2d':
      return one(
        new Conv2d(channels('weight', 1), channels('weight', 0), config.kernel, { stride: config.stride, padding: config.padding }),
      );
    case 'group_norm':
      return one(new GroupNorm(channels('weight', 0), config.groups, config.eps));
    case 'layer_norm':
      return one(new LayerNorm(channels('weight', 0)));
    case 'silu':
      return kernel((x) => silu(x));
    case 'gelu':
      return kernel((x) => gelu(x));
    case 'softmax':
      return kernel((x) => softmax(x));
    case 'geglu':
      return one(new Geglu(channels('proj.weight', 1), channels('proj.weight', 0) / 2));
    case 'feed_forward':
      return one(new FeedForward(channels('net.2.weight', 0)));
    case 'attention_core':
      return { module: {}, forward: ({ q, k, v }) => attention(q, k, v, 1) };
    case 'attention': {
      const context = channels('to_k.weight', 1);
      return two(new CrossAttention(channels('to_q.weight', 0), context, config.dim_head));
    }
    case 'basic_transformer_block':
      return two(new BasicTransformerBlock(config.dim, config.context_dim, config.dim_head));
    case 'spatial_transformer':
      return two(new SpatialTransformer(config.channels, config.depth, config.context_dim, config.dim_head, GROUPS));
    case 'upsample':
      return one(new Upsample(channels('conv.weight', 0)));
    case 'downsample':
      return one(new Downsample(channels('op.weight', 0)));
    case 'resblock': {
      const module = new ResBlock(config.channels, config.out_channels, config.emb_channels, GROUPS);
      return { module, forward: ({ x, emb }) => module.forward(x, { emb: silu(emb), context: emb }) };
    }
    case 'zero_sft': {
      const module = new ZeroSFT(config.label_nc, config.norm_nc, config.concat_channels, SFT_HIDDEN, GROUPS);
      return { module, forward: ({ c, h, h_ori }) => module.forward(c, h, h_ori, config.control_scale) };
    }
    case 'zero_cross_attn': {
      const module = new ZeroCrossAttn(config.query_dim, config.context_dim, config.dim_head, GROUPS);
      return { module, forward: ({ context, x }) => module.forward(context, x, config.control_scale) };
    }
    default:
      throw new Error(`no block ${name}`);
  }
}

/** Maps are (N, C, H, W) in the file; attention's cases are (N, heads, L, d), here images of their own. */
function placed({ data, shape }: Golden, asImages: boolean): { data: Float32Array; shape: number[] } {
  if (asImages) return { data: Float32Array.from(data), shape: [shape[0] * shape[1], shape[2], shape[3]] };
  return shape.length === 4 ? toChannelsLast({ data, shape }) : { data: Float32Array.from(data), shape: [...shape] };
}

async function gradBlock(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { config } = entry;
  const name: string = config.block;
  const { module, forward } = block(name, config, entry.weights?.tensors ?? {});
  if (entry.weights?.tensors) attach(module, entry.weights.prefix!, await context.folder.checkpoint(entry));

  const values: RunInputs = {};
  const tensors: Record<string, Tensor> = {};
  for (const key of Object.keys(entry.inputs)) {
    const { data, shape } = placed(await context.input(entry, key), name === 'attention_core');
    values[key] = data;
    tensors[key] = input(key, shape);
  }
  const { grad_out, ...inputs } = tensors;
  const weights = [...parameters(module)];
  const out = forward(inputs);
  const wrt: Tensor[] = [...Object.values(inputs), ...weights.map(([, parameter]) => parameter.tensor)];
  const names = [...Object.keys(inputs).map((key) => `grad_in/${key}`), ...weights.map(([path]) => `grad_weights/${path}`)];
  const derivatives = gradient(out, wrt, { upstream: grad_out });
  try {
    const results = await context.run({ out, ...Object.fromEntries(derivatives.map((each, i) => [names[i], each])) }, values);
    const byWeight = new Map<string, Parameter>(weights.map(([path, parameter]) => [`grad_weights/${path}`, parameter]));
    const inReferenceLayout = ([key, data]: [string, Float32Array]): [string, ArrayLike<number>] => {
      const parameter = byWeight.get(key);
      if (parameter) return [key, checkpointOrder(data, parameter)];
      const { shape } = key === 'out' ? out : wrt[names.indexOf(key)];
      return [key, shape.length === 4 ? toChannelsFirst(data, shape) : data];
    };
    return Object.fromEntries(Object.entries(results).map(inReferenceLayout));
  } finally {
    context.device.residency.releaseAll(module);
  }
}

export const gradientOperations: Record<string, Operation> = { grad_block: gradBlock };
