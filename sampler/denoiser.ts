/**
 * From a network that predicts noise to an estimate of the clean latent: the preconditioning of Karras et al. 2022 (sec. 5, table 1, "eps"),
 * at the nearest noise level the network was trained with.
 */
import { UserError } from '../core/errors.ts';
import { firstNotFinite } from '../core/finite.ts';
import { combined } from './sampler.ts';
import type { NoiseSchedule } from './schedule.ts';

export interface NetworkInput {
  /** The noisy latent times c_in, so of about unit variance; both branches start from it. */
  x: Float32Array;
  /** Index of the noise level, 0 to 999; some samplers ask between two levels. */
  timestep: number;
  /** Strength of the control network, 0 (plain SDXL) to 1. */
  controlScale: number;
  /** How far the run is: 0 in the first step, 1 in the last. Default 0. */
  progress?: number;
  /** True where only the positive prediction is used: the negative one may then be any, such as the positive one again. */
  unguided?: boolean;
  /** Step caching: whether deep features may be those of the evaluation before. Default false. */
  reuse?: boolean;
}

/** Predicts the noise in x (or what else it was trained for) under the negative and under the positive prompt; each of x's size. */
export type Network = (input: NetworkInput) => Promise<{ negative: Float32Array; positive: Float32Array }>;

export interface Scaling {
  timestep: number;
  /** The training sigma of that timestep. */
  sigma: number;
  cIn: number;
  cOut: number;
  cSkip: number;
}

/** The factors of denoised = c_skip x + c_out network(c_in x, timestep), at the training sigma nearest to `sigma`. */
export function scalingAt(schedule: NoiseSchedule, sigma: number): Scaling {
  const timestep = schedule.nearest(sigma);
  const snapped = schedule.sigmas[timestep];
  return { timestep, sigma: snapped, cIn: 1 / Math.sqrt(snapped ** 2 + 1), cOut: -snapped, cSkip: 1 };
}

/**
 * The network's two predictions.
 * @throws UserError if the network answers with another size, or with values that are not numbers.
 */
export async function predict(network: Network, input: NetworkInput): Promise<{ negative: Float32Array; positive: Float32Array }> {
  const predictions = await network(input);
  for (const branch of ['negative', 'positive'] as const) {
    const predicted = predictions[branch];
    if (predicted.length !== input.x.length) {
      throw new UserError(`The network returned ${predicted.length} values for a latent of ${input.x.length} in its ${branch} branch.`);
    }
    if (firstNotFinite(predicted) >= 0) {
      throw new UserError(
        `The network returned values that are not finite at timestep ${input.timestep} (${branch} branch), so the image would be black. Run it with f32 activations, or check the weights and the LoRA scales.`,
      );
    }
  }
  return predictions;
}

/**
 * The clean latent as each branch estimates it, from a latent x with noise of strength sigma.
 * @throws UserError if the network answers with another size, or with values that are not numbers.
 */
export async function denoise(
  network: Network,
  schedule: NoiseSchedule,
  x: Float32Array,
  sigma: number,
  controlScale: number,
  progress?: number,
): Promise<{ negative: Float32Array; positive: Float32Array }> {
  const { timestep, cIn, cOut, cSkip } = scalingAt(schedule, sigma);
  const noise = await predict(network, { x: x.map((v) => v * cIn), timestep, controlScale, progress });
  const estimate = (predicted: Float32Array) => combined(cSkip, x, cOut, predicted);
  return { negative: estimate(noise.negative), positive: estimate(noise.positive) };
}
