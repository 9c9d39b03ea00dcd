/**
 * SUPIR's control network: a copy of the UNet's encoder and middle that reads the degraded image's latent beside the noisy one and returns
 * a feature for every skip connection. (SUPIR, arXiv 2401.13627, sec. 3.2; ControlNet, arXiv 2302.05543)
 * Checkpoint prefix `model.control_model.`
 */
import { observe } from '../core/observe.ts';
import type { Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { run, UnetEncoder } from './blocks.ts';
import type { UnetConfig } from './config.ts';
import { conv2d, type Layer, sequential } from './layers.ts';

export class ControlNet extends UnetEncoder {
  input_hint_block: Layer;

  constructor(config: UnetConfig) {
    super(config);
    this.input_hint_block = sequential(conv2d(config.in_channels, config.model_channels, 3));
  }

  /**
   * x (N, h, w, z) noisy latent scaled by c_in; hint (N, h, w, z) latent of the degraded image; timestep (N, model_channels) embedded;
   * context (N, L, D); vector (N, V). -> one feature an input block, then the middle's.
   */
  forward(x: Tensor, hint: Tensor, timestep: Tensor, context: Tensor, vector: Tensor): Tensor[] {
    const conditioning = { emb: this.embed(timestep, vector), context };
    const features: Tensor[] = [];
    let h = x;
    this.input_blocks.forEach((block, i) => {
      h = run(block, h, conditioning);
      if (i === 0) h = add(h, this.input_hint_block(hint));
      features.push(observe(`input_blocks.${i}`, h));
    });
    return [...features, observe('middle_block', run(this.middle_block, h, conditioning))];
  }
}
