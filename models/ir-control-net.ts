/**
 * DiffBIR's IRControlNet: a copy of the UNet's encoder and middle that reads the latent of the cleaned picture concatenated to the noisy one;
 * its features pass through convolutions that training starts at zero and are added. (DiffBIR, arXiv 2308.15070, sec. 3.2; ControlNet, arXiv 2302.05543)
 * Weights lie at the root of the file.
 */
import type { Scalar } from '../core/scalar.ts';
import type { Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { concat } from '../kernels/copy.ts';
import { affine } from '../kernels/unary.ts';
import { skipChannels, UnetEncoder } from './blocks.ts';
import type { UnetConfig } from './config.ts';
import { Conv2d, type Layer } from './layers.ts';
import type { Join } from './unet.ts';

export class IrControlNet extends UnetEncoder {
  zero_convs: Layer[][];
  middle_block_out: Layer[];

  /** config: the UNet's. */
  constructor(config: UnetConfig) {
    super({ ...config, in_channels: 2 * config.in_channels });
    const channels = skipChannels(config);
    const last = channels[channels.length - 1];
    this.zero_convs = channels.map((count) => [new Conv2d(count, count, 1)]);
    this.middle_block_out = [new Conv2d(last, last, 1)];
  }

  /**
   * x (N, h, w, z) noisy latent as the UNet gets it; hint (N, h, w, z) latent of the cleaned picture, scaled; timestep (N, model_channels) embedded;
   * context (N, L, D). -> one feature an input block, then the middle's.
   */
  forward(x: Tensor, hint: Tensor, timestep: Tensor, context: Tensor): Tensor[] {
    const conditioning = { emb: this.embed(timestep, null), context };
    let h = concat([x, hint]);
    const features = this.input_blocks.map((block, i) => {
      h = block.forward(h, conditioning);
      return this.zero_convs[i][0].forward(h);
    });
    return [...features, this.middle_block_out[0].forward(this.middle_block.forward(h, conditioning))];
  }
}

/** How IRControlNet's features enter the UNet: added, all times `strength`; 0 is plain Stable Diffusion. */
export function addedFeatures(features: Tensor[], strength: Scalar): Join {
  const left = [...features];
  const next = () => affine(left.pop()!, strength, 0);
  return {
    middle: (h) => add(h, next()),
    skip: (h, skip) => concat([h, add(skip, next())]),
    beforeUpsample: (h) => h,
  };
}
