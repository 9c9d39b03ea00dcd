/**
 * SCUNet (Zhang et al. 2022, arXiv 2203.13278): a U-shaped denoiser whose blocks split their channels between a convolutional and a Swin half.
 * The cleaner of DiffBIR v2 for denoising. Weights lie at the root of the file.
 */
import { Module, NetworkModule, Parameter } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { concat, permute, slice } from '../kernels/copy.ts';
import { depthToSpace } from '../kernels/depth-to-space.ts';
import { linear } from '../kernels/linear.ts';
import { reshape } from '../kernels/reshape.ts';
import { gelu, relu } from '../kernels/unary.ts';
import { relativeBias, windowAttention } from '../kernels/window-attention.ts';
import { Conv2d, type Layer, LayerNorm, Linear, Sequential } from './layers.ts';

export interface ScUnetConfig {
  /** Channels of the first level; each of the three below doubles them. */
  dim: number;
  /** Blocks of the three levels down, of the body and of the three levels up. */
  config: number[];
}

/** The published denoisers. */
export const SCUNET: ScUnetConfig = { dim: 64, config: [4, 4, 4, 4, 4, 4, 4] };

const HEAD = 32;
const WINDOW = 8;
/** In place of minus infinity, which some drivers may not handle: its exponential is 0 as well. */
const BLOCKED = -1e30;

/** A convolution without bias. */
const bareConv = (inChannels: number, outChannels: number, window: number, stride = 1) =>
  new Conv2d(inChannels, outChannels, window, { bias: false, stride, ...(stride > 1 ? { padding: 0 } : {}) });

/** A transposed convolution of 2x2 pixels and stride 2, without bias: every pixel becomes four. (N, H, W, in) -> (N, 2 H, 2 W, out) */
class Doubling extends Module {
  weight: Parameter;

  constructor(inChannels: number, outChannels: number) {
    super();
    this.weight = new Parameter([inChannels, outChannels, 2, 2], 'conv');
  }

  forward(x: Tensor): Tensor {
    const [ins, outs] = this.weight.shape;
    return depthToSpace(linear(x, permute(reshape(this.weight.tensor, [ins, 4 * outs]), [1, 0])), 2);
  }
}

class WindowMsa extends Module {
  embedding_layer: Layer;
  relative_position_params: Parameter;
  linear: Layer;

  constructor(dim: number) {
    super();
    this.embedding_layer = new Linear(dim, 3 * dim);
    this.relative_position_params = new Parameter([dim / HEAD, 2 * WINDOW - 1, 2 * WINDOW - 1], 'vector');
    this.linear = new Linear(dim, dim);
  }

  /** x (N, h, w, dim), sides multiples of the window -> the same. */
  forward(x: Tensor, shift: number): Tensor {
    const heads = x.shape[3] / HEAD;
    const table = permute(reshape(this.relative_position_params.tensor, [heads, (2 * WINDOW - 1) ** 2]), [1, 0]);
    const attrs = { heads, window: WINDOW, shift, blocked: BLOCKED };
    return this.linear.forward(windowAttention(this.embedding_layer.forward(x), relativeBias(table, WINDOW), attrs));
  }
}

class TransformerBlock extends Module {
  ln1: Layer;
  msa: WindowMsa;
  ln2: Layer;
  mlp: Layer;

  constructor(dim: number) {
    super();
    this.ln1 = new LayerNorm(dim);
    this.msa = new WindowMsa(dim);
    this.ln2 = new LayerNorm(dim);
    this.mlp = new Sequential(new Linear(dim, 4 * dim), gelu, new Linear(4 * dim, dim));
  }

  forward(x: Tensor, shift: number): Tensor {
    const h = add(x, this.msa.forward(this.ln1.forward(x), shift));
    return add(h, this.mlp.forward(this.ln2.forward(h)));
  }
}

/** x (N, h, w, 2 half) -> the same: one half through convolutions, one through a Swin block, joined around a residual. */
export class ConvTransBlock extends Module {
  private readonly half: number;
  private readonly shift: number;
  trans_block: TransformerBlock;
  conv1_1: Layer;
  conv1_2: Layer;
  conv_block: Layer;

  constructor(half: number, shifted: boolean) {
    super();
    this.half = half;
    this.shift = shifted ? WINDOW / 2 : 0;
    this.trans_block = new TransformerBlock(half);
    this.conv1_1 = new Conv2d(2 * half, 2 * half, 1);
    this.conv1_2 = new Conv2d(2 * half, 2 * half, 1);
    this.conv_block = new Sequential(bareConv(half, half, 3), relu, bareConv(half, half, 3));
  }

  forward(x: Tensor): Tensor {
    const { half } = this;
    const both = this.conv1_1.forward(x);
    const [u, v] = [slice(both, -1, 0, half), slice(both, -1, half, 2 * half)];
    const convolved = add(u, this.conv_block.forward(u));
    return add(x, this.conv1_2.forward(concat([convolved, this.trans_block.forward(v, this.shift)])));
  }
}

type Stage = Layer[];

const run = (stage: Stage, x: Tensor) => stage.reduce((h, part) => part.forward(h), x);

const blocks = (count: number, channels: number) => Array.from({ length: count }, (_, i) => new ConvTransBlock(channels / 2, i % 2 === 1));

export class ScUnet extends NetworkModule {
  m_head: Layer;
  m_down1: Stage;
  m_down2: Stage;
  m_down3: Stage;
  m_body: Stage;
  m_up3: Stage;
  m_up2: Stage;
  m_up1: Stage;
  m_tail: Layer;

  constructor({ dim, config }: ScUnetConfig) {
    super();
    const down = (level: number) => [...blocks(config[level], dim * 2 ** level), bareConv(dim * 2 ** level, dim * 2 ** (level + 1), 2, 2)];
    const up = (level: number) => [new Doubling(dim * 2 ** (level + 1), dim * 2 ** level), ...blocks(config[6 - level], dim * 2 ** level)];
    this.m_head = new Sequential(bareConv(3, dim, 3));
    this.m_down1 = down(0);
    this.m_down2 = down(1);
    this.m_down3 = down(2);
    this.m_body = blocks(config[3], 8 * dim);
    this.m_up3 = up(2);
    this.m_up2 = up(1);
    this.m_up1 = up(0);
    this.m_tail = new Sequential(bareConv(dim, 3, 3));
  }

  /** It reads the picture pixel by pixel. */
  readonly blockSide = 1;

  /** Modules after which a tile keeps what it has (models/cut-graph.ts). */
  stops(): Module[] {
    const stages = [this.m_down1, this.m_down2, this.m_down3, this.m_body, this.m_up3, this.m_up2, this.m_up1];
    return stages.flat();
  }

  /** x (N, H, W, 3) in [0, 1], sides multiples of 64 -> the same size, not clamped. */
  forward(x: Tensor): Tensor {
    return this.ofBlocks(x);
  }

  ofBlocks(x: Tensor): Tensor {
    const x1 = this.m_head.forward(x);
    const x2 = run(this.m_down1, x1);
    const x3 = run(this.m_down2, x2);
    const x4 = run(this.m_down3, x3);
    let h = add(run(this.m_up3, add(run(this.m_body, x4), x4)), x3);
    h = run(this.m_up1, add(run(this.m_up2, h), x2));
    return this.m_tail.forward(add(h, x1));
  }
}
