/**
 * DPM++ 2M SDE (Lu et al. 2022, "DPM-Solver++", sec. 4, eta 1) as SUPIR runs it for few-step "Lightning" bases: Karras sigmas, and first
 * order without noise in the first and the last step. It has no restoration guidance and no linear control scale.
 * Latents are flat arrays of any layout: every operation is elementwise.
 */
import { UserError } from '../core/errors.ts';
import { denoise, type Network } from './denoiser.ts';
import { classifierFree, linearScale } from './guidance.ts';
import { addNoise, checkOptions, firstStep, progressAt, type SamplerOptions, startLatent } from './sampler.ts';
import type { NoiseSchedule } from './schedule.ts';

export interface Dpmpp2mOptions extends SamplerOptions {
  /** Resume: the `denoised` reported by step `startStep`; the method builds on it. */
  denoised?: Float32Array;
}

/**
 * Runs the sampler from pure noise, or from where it was stopped, to a clean latent.
 * @throws UserError for an impossible option, sizes that do not match, or a network that fails to answer with numbers; the signal's reason when aborted.
 */
export async function sampleDpmpp2m(network: Network, schedule: NoiseSchedule, options: Dpmpp2mOptions): Promise<Float32Array> {
  const { steps, noise, cfg: cfgEnd, cfgStart = cfgEnd, controlScale = 1, sNoise = 1, signal, onStep, startStep = 0 } = options;
  const sigmas = schedule.karrasSteps(steps);
  checkOptions(options);
  const first = firstStep(options);
  let x = startLatent(options, sigmas[0], { signal: 1, noise: sigmas[first] });
  let previous = options.denoised;
  if (startStep > 0 && previous?.length !== x.length) {
    throw new UserError(
      `To resume, DPM++ 2M needs the denoised latent of step ${startStep} too (${x.length} values, got ${previous?.length ?? 'none'}).`,
    );
  }

  for (let i = first; i < steps; i++) {
    const [sigma, sigmaNext] = [sigmas[i], sigmas[i + 1]];
    const inner = i > 0 && sigmaNext > 0;
    const draw = inner ? noise() : undefined;
    if (i < startStep) continue; // done before; only its draw is taken
    signal?.throwIfAborted();

    const cfg = linearScale(cfgStart, cfgEnd, sigma);
    const { negative, positive } = await denoise(network, schedule, x, sigma, controlScale, progressAt(i, steps));
    const denoised = classifierFree(negative, positive, cfg);
    const ratio = sigmaNext / sigma; // in the usual notation exp(-h); 0 in the last step, which so returns the denoised latent
    let target = denoised;
    if (inner && previous) {
      const before = previous;
      const extra = Math.log(ratio) / Math.log(sigma / sigmas[i - 1]) / 2; // 1 / 2r, r = last h / this h
      target = denoised.map((d, j) => d + extra * (d - before[j]));
    }
    const mean = x.map((v, j) => ratio ** 2 * v + (1 - ratio ** 2) * target[j]);
    x = draw ? addNoise(mean, draw, sNoise * sigmaNext * Math.sqrt(1 - ratio ** 2)) : mean;
    previous = denoised;
    await onStep?.({ step: i + 1, steps, sigma, sigmaHat: sigma, cfg, controlScale, denoised, latent: x });
  }
  return x;
}
