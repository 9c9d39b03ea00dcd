/**
 * The task of predicting noise in cached latents, in two modes: plain denoising with SDXL's UNet (arXiv 2408.17060, sec. 3.3), and restoration,
 * in which the control network sees the degraded image and the loss the whole of SUPIR.
 */

import { UserError } from '../core/errors.ts';
import { joined } from '../core/joined.ts';
import type { TorchRandom } from '../core/random.ts';
import { input, sizeOf, type Tensor } from '../core/tensor.ts';
import type { RunInputs } from '../gpu/program.ts';
import type { Supir } from '../models/supir.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import { minSnrWeight, noiseLoss, noisy, trainingNoise } from './loss.ts';
import type { Task, TrainingItem } from './training.ts';

/** An image as the UNet is trained on it; all values on the host. */
export interface TrainingImage extends TrainingItem {
  /** Of `shape` (h, w, z), latents in unit scale: the mean and the deviation that the autoencoder gives. */
  mean: Float32Array;
  deviation: Float32Array;
  /** (h, w, z), the degraded image's latent; for restoration. */
  hint?: Float32Array;
  /** (L, D) and (V): what the caption conditions. */
  context: Float32Array;
  vector: Float32Array;
}

export interface DenoisingOptions {
  mode: 'denoising' | 'restoration';
  /** gamma of min-SNR weighting; null for equal weights. Default null. */
  minSnr?: number | null;
  noiseOffset?: number;
}

export class DenoisingTask implements Task<TrainingImage> {
  /** Noise levels at which an image is judged, from low to high. */
  readonly levels = 8;
  private readonly supir: Supir;
  private readonly options: DenoisingOptions;
  private readonly schedule = new NoiseSchedule();

  /** Throws UserError for a gamma that is not above 0. */
  constructor(supir: Supir, options: DenoisingOptions) {
    minSnrWeight(1, options.minSnr ?? null);
    this.supir = supir;
    this.options = options;
  }

  graph(images: readonly TrainingImage[]): { loss: Tensor; perImage: Tensor } {
    const { unet } = this.supir.config;
    const { diffusion_model, control_model } = this.supir.model;
    const [n, { shape, context }] = [images.length, images[0]];
    const [x, noise] = [input('x', [n, ...shape]), input('noise', [n, ...shape])];
    const timestep = input('timestep', [n, unet.model_channels]);
    const text = input('context', [n, context.length / unet.context_dim, unet.context_dim]);
    const vector = input('vector', [n, unet.adm_in_channels]);
    const features = () => control_model.forward(x, input('hint', [n, ...shape]), timestep, text, vector);
    const control = this.options.mode === 'restoration' ? { features: features(), scale: 1 } : null;
    const predicted = diffusion_model.forward(x, timestep, text, vector, control);
    return noiseLoss(predicted, noise, input('weight', [n]));
  }

  inputs(images: readonly TrainingImage[], random: TorchRandom, level?: number): RunInputs {
    const { mode, minSnr = null, noiseOffset = 0 } = this.options;
    const { sigmas } = this.schedule;
    const shape = [images.length, ...images[0].shape];
    const fixed = level === undefined ? undefined : Math.floor(((level + 0.5) * sigmas.length) / this.levels);
    const levels = images.map(() => fixed ?? Math.min(sigmas.length - 1, Math.floor(random.rand(1)[0] * sigmas.length)));
    const spread = random.randn(sizeOf(shape));
    const noise = trainingNoise(random, shape, noiseOffset);
    const all = (part: (image: TrainingImage) => Float32Array) => joined(images.map(part));
    const deviation = all((image) => image.deviation);
    const clean = all((image) => image.mean).map((value, i) => value + deviation[i] * spread[i]);
    const chosen = levels.map((each) => sigmas[each]);
    const hint = (image: TrainingImage) => {
      if (!image.hint) throw new UserError(`${image.name} has no degraded counterpart, which training for restoration needs.`);
      return image.hint;
    };
    return {
      x: noisy(clean, noise, chosen),
      noise,
      weight: Float32Array.from(chosen, (sigma) => minSnrWeight(sigma, minSnr)),
      timestep: timestepEmbedding(levels, this.supir.config.unet.model_channels),
      context: all((image) => image.context),
      vector: all((image) => image.vector),
      ...(mode === 'restoration' ? { hint: all(hint) } : {}),
    };
  }
}
