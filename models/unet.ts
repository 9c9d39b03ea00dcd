/**
 * SDXL's UNet, with the twelve project modules through which SUPIR's control features enter it.
 * (SDXL, arXiv 2307.01952; SUPIR, arXiv 2401.13627, sec. 3.2) Checkpoint prefix `model.diffusion_model.`
 */
import { observe } from '../core/observe.ts';
import type { Scalar, Tensor } from '../core/tensor.ts';
import { concat } from '../kernels/copy.ts';
import { silu } from '../kernels/unary.ts';
import { type Block, type Conditioning, resAndTransformer, run, skipChannels, UnetEncoder } from './blocks.ts';
import type { UnetConfig } from './config.ts';
import { conv2d, groupNorm, type Layer, sequential } from './layers.ts';
import { Upsample } from './upsample.ts';
import { ZeroCrossAttn, ZeroSFT } from './zero-sft.ts';

/** Control features as ControlNet returns them, and how strongly they act: 1 fully, 0 not at all (exactly plain SDXL). */
export interface Control {
  features: Tensor[];
  /** One for all project modules, or one for each, in order of the checkpoint. */
  scale: Scalar | readonly Scalar[];
}

export class Unet extends UnetEncoder {
  output_blocks: Block[] = [];
  out: Layer;
  /** In order of the checkpoint: from the last output block to the middle. */
  project_modules: (ZeroSFT | ZeroCrossAttn)[] = [];

  constructor(config: UnetConfig) {
    super(config);
    const { model_channels, channel_mult, num_res_blocks, transformer_depth, norm_groups, sft_hidden, project_head_channels } = config;
    const skips = skipChannels(config);
    let channels = channel_mult[channel_mult.length - 1] * model_channels;
    const projects = [new ZeroSFT(channels, channels, 0, sft_hidden, norm_groups)] as Unet['project_modules'];
    for (let level = channel_mult.length - 1; level >= 0; level--) {
      const out = channel_mult[level] * model_channels;
      for (let i = 0; i <= num_res_blocks; i++) {
        const skip = skips[skips.length - 1 - this.output_blocks.length];
        const block = resAndTransformer(config, channels + skip, out, transformer_depth[level]);
        projects.push(new ZeroSFT(skip, skip, channels, sft_hidden, norm_groups));
        channels = out;
        if (level > 0 && i === num_res_blocks) {
          projects.push(new ZeroCrossAttn(channels, skip, project_head_channels, norm_groups));
          block.push(new Upsample(channels));
        }
        this.output_blocks.push(block);
      }
    }
    this.project_modules = projects.reverse();
    this.out = sequential(groupNorm(model_channels, norm_groups), silu, conv2d(model_channels, config.out_channels, 3));
  }

  /**
   * x (N, h, w, z) noisy latent scaled by c_in; timestep (N, model_channels) embedded; context (N, L, D); vector (N, V); control null for
   * plain SDXL. h and w are multiples of 2^(levels - 1). -> predicted noise (N, h, w, z)
   */
  forward(x: Tensor, timestep: Tensor, context: Tensor, vector: Tensor, control: Control | null): Tensor {
    const conditioning: Conditioning = { emb: this.embed(timestep, vector), context };
    const skips: Tensor[] = [];
    let h = x;
    for (const [i, block] of this.input_blocks.entries()) skips.push((h = observe(`input_blocks.${i}`, run(block, h, conditioning))));
    h = observe('middle_block', run(this.middle_block, h, conditioning));

    const features = control ? [...control.features] : [];
    const projects = [...this.project_modules];
    const scales = control ? [control.scale].flat() : [];
    // Modules are used from the last to the first.
    const scale = () => (scales.length > 1 ? scales.pop()! : scales[0]);
    const projected = (tensor: Tensor) => observe(`project_modules.${projects.length}`, tensor);
    if (control) h = projected((projects.pop() as ZeroSFT).forward(features.pop()!, h, null, scale()));
    for (const [i, block] of this.output_blocks.entries()) {
      const skip = skips.pop()!;
      if (!control) {
        h = observe(`output_blocks.${i}`, run(block, concat([h, skip]), conditioning));
        continue;
      }
      const feature = features.pop()!;
      h = projected((projects.pop() as ZeroSFT).forward(feature, skip, h, scale()));
      const upsample = block[block.length - 1];
      if (upsample instanceof Upsample) {
        h = run(block.slice(0, -1), h, conditioning);
        h = upsample.forward(projected((projects.pop() as ZeroCrossAttn).forward(feature, h, scale())));
      } else h = run(block, h, conditioning);
      observe(`output_blocks.${i}`, h);
    }
    return this.out(h);
  }
}
