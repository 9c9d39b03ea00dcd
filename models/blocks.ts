/**
 * The blocks that SDXL's UNet and SUPIR's control network are built of, and the encoder half that they share.
 * (SDXL, arXiv 2307.01952; ControlNet, arXiv 2302.05543)
 */
import { Module, NetworkModule } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { reshape } from '../kernels/reshape.ts';
import { silu } from '../kernels/unary.ts';
import type { UnetConfig } from './config.ts';
import { Conv2d, GroupNorm, identity, type Layer, Linear, Sequential } from './layers.ts';
import { SpatialTransformer } from './transformer.ts';
import { Upsample } from './upsample.ts';

/** What every block of a network sees beside its input. */
export interface Conditioning {
  /** (N, E) silu of the embedded timestep and vector, which every block reads. */
  emb: Tensor;
  /** (N, L, D) text tokens. */
  context: Tensor;
}

/** Two convolutions with the embedding added between them; x (N, H, W, in) -> (N, H, W, out). */
export class ResBlock extends Module {
  in_layers: Layer;
  emb_layers: Layer;
  out_layers: Layer;
  skip_connection?: Layer;

  constructor(inChannels: number, outChannels: number, embChannels: number, groups: number) {
    super();
    this.in_layers = new Sequential(new GroupNorm(inChannels, groups), silu, new Conv2d(inChannels, outChannels, 3));
    this.emb_layers = new Sequential(identity, new Linear(embChannels, outChannels));
    this.out_layers = new Sequential(new GroupNorm(outChannels, groups), silu, identity, new Conv2d(outChannels, outChannels, 3));
    if (inChannels !== outChannels) this.skip_connection = new Conv2d(inChannels, outChannels, 1);
  }

  forward(x: Tensor, { emb }: Conditioning): Tensor {
    const h = add(this.in_layers.forward(x), perImage(this.emb_layers.forward(emb)));
    return add(this.skip_connection?.forward(x) ?? x, this.out_layers.forward(h));
  }
}

/** Halves the size. */
export class Downsample extends Module {
  op: Layer;

  constructor(channels: number) {
    super();
    this.op = new Conv2d(channels, channels, 3, { stride: 2 });
  }

  forward(x: Tensor): Tensor {
    return this.op.forward(x);
  }
}

type Part = Conv2d | ResBlock | SpatialTransformer | Downsample | Upsample;

/** Parts in order, named by position as in the checkpoint: `input_blocks.4.1.norm`. */
export class Block extends Module {
  constructor(...parts: Part[]) {
    super();
    Object.assign(this, parts);
  }

  /** x (N, H, W, in) -> (N, H', W', out); `beforeUpsample` is asked what is to be enlarged, where something is. */
  forward(x: Tensor, conditioning: Conditioning, beforeUpsample = (h: Tensor): Tensor => h): Tensor {
    return Object.values(this as unknown as Record<string, Part>).reduce((h: Tensor, part) => {
      if (part instanceof ResBlock) return part.forward(h, conditioning);
      if (part instanceof SpatialTransformer) return part.forward(h, conditioning.context);
      return part.forward(part instanceof Upsample ? beforeUpsample(h) : h);
    }, x);
  }
}

/** A ResBlock, and a transformer where depth is not 0. */
export function resAndTransformer(config: UnetConfig, inChannels: number, outChannels: number, depth: number): Part[] {
  const { model_channels, context_dim, num_head_channels, norm_groups } = config;
  const parts: Part[] = [new ResBlock(inChannels, outChannels, 4 * model_channels, norm_groups)];
  if (depth > 0) parts.push(new SpatialTransformer(outChannels, depth, context_dim, num_head_channels, norm_groups));
  return parts;
}

/** The encoder half and the middle of the UNet; the control network is a second one. */
export class UnetEncoder extends NetworkModule {
  time_embed: Layer;
  /** Where the model has a conditioning vector. */
  label_emb?: Layer[];
  input_blocks: Block[];
  middle_block: Block;

  constructor(config: UnetConfig) {
    super();
    const { model_channels, adm_in_channels, channel_mult, num_res_blocks, transformer_depth, middle_depth, in_channels, norm_groups } =
      config;
    const emb = 4 * model_channels;
    this.time_embed = new Sequential(new Linear(model_channels, emb), silu, new Linear(emb, emb));
    if (adm_in_channels > 0) this.label_emb = [new Sequential(new Linear(adm_in_channels, emb), silu, new Linear(emb, emb))];
    this.input_blocks = [new Block(new Conv2d(in_channels, model_channels, 3))];
    let channels = model_channels;
    channel_mult.forEach((multiple, level) => {
      for (let i = 0; i < num_res_blocks; i++) {
        this.input_blocks.push(new Block(...resAndTransformer(config, channels, multiple * model_channels, transformer_depth[level])));
        channels = multiple * model_channels;
      }
      if (level < channel_mult.length - 1) this.input_blocks.push(new Block(new Downsample(channels)));
    });
    this.middle_block = new Block(
      ...resAndTransformer(config, channels, channels, middle_depth),
      new ResBlock(channels, channels, emb, norm_groups),
    );
  }

  /**
   * timestep (N, model_channels) sinusoidal embedding, vector (N, adm_in_channels) or null -> (N, 4 model_channels), behind the activation with which every
   * block begins to read it, so that it is computed once
   */
  embed(timestep: Tensor, vector: Tensor | null): Tensor {
    const emb = this.time_embed.forward(timestep);
    return silu(this.label_emb && vector ? add(emb, this.label_emb[0].forward(vector)) : emb);
  }
}

/** Channels of every input block's result, and the level it is on; the UNet's skips and the control features have these. */
export function skipChannels({ model_channels, channel_mult, num_res_blocks }: UnetConfig): number[] {
  return channel_mult.flatMap((multiple, level) => [
    level === 0 ? model_channels : channel_mult[level - 1] * model_channels,
    ...new Array<number>(num_res_blocks).fill(multiple * model_channels),
  ]);
}

/** (N, C) -> (N, 1, 1, C), to be added to every pixel. */
function perImage(x: Tensor): Tensor {
  return reshape(x, [x.shape[0], 1, 1, x.shape[1]]);
}
