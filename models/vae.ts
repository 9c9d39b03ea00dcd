/**
 * The first stage: a convolutional autoencoder between images and latents, with SUPIR's second encoder for degraded images.
 * (Latent diffusion, arXiv 2112.10752; SDXL, arXiv 2307.01952; degradation-robust encoder: SUPIR, arXiv 2401.13627, sec. 3.1)
 * Images (N, H, W, 3) in [-1, 1]; latents (N, H / f, W / f, z) in the autoencoder's own scale, f = 2^(levels - 1).
 */
import { Module, NetworkModule } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { attention } from '../kernels/attention.ts';
import { add } from '../kernels/binary.ts';
import { slice } from '../kernels/copy.ts';
import { silu } from '../kernels/unary.ts';
import type { VaeConfig } from './config.ts';
import { Conv2d, GroupNorm, type Layer } from './layers.ts';
import { Upsample } from './upsample.ts';

/** Everywhere in the autoencoder. */
const EPS = 1e-6;

/** Two normalised convolutions around a shortcut; x (N, H, W, in) -> (N, H, W, out). */
class ResnetBlock extends Module {
  norm1: Layer;
  conv1: Layer;
  norm2: Layer;
  conv2: Layer;
  nin_shortcut?: Layer;

  constructor(inChannels: number, outChannels: number, groups: number) {
    super();
    this.norm1 = new GroupNorm(inChannels, groups, EPS);
    this.conv1 = new Conv2d(inChannels, outChannels, 3);
    this.norm2 = new GroupNorm(outChannels, groups, EPS);
    this.conv2 = new Conv2d(outChannels, outChannels, 3);
    if (inChannels !== outChannels) this.nin_shortcut = new Conv2d(inChannels, outChannels, 1);
  }

  forward(x: Tensor): Tensor {
    const h = this.conv1.forward(silu(this.norm1.forward(x)));
    return add(this.nin_shortcut?.forward(x) ?? x, this.conv2.forward(silu(this.norm2.forward(h))));
  }
}

/** Self-attention over all pixels with one head; x (N, H, W, C) -> the same. */
class AttnBlock extends Module {
  norm: Layer;
  q: Layer;
  k: Layer;
  v: Layer;
  proj_out: Layer;

  constructor(channels: number, groups: number) {
    super();
    this.norm = new GroupNorm(channels, groups, EPS);
    this.q = new Conv2d(channels, channels, 1);
    this.k = new Conv2d(channels, channels, 1);
    this.v = new Conv2d(channels, channels, 1);
    this.proj_out = new Conv2d(channels, channels, 1);
  }

  forward(x: Tensor): Tensor {
    const h = this.norm.forward(x);
    return add(x, this.proj_out.forward(attention(this.q.forward(h), this.k.forward(h), this.v.forward(h), 1)));
  }
}

class Middle extends Module {
  block_1: ResnetBlock;
  attn_1: AttnBlock;
  block_2: ResnetBlock;

  constructor(channels: number, groups: number) {
    super();
    this.block_1 = new ResnetBlock(channels, channels, groups);
    this.attn_1 = new AttnBlock(channels, groups);
    this.block_2 = new ResnetBlock(channels, channels, groups);
  }

  forward(x: Tensor): Tensor {
    return this.block_2.forward(this.attn_1.forward(this.block_1.forward(x)));
  }
}

/** Halves the size: a zero row at the bottom and column at the right, then stride 2. */
class Downsample extends Module {
  conv: Layer;

  constructor(channels: number) {
    super();
    this.conv = new Conv2d(channels, channels, 3, { stride: 2, padding: [0, 1, 0, 1] });
  }

  forward(x: Tensor): Tensor {
    return this.conv.forward(x);
  }
}

class Level extends Module {
  block: ResnetBlock[];
  downsample?: Downsample;
  upsample?: Upsample;

  constructor(block: ResnetBlock[]) {
    super();
    this.block = block;
  }

  forward(x: Tensor): Tensor {
    const h = this.block.reduce((value, block) => block.forward(value), x);
    return (this.downsample ?? this.upsample)?.forward(h) ?? h;
  }
}

function resnetBlocks(count: number, inChannels: number, outChannels: number, groups: number): ResnetBlock[] {
  return Array.from({ length: count }, (_, i) => new ResnetBlock(i === 0 ? inChannels : outChannels, outChannels, groups));
}

export class Encoder extends NetworkModule {
  conv_in: Layer;
  down: Level[];
  mid: Middle;
  norm_out: Layer;
  conv_out: Layer;

  constructor({ ch, ch_mult, num_res_blocks, z_channels, norm_groups }: VaeConfig) {
    super();
    const channels = ch_mult.map((multiple) => ch * multiple);
    const last = channels.length - 1;
    this.conv_in = new Conv2d(3, ch, 3);
    this.down = channels.map((out, i) => {
      const level = new Level(resnetBlocks(num_res_blocks, channels[i - 1] ?? ch, out, norm_groups));
      if (i < last) level.downsample = new Downsample(out);
      return level;
    });
    this.mid = new Middle(channels[last], norm_groups);
    this.norm_out = new GroupNorm(channels[last], norm_groups, EPS);
    this.conv_out = new Conv2d(channels[last], 2 * z_channels, 3);
  }

  /** x (N, H, W, 3) -> moments (N, H / f, W / f, 2 z) before quant_conv. */
  forward(x: Tensor): Tensor {
    const h = this.down.reduce((value, level) => level.forward(value), this.conv_in.forward(x));
    return this.conv_out.forward(silu(this.norm_out.forward(this.mid.forward(h))));
  }
}

export class Decoder extends NetworkModule {
  conv_in: Layer;
  mid: Middle;
  up: Level[];
  norm_out: Layer;
  conv_out: Layer;

  constructor({ ch, ch_mult, num_res_blocks, z_channels, norm_groups }: VaeConfig) {
    super();
    const channels = ch_mult.map((multiple) => ch * multiple);
    const last = channels.length - 1;
    this.conv_in = new Conv2d(z_channels, channels[last], 3);
    this.mid = new Middle(channels[last], norm_groups);
    this.up = channels.map((out, i) => {
      const level = new Level(resnetBlocks(num_res_blocks + 1, channels[i + 1] ?? channels[last], out, norm_groups));
      if (i > 0) level.upsample = new Upsample(out);
      return level;
    });
    this.norm_out = new GroupNorm(ch, norm_groups, EPS);
    this.conv_out = new Conv2d(ch, 3, 3);
  }

  /** z (N, h, w, z) after post_quant_conv -> x (N, f h, f w, 3), not clamped. */
  forward(z: Tensor): Tensor {
    const h = this.up.reduceRight((value, level) => level.forward(value), this.mid.forward(this.conv_in.forward(z)));
    return this.conv_out.forward(silu(this.norm_out.forward(h)));
  }
}

/** Stable Diffusion's autoencoder. Checkpoint prefix `first_stage_model.` */
export class Vae extends NetworkModule {
  encoder: Encoder;
  decoder: Decoder;
  quant_conv: Layer;
  post_quant_conv: Layer;

  constructor(config: VaeConfig) {
    super();
    this.encoder = new Encoder(config);
    this.decoder = new Decoder(config);
    this.quant_conv = new Conv2d(2 * config.z_channels, 2 * config.z_channels, 1);
    this.post_quant_conv = new Conv2d(config.z_channels, config.z_channels, 1);
  }

  /** x (N, H, W, 3) in [-1, 1] -> moments (N, H / f, W / f, 2 z): mean, then log variance. H and W are multiples of f. */
  encode(x: Tensor): Tensor {
    return this.quant_conv.forward(this.encoder.forward(x));
  }

  /** z (N, h, w, z) -> x (N, f h, f w, 3), not clamped. */
  decode(z: Tensor): Tensor {
    return this.decoder.forward(this.post_quant_conv.forward(z));
  }
}

/** Which encoder: SDXL's own, or SUPIR's for degraded images. */
export type EncoderName = 'encoder' | 'denoise_encoder';

/** With SUPIR's second encoder. */
export class SupirVae extends Vae {
  denoise_encoder: Encoder;

  constructor(config: VaeConfig) {
    super(config);
    this.denoise_encoder = new Encoder(config);
  }

  override encode(x: Tensor, which: EncoderName = 'encoder'): Tensor {
    return this.quant_conv.forward(this[which].forward(x));
  }
}

/** The mean of moments (N, h, w, 2 z) -> (N, h, w, z). */
export function meanOf(moments: Tensor): Tensor {
  return slice(moments, -1, 0, moments.shape[3] / 2);
}
