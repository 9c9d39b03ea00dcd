/** DDIM without added noise (Song et al. 2021, arXiv 2010.02502, eq. 12 with sigma 0), at the levels that Stable Diffusion's first programs chose. */
import type { Network } from './denoiser.ts';
import {
  checkDiffusion,
  cleanFrom,
  type Diffusion,
  type DiffusionSamplerOptions,
  guidedPrediction,
  mixtureAt,
  noiseFrom,
  scaleAt,
} from './diffusion.ts';
import { checkOptions, firstStep, progressAt, startLatent } from './sampler.ts';
import { checkSteps } from './schedule.ts';

/**
 * The levels of a run with about n steps, ascending: 1 and on, 1000 / n apart, rounded down. There may be more than n, and they stop short of the last
 * level where n divides. A level beyond the last, where the published program fails, is the last.
 * @throws UserError unless n is a whole number from 1 to the number of levels.
 */
export function ddimTimesteps(levels: number, n: number): number[] {
  checkSteps(n, levels);
  const stride = Math.floor(levels / n);
  return Array.from({ length: Math.ceil(levels / stride) }, (_, i) => Math.min(i * stride + 1, levels - 1));
}

/**
 * Runs the sampler from pure noise, or from where it was stopped, to a clean latent. Draws noise for the start and, as the published program
 * does, in every step, where it is not used. A run may have more steps than asked for: see `ddimTimesteps`.
 * @throws UserError for an impossible option or pair of schedule and model, sizes that do not match, or a network that fails to answer with numbers; the signal's reason when aborted.
 */
export async function sampleDdim(network: Network, diffusion: Diffusion, options: DiffusionSamplerOptions): Promise<Float32Array> {
  const { noise, controlScale = 1, signal, onStep, startStep = 0 } = options;
  const { alphasCumprod, parameterization } = diffusion;
  const timesteps = ddimTimesteps(alphasCumprod.length, options.steps);
  const steps = timesteps.length;
  checkDiffusion({ parameterization, alphasCumprod: alphasCumprod.slice(0, timesteps[steps - 1] + 1) });
  checkOptions({ ...options, steps });
  const first = firstStep(options);
  let x = startLatent(options, 0, mixtureAt(alphasCumprod[timesteps[steps - 1 - first]]));

  for (let i = first; i < steps; i++) {
    noise();
    if (i < startStep) continue; // done before; only its draw is taken
    signal?.throwIfAborted();

    const at = steps - 1 - i;
    const timestep = timesteps[at];
    const [a, next] = [alphasCumprod[timestep], at > 0 ? alphasCumprod[timesteps[at - 1]] : alphasCumprod[0]];
    const cfg = scaleAt(options, timestep);
    const predicted = await guidedPrediction(network, { x, timestep, controlScale, progress: progressAt(i, steps) }, cfg);
    const denoised = cleanFrom(parameterization, x, predicted, a);
    const eps = noiseFrom(parameterization, x, predicted, a);
    x = denoised.map((v, j) => Math.sqrt(next) * v + Math.sqrt(1 - next) * eps[j]);
    const sigma = Math.sqrt((1 - a) / a);
    await onStep?.({ step: i + 1, steps, sigma, sigmaHat: sigma, cfg, controlScale, denoised, latent: x });
  }
  return x;
}
