/**
 * DDPM's ancestral sampling (Ho et al. 2020, algorithm 2) over some of the training levels, with the betas that these levels imply
 * (Nichol & Dhariwal 2021, "Improved DDPM", sec. 4).
 */
import type { Network } from './denoiser.ts';
import {
  checkDiffusion,
  cleanFrom,
  type Diffusion,
  type DiffusionSamplerOptions,
  guidedPrediction,
  mixtureAt,
  scaleAt,
} from './diffusion.ts';
import { addNoise, checkOptions, firstStep, progressAt, startLatent } from './sampler.ts';
import { checkSteps } from './schedule.ts';

/** A level of the run; all numbers of float32, as the published program keeps them. */
export interface SpacedStep {
  timestep: number;
  alphaCumprod: number;
  /** Variance and mean of x at the next lower level, given x_0 and x at this one: coef1 x_0 + coef2 x. (eq. 7) */
  posteriorVariance: number;
  posteriorMeanCoef1: number;
  posteriorMeanCoef2: number;
}

export interface SpacedOptions extends DiffusionSamplerOptions {
  /** Changes the estimate of the clean latent before it is used, as restoration guidance does. */
  correct?: {
    /** How many draws of noise it takes in a step. */
    draws(step: SpacedStep): number;
    apply(x0: Float32Array, step: SpacedStep, draws: Float32Array[]): Promise<Float32Array>;
  };
}

/**
 * The levels of a run with n steps, ascending, evenly spaced from 0 to the last; one alone is the last. Half-way positions go to the even number.
 * @throws UserError unless n is a whole number from 1 to the number of levels.
 */
export function spacedSteps(alphasCumprod: Float64Array, n: number): SpacedStep[] {
  const last = alphasCumprod.length - 1;
  checkSteps(n, last + 1);
  const timesteps = n === 1 ? [last] : [];
  for (let i = 0, at = 0; n > 1 && i < n; i++, at += last / (n - 1)) timesteps.push(roundHalfToEven(at));
  let before = 1;
  return timesteps.map((timestep) => {
    const now = alphasCumprod[timestep];
    const beta = 1 - now / before;
    const step = {
      timestep,
      alphaCumprod: now,
      posteriorVariance: Math.fround((beta * (1 - before)) / (1 - now)),
      posteriorMeanCoef1: Math.fround((beta * Math.sqrt(before)) / (1 - now)),
      posteriorMeanCoef2: Math.fround(((1 - before) * Math.sqrt(1 - beta)) / (1 - now)),
    };
    before = now;
    return step;
  });
}

function roundHalfToEven(value: number): number {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/**
 * Runs the sampler from pure noise, or from where it was stopped, to a clean latent. Draws noise for the start and in every step; the last
 * step's is not used.
 * @throws UserError for an impossible option or pair of schedule and model, sizes that do not match, or a network that fails to answer with numbers; the signal's reason when aborted.
 */
export async function sampleSpaced(network: Network, diffusion: Diffusion, options: SpacedOptions): Promise<Float32Array> {
  const { steps, noise, controlScale = 1, signal, onStep, startStep = 0, correct } = options;
  checkDiffusion(diffusion);
  const levels = spacedSteps(diffusion.alphasCumprod, steps);
  checkOptions(options);
  const first = firstStep(options);
  let x = startLatent(options, 0, mixtureAt(levels[steps - 1 - first].alphaCumprod));

  for (let i = first; i < steps; i++) {
    const level = levels[steps - 1 - i];
    const own = Array.from({ length: correct?.draws(level) ?? 0 }, noise);
    const draw = noise();
    if (i < startStep) continue; // done before; only its draws are taken
    signal?.throwIfAborted();

    const { timestep, alphaCumprod, posteriorMeanCoef1, posteriorMeanCoef2, posteriorVariance } = level;
    const cfg = scaleAt(options, timestep);
    const predicted = await guidedPrediction(network, { x, timestep, controlScale, progress: progressAt(i, steps) }, cfg);
    const denoised = cleanFrom(diffusion.parameterization, x, predicted, alphaCumprod);
    const target = correct ? await correct.apply(denoised, level, own) : denoised;
    const mean = x.map((v, j) => posteriorMeanCoef1 * target[j] + posteriorMeanCoef2 * v);
    x = i < steps - 1 ? addNoise(mean, draw, Math.sqrt(posteriorVariance)) : mean;
    const sigma = Math.sqrt((1 - alphaCumprod) / alphaCumprod);
    await onStep?.({ step: i + 1, steps, sigma, sigmaHat: sigma, cfg, controlScale, denoised, latent: x });
  }
  return x;
}
