/**
 * The UNet of Stable Diffusion 2 and of SDXL. (Latent diffusion, arXiv 2112.10752; SDXL, arXiv 2307.01952)
 * Checkpoint prefix `model.diffusion_model.`
 */
import type { Tensor } from '../core/tensor.ts';
import { concat } from '../kernels/copy.ts';
import { silu } from '../kernels/unary.ts';
import { Block, type Conditioning, resAndTransformer, skipChannels, UnetEncoder } from './blocks.ts';
import type { UnetConfig } from './config.ts';
import { Conv2d, GroupNorm, type Layer, Sequential } from './layers.ts';
import { Upsample } from './upsample.ts';

/** How a control network's features enter the decoder half. Called in this order: once, then for every output block. */
export interface Join {
  /** h after the middle block -> the same shape. */
  middle(h: Tensor): Tensor;
  /** h and the skip connection of an output block -> both, concatenated along channels. */
  skip(h: Tensor, skip: Tensor): Tensor;
  /** h of an output block before it is enlarged -> the same shape. */
  beforeUpsample(h: Tensor): Tensor;
}

/** No control network. */
const PLAIN: Join = { middle: (h) => h, skip: (h, skip) => concat([h, skip]), beforeUpsample: (h) => h };

export class Unet extends UnetEncoder {
  output_blocks: Block[] = [];
  out: Layer;
  /** Blocks of the decoder's last level. */
  private readonly shallow: number;

  constructor(config: UnetConfig) {
    super(config);
    const { model_channels, channel_mult, num_res_blocks, transformer_depth, norm_groups } = config;
    this.shallow = num_res_blocks + 1;
    const skips = skipChannels(config);
    let channels = channel_mult[channel_mult.length - 1] * model_channels;
    for (let level = channel_mult.length - 1; level >= 0; level--) {
      const out = channel_mult[level] * model_channels;
      for (let i = 0; i <= num_res_blocks; i++) {
        const parts = resAndTransformer(config, channels + skips.pop()!, out, transformer_depth[level]);
        channels = out;
        if (level > 0 && i === num_res_blocks) parts.push(new Upsample(channels));
        this.output_blocks.push(new Block(...parts));
      }
    }
    this.out = new Sequential(new GroupNorm(model_channels, norm_groups), silu, new Conv2d(model_channels, config.out_channels, 3));
  }

  /**
   * The last block below the level of the latent's own size. What it makes of one step differs little from what it makes of the next, so step caching takes it
   * over, and all that only leads to it, the deep part of a control network too, is left out then. (DeepCache, arXiv 2312.00858, sec. 3.2)
   */
  get deepest(): Block {
    return this.output_blocks.at(-1 - this.shallow) ?? this.middle_block;
  }

  /**
   * x (N, h, w, z) noisy latent scaled by c_in; timestep (N, model_channels) embedded; context (N, L, D); vector (N, V), or null where the model
   * has none. h and w are multiples of 2^(levels - 1). -> the prediction (N, h, w, z)
   */
  predict(x: Tensor, timestep: Tensor, context: Tensor, vector: Tensor | null, join: Join = PLAIN): Tensor {
    const conditioning: Conditioning = { emb: this.embed(timestep, vector), context };
    const skips: Tensor[] = [];
    let h = x;
    for (const block of this.input_blocks) skips.push((h = block.forward(h, conditioning)));
    h = join.middle(this.middle_block.forward(h, conditioning));
    for (const block of this.output_blocks) h = block.forward(join.skip(h, skips.pop()!), conditioning, join.beforeUpsample);
    return this.out.forward(h);
  }
}
