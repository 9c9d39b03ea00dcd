/**
 * Euler's method for few-step distilled ("Lightning") bases: the EDM sampler without added noise, at the trailing timesteps such a base was
 * distilled for, and commonly with a guidance scale of 1, that is without guidance. (SDXL-Lightning, arXiv 2402.13929, sec. 3)
 */
import type { Network } from './denoiser.ts';
import { sampleEdm } from './edm.ts';
import type { SamplerOptions } from './sampler.ts';
import type { NoiseSchedule } from './schedule.ts';

/**
 * Runs the sampler from pure noise, or from where it was stopped, to a clean latent. Draws noise once, for the start.
 * @throws UserError for an impossible option, sizes that do not match, or a network that fails to answer with numbers; the signal's reason when aborted.
 */
export function sampleEuler(network: Network, schedule: NoiseSchedule, options: SamplerOptions): Promise<Float32Array> {
  const { steps, noise, cfg, cfgStart, controlScale, signal, onStep, startStep, latent, begin } = options;
  const sigmas = schedule.trailingSteps(steps);
  return sampleEdm(network, schedule, { steps, noise, cfg, cfgStart, controlScale, signal, onStep, startStep, latent, begin, sigmas });
}
