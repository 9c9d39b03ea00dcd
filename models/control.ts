/**
 * SUPIR's control network: a copy of the UNet's encoder and middle that reads the degraded image's latent beside the noisy one and returns
 * a feature for every skip connection. (SUPIR, arXiv 2401.13627, sec. 3.2; ControlNet, arXiv 2302.05543)
 * Checkpoint prefix `model.control_model.`
 */
import { traced } from '../core/scope.ts';
import type { Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { UnetEncoder } from './blocks.ts';
import type { UnetConfig } from './config.ts';
import { Conv2d, type Layer, Sequential } from './layers.ts';

export class ControlNet extends UnetEncoder {
  input_hint_block: Layer;

  constructor(config: UnetConfig) {
    super(config);
    this.input_hint_block = new Sequential(new Conv2d(config.in_channels, config.model_channels, 3));
  }

  /**
   * x (N, h, w, z) noisy latent scaled by c_in; hint (N, h, w, z) latent of the degraded image; timestep (N, model_channels) embedded;
   * context (N, L, D); vector (N, V). -> one feature an input block, then the middle's.
   */
  forward(x: Tensor, hint: Tensor, timestep: Tensor, context: Tensor, vector: Tensor): Tensor[] {
    const conditioning = { emb: this.embed(timestep, vector), context };
    const [first, ...others] = this.input_blocks;
    const hinted = this.input_hint_block.forward(hint);
    // The hint joins within the first block.
    const features = [traced(first, () => add(first.forward(x, conditioning), hinted))];
    for (const block of others) features.push(block.forward(features[features.length - 1], conditioning));
    return [...features, this.middle_block.forward(features[features.length - 1], conditioning)];
  }
}
