/**
 * The EDM sampler of first order (Karras et al. 2022, algorithm 2 without the correction step) with SUPIR's restoration guidance and linear
 * control scale (Yu et al. 2024, arXiv 2401.13627, sec. 3.4). Latents are flat arrays of any layout: every operation is elementwise.
 */
import { UserError } from '../core/errors.ts';
import { denoise, type Network } from './denoiser.ts';
import { classifierFree, linearScale, restorationGuided } from './guidance.ts';
import { addNoise, checkOption, checkOptions, firstStep, progressAt, type SamplerOptions, startLatent } from './sampler.ts';
import type { NoiseSchedule } from './schedule.ts';

export interface EdmOptions extends SamplerOptions {
  /** The noise levels, descending, 0 appended: steps + 1 values. Default `schedule.steps(steps)`. */
  sigmas?: Float64Array;
  /** Noise added again over the whole run, in steps' worth, 0 and up; a step's share sChurn / steps is at most sqrt 2 - 1. Default 0, SUPIR's 5. */
  sChurn?: number;
  /** Range of sigma within which noise is added. Default 0 to infinity. */
  sTmin?: number;
  sTmax?: number;
  /** Draws noise also in steps that add none, which is how the published tiled sampler consumes its random numbers. Default false. */
  noiseEveryStep?: boolean;
  /** Control scale at the first sigma, linear in sigma down to `controlScale` at 0; 0 and up. Default `controlScale`: constant. */
  controlStart?: number;
  /** Power of restoration guidance: above 0 pulls the result to `center`, less the higher it is; usual 1 to 6. 0 and below is off. Default -1. */
  restoreCfg?: number;
  /** Restoration guidance stops where the next sigma is not above this. Default 0.05. */
  restoreSigmaMin?: number;
  /** The stage-1 latent that restoration guidance pulls to, in the latent's scale and layout. */
  center?: Float32Array;
}

/**
 * Runs the sampler from pure noise, or from where it was stopped, to a clean latent.
 * @throws UserError for an impossible option, sizes that do not match, or a network that fails to answer with numbers; the signal's reason when aborted.
 */
export async function sampleEdm(network: Network, schedule: NoiseSchedule, options: EdmOptions): Promise<Float32Array> {
  const { steps, noise, cfg: cfgEnd, cfgStart = cfgEnd, controlScale: controlEnd = 1, controlStart = controlEnd, sNoise = 1 } = options;
  const { sChurn = 0, sTmin = 0, sTmax = Number.POSITIVE_INFINITY, noiseEveryStep = false } = options;
  const { restoreCfg = -1, restoreSigmaMin = 0.05, center, signal, onStep, startStep = 0 } = options;
  const sigmas = options.sigmas ?? schedule.steps(steps);
  checkOptions(options);
  if (sigmas.length !== steps + 1)
    throw new UserError(`${steps} steps go through ${steps + 1} noise levels, and ${sigmas.length} were given.`);
  checkOption('sChurn', sChurn, 0);
  if (!(sTmin <= sTmax))
    throw new UserError(`The sampler options sTmin (${sTmin}) and sTmax (${sTmax}) leave no range of sigma: give sTmin <= sTmax.`);
  checkOption('controlStart', controlStart, 0);
  checkOption('restoreCfg', restoreCfg, -Number.MAX_VALUE);
  const first = firstStep(options);
  let x = startLatent(options, sigmas[0], { signal: 1, noise: sigmas[first] });
  if (restoreCfg > 0 && center?.length !== x.length) {
    throw new UserError(
      `Restoration guidance needs a center of the latent's ${x.length} values and got ${center?.length ?? 'none'}. Give one, or switch restoreCfg off (-1).`,
    );
  }

  for (let i = first; i < steps; i++) {
    const [sigma, sigmaNext] = [sigmas[i], sigmas[i + 1]];
    const gamma = sigma >= sTmin && sigma <= sTmax ? Math.min(sChurn / steps, Math.SQRT2 - 1) : 0;
    const draw = gamma > 0 || noiseEveryStep ? noise() : undefined;
    if (i < startStep) continue; // done before; only its draw is taken
    signal?.throwIfAborted();

    const sigmaHat = sigma * (1 + gamma);
    const xHat = draw && gamma > 0 ? addNoise(x, draw, sNoise * Math.sqrt(sigmaHat ** 2 - sigma ** 2)) : x;
    const controlScale = linearScale(controlStart, controlEnd, sigma);
    const cfg = linearScale(cfgStart, cfgEnd, sigmaHat);
    const { negative, positive } = await denoise(network, schedule, xHat, sigmaHat, controlScale, progressAt(i, steps));
    const denoised = classifierFree(negative, positive, cfg);
    const restore = center !== undefined && restoreCfg > 0 && sigmaNext > restoreSigmaMin;
    const target = restore ? restorationGuided(denoised, center, sigma, restoreCfg) : denoised;
    x = alongLine(target, xHat, sigmaNext / sigmaHat);
    await onStep?.({ step: i + 1, steps, sigma, sigmaHat, cfg, controlScale, denoised, latent: x });
  }
  return x;
}

/** Euler's step: on the line from the target at sigma 0 (share 0) through x at the step's sigma (share 1). */
function alongLine(target: Float32Array, x: Float32Array, share: number): Float32Array {
  const next = new Float32Array(x.length);
  for (let i = 0; i < next.length; i++) next[i] = target[i] + (x[i] - target[i]) * share;
  return next;
}
