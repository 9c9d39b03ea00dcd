/**
 * SDXL's UNet with the project modules through which SUPIR's control features enter it. (SUPIR, arXiv 2401.13627, sec. 3.2)
 * Checkpoint prefix `model.diffusion_model.`
 */
import type { Scalar } from '../core/scalar.ts';
import type { Tensor } from '../core/tensor.ts';
import { skipChannels } from './blocks.ts';
import type { SupirUnetConfig } from './config.ts';
import { type Join, Unet } from './unet.ts';
import { ZeroCrossAttn, ZeroSFT } from './zero-sft.ts';

/** Control features as ControlNet returns them, and how strongly they act: 1 fully, 0 not at all (exactly plain SDXL). */
export interface Control {
  features: Tensor[];
  /** One for all project modules, or one for each, in order of the checkpoint. */
  scale: Scalar | readonly Scalar[];
}

export class SupirUnet extends Unet {
  /** In order of the checkpoint: from the last output block to the middle. */
  project_modules: (ZeroSFT | ZeroCrossAttn)[];

  constructor(config: SupirUnetConfig) {
    super(config);
    const { model_channels, channel_mult, num_res_blocks, norm_groups, sft_hidden, project_head_channels } = config;
    const skips = skipChannels(config);
    let channels = channel_mult[channel_mult.length - 1] * model_channels;
    const projects: SupirUnet['project_modules'] = [new ZeroSFT(channels, channels, 0, sft_hidden, norm_groups)];
    for (let level = channel_mult.length - 1; level >= 0; level--) {
      for (let i = 0; i <= num_res_blocks; i++) {
        const skip = skips.pop()!;
        projects.push(new ZeroSFT(skip, skip, channels, sft_hidden, norm_groups));
        channels = channel_mult[level] * model_channels;
        if (level > 0 && i === num_res_blocks) projects.push(new ZeroCrossAttn(channels, skip, project_head_channels, norm_groups));
      }
    }
    this.project_modules = projects.reverse();
  }

  /** As `predict`, with SUPIR's control features; null for plain SDXL. -> predicted noise (N, h, w, z) */
  forward(x: Tensor, timestep: Tensor, context: Tensor, vector: Tensor, control: Control | null): Tensor {
    return control ? this.predict(x, timestep, context, vector, this.joinOf(control)) : this.predict(x, timestep, context, vector);
  }

  private joinOf(control: Control): Join {
    const features = [...control.features];
    const projects = [...this.project_modules];
    const scales = [control.scale].flat();
    // Modules are used from the last to the first.
    const scale = () => (scales.length > 1 ? scales.pop()! : scales[0]);
    let feature: Tensor;
    return {
      middle: (h) => (projects.pop() as ZeroSFT).forward(features.pop()!, h, null, scale()),
      skip: (h, skip) => (projects.pop() as ZeroSFT).forward((feature = features.pop()!), skip, h, scale()),
      beforeUpsample: (h) => (projects.pop() as ZeroCrossAttn).forward(feature, h, scale()),
    };
  }
}
