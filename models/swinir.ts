/**
 * SwinIR (Liang et al. 2021, arXiv 2108.10257) as DiffBIR's cleaner: it reads the picture in blocks of 8x8 pixels and brings it back to its own
 * size. Weights lie at the root of the file; `attn_mask` and `relative_position_index`, which files may hold, follow from the sizes.
 */
import { Module, NetworkModule, Parameter } from '../core/module.ts';
import { constant, type Tensor } from '../core/tensor.ts';
import { add, sub } from '../kernels/binary.ts';
import { upsampleNearest } from '../kernels/copy.ts';
import { gelu, leakyRelu } from '../kernels/unary.ts';
import { relativeBias, windowAttention } from '../kernels/window-attention.ts';
import { Conv2d, identity, type Layer, LayerNorm, Linear, Sequential } from './layers.ts';
import { pixelUnshuffle } from './pixel-shuffle.ts';

export interface SwinIrConfig {
  embed_dim: number;
  /** Blocks of each residual group, and their heads. */
  depths: number[];
  num_heads: number[];
  window_size: number;
  mlp_ratio: number;
  /** Side of a block of pixels that becomes one token. */
  unshuffle_scale: number;
}

/** The published cleaners of DiffBIR v1 and v2.1. */
export const SWINIR: SwinIrConfig = {
  embed_dim: 180,
  depths: [6, 6, 6, 6, 6, 6, 6, 6],
  num_heads: [6, 6, 6, 6, 6, 6, 6, 6],
  window_size: 8,
  mlp_ratio: 2,
  unshuffle_scale: 8,
};

/** Mean colour of the training pictures. */
const MEAN = Float32Array.of(0.4488, 0.4371, 0.404);
/** Score of pairs that must not see each other. Not minus infinity: the published weights were trained with it. */
export const BLOCKED = -100;
/** Channels of the convolutions behind the transformer. */
const UPSAMPLER = 64;

class WindowAttention extends Module {
  relative_position_bias_table: Parameter;
  qkv: Layer;
  proj: Layer;

  constructor(dim: number, heads: number, window: number) {
    super();
    this.relative_position_bias_table = new Parameter([(2 * window - 1) ** 2, heads], 'vector');
    this.qkv = new Linear(dim, 3 * dim);
    this.proj = new Linear(dim, dim);
  }
}

class Mlp extends Module {
  fc1: Layer;
  fc2: Layer;

  constructor(dim: number, hidden: number) {
    super();
    this.fc1 = new Linear(dim, hidden);
    this.fc2 = new Linear(hidden, dim);
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(gelu(this.fc1.forward(x)));
  }
}

/** x (N, h, w, dim), sides multiples of the window -> the same. */
export class SwinBlock extends Module {
  private readonly heads: number;
  private readonly window: number;
  private readonly shift: number;
  norm1: Layer;
  attn: WindowAttention;
  norm2: Layer;
  mlp: Mlp;

  constructor(dim: number, heads: number, window: number, shift: number, mlpRatio: number) {
    super();
    this.heads = heads;
    this.window = window;
    this.shift = shift;
    this.norm1 = new LayerNorm(dim);
    this.attn = new WindowAttention(dim, heads, window);
    this.norm2 = new LayerNorm(dim);
    this.mlp = new Mlp(dim, dim * mlpRatio);
  }

  forward(x: Tensor): Tensor {
    const { heads, window, shift, attn } = this;
    const qkv = attn.qkv.forward(this.norm1.forward(x));
    const bias = relativeBias(attn.relative_position_bias_table.tensor, window);
    const y = add(x, attn.proj.forward(windowAttention(qkv, bias, { heads, window, shift, blocked: BLOCKED })));
    return add(y, this.mlp.forward(this.norm2.forward(y)));
  }
}

/** Swin blocks and a convolution around a residual. */
class ResidualGroup extends Module {
  residual_group: { blocks: SwinBlock[] };
  conv: Layer;

  constructor({ embed_dim, window_size, mlp_ratio }: SwinIrConfig, depth: number, heads: number) {
    super();
    const shift = (i: number) => (i % 2 ? Math.floor(window_size / 2) : 0);
    this.residual_group = {
      blocks: Array.from({ length: depth }, (_, i) => new SwinBlock(embed_dim, heads, window_size, shift(i), mlp_ratio)),
    };
    this.conv = new Conv2d(embed_dim, embed_dim, 3);
  }

  forward(x: Tensor): Tensor {
    return add(x, this.conv.forward(this.residual_group.blocks.reduce((h, block) => block.forward(h), x)));
  }
}

export class SwinIr extends NetworkModule {
  /** Side of the blocks of pixels that it reads as one. */
  readonly blockSide: number;
  conv_first: Layer;
  patch_embed: { norm: Layer };
  layers: ResidualGroup[];
  norm: Layer;
  conv_after_body: Layer;
  conv_before_upsample: Layer;
  conv_up1: Layer;
  conv_up2: Layer;
  conv_up3: Layer;
  conv_hr: Layer;
  conv_last: Layer;

  constructor(config: SwinIrConfig) {
    super();
    const { embed_dim, depths, num_heads, unshuffle_scale } = config;
    this.blockSide = unshuffle_scale;
    this.conv_first = new Sequential(identity, new Conv2d(3 * unshuffle_scale ** 2, embed_dim, 3));
    this.patch_embed = { norm: new LayerNorm(embed_dim) };
    this.layers = depths.map((depth, i) => new ResidualGroup(config, depth, num_heads[i]));
    this.norm = new LayerNorm(embed_dim);
    this.conv_after_body = new Conv2d(embed_dim, embed_dim, 3);
    this.conv_before_upsample = new Sequential(new Conv2d(embed_dim, UPSAMPLER, 3));
    this.conv_up1 = new Conv2d(UPSAMPLER, UPSAMPLER, 3);
    this.conv_up2 = new Conv2d(UPSAMPLER, UPSAMPLER, 3);
    this.conv_up3 = new Conv2d(UPSAMPLER, UPSAMPLER, 3);
    this.conv_hr = new Conv2d(UPSAMPLER, UPSAMPLER, 3);
    this.conv_last = new Conv2d(UPSAMPLER, 3, 3);
  }

  /** Modules after which a tile keeps what it has (models/cut-graph.ts). */
  stops(): Module[] {
    return this.layers.flatMap((group) => [...group.residual_group.blocks, group]);
  }

  /** x (N, H, W, 3) in [0, 1], sides multiples of unshuffle_scale window_size -> the same size, not clamped. */
  forward(x: Tensor): Tensor {
    return this.ofBlocks(pixelUnshuffle(x, this.blockSide));
  }

  /** The same of blocks (N, H / side, W / side, 3 side side). */
  ofBlocks(x: Tensor): Tensor {
    const mean = constant(MEAN, [3]);
    const perBlock = this.blockSide ** 2;
    const meanBlock = constant(
      Float32Array.from({ length: 3 * perBlock }, (_, i) => MEAN[Math.floor(i / perBlock)]),
      [3 * perBlock],
    );
    const shallow = this.conv_first.forward(sub(x, meanBlock));
    const deep = this.norm.forward(this.layers.reduce((h, group) => group.forward(h), this.patch_embed.norm.forward(shallow)));
    let h = leakyRelu(this.conv_before_upsample.forward(add(this.conv_after_body.forward(deep), shallow)), 0.01);
    for (const conv of [this.conv_up1, this.conv_up2, this.conv_up3]) h = leakyRelu(conv.forward(upsampleNearest(h, 2)), 0.2);
    return add(this.conv_last.forward(leakyRelu(this.conv_hr.forward(h), 0.2)), mean);
  }
}
