/**
 * The tasks of the autoencoder's parts, on pixels. SDXL's own encoder and decoder: a picture comes back, with L1 and a little KL (Kingma & Welling
 * 2013; Rombach et al. 2022). SUPIR's denoise encoder: what it makes of a degraded picture decodes to the clean one (arXiv 2401.13627, sec. 3.1).
 */

import { UserError } from '../core/errors.ts';
import { joined } from '../core/joined.ts';
import type { TorchRandom } from '../core/random.ts';
import { input, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import type { RunInputs } from '../gpu/program.ts';
import { add, mul, sub } from '../kernels/binary.ts';
import { slice } from '../kernels/copy.ts';
import { mean } from '../kernels/reduce.ts';
import { reshape } from '../kernels/reshape.ts';
import { abs, affine, exp, square } from '../kernels/unary.ts';
import { latentFactor } from '../models/config.ts';
import type { Supir } from '../models/supir.ts';
import { meanOf } from '../models/vae.ts';
import type { Task, TrainingItem } from './training.ts';

/** A picture of `shape` (H, W, 3). */
export interface TrainingPicture extends TrainingItem {
  /** In [-1, 1]. */
  pixels: Float32Array;
  /** The same, damaged; for the denoise encoder. */
  degraded?: Float32Array;
}

type Loss = { loss: Tensor; perImage: Tensor };

const perImageMean = (x: Tensor): Tensor => mean(reshape(x, [x.shape[0], sizeOf(x.shape.slice(1))]));
const total = (perImage: Tensor): Loss => ({ loss: mean(perImage), perImage });

const pixelsOf = (pictures: readonly TrainingPicture[]) => joined(pictures.map(({ pixels }) => pixels));

export class AutoencoderTask implements Task<TrainingPicture> {
  readonly levels = 1;
  private readonly supir: Supir;
  private readonly kl: number;

  /** `kl`: weight of the latents' KL divergence from unit noise, a mean over their values, beside the mean absolute difference of pixels. */
  constructor(supir: Supir, kl = 1e-6) {
    if (!(kl >= 0)) throw new UserError(`The weight of KL is ${kl}; it must not be negative.`);
    this.supir = supir;
    this.kl = kl;
  }

  graph(pictures: readonly TrainingPicture[]): Loss {
    const vae = this.supir.first_stage_model;
    const x = input('x', [pictures.length, ...pictures[0].shape]);
    const moments = vae.encode(x, 'encoder');
    const z = moments.shape[3] / 2;
    const [center, logvar] = [meanOf(moments), slice(moments, -1, z, 2 * z)];
    const latent = add(center, mul(exp(affine(logvar, 0.5, 0)), input('noise', center.shape)));
    const difference = perImageMean(abs(sub(vae.decode(latent), x)));
    const divergence = affine(perImageMean(sub(add(square(center), exp(logvar)), logvar)), 0.5, -0.5);
    return total(add(difference, affine(divergence, this.kl, 0)));
  }

  inputs(pictures: readonly TrainingPicture[], random: TorchRandom): RunInputs {
    const factor = latentFactor(this.supir.config);
    const [height, width] = pictures[0].shape;
    const shape: Shape = [pictures.length, height / factor, width / factor, this.supir.config.vae.z_channels];
    return { x: pixelsOf(pictures), noise: random.randn(sizeOf(shape)) };
  }
}

export class DenoiseEncoderTask implements Task<TrainingPicture> {
  readonly levels = 1;
  private readonly supir: Supir;

  constructor(supir: Supir) {
    this.supir = supir;
  }

  graph(pictures: readonly TrainingPicture[]): Loss {
    const vae = this.supir.first_stage_model;
    const shape = [pictures.length, ...pictures[0].shape];
    const decoded = vae.decode(meanOf(vae.encode(input('degraded', shape), 'denoise_encoder')));
    return total(perImageMean(square(sub(decoded, input('x', shape)))));
  }

  inputs(pictures: readonly TrainingPicture[]): RunInputs {
    const degraded = pictures.map((picture) => {
      if (!picture.degraded) throw new UserError(`${picture.name} has no degraded counterpart, which the denoise encoder learns from.`);
      return picture.degraded;
    });
    return { x: pixelsOf(pictures), degraded: joined(degraded) };
  }
}
