/**
 * DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095, algorithm 2) in its authors' continuous time: levels lie evenly between 1 and 1 / N, and the
 * network is asked between training levels.
 */
import { UserError } from '../core/errors.ts';
import type { Network } from './denoiser.ts';
import { cleanFrom, type Diffusion, type DiffusionSamplerOptions, guidedPrediction, noiseFrom, scaleAt } from './diffusion.ts';
import { checkOptions, firstStep, progressAt, startLatent } from './sampler.ts';

/** Levels with less than this half log signal-to-noise ratio are cut off: such a level is noise alone, and its logarithm is of no use. */
const LEAST_HALF_LOG_SNR = -5.1;
/** Runs shorter than this end with a step of first order. */
const SHORT_RUN = 10;

export interface DpmSolverLevel {
  /** Continuous time, 1 / N to 1. */
  t: number;
  /** The same as the networks count it, with a fraction. */
  timestep: number;
  /** Log of signal over noise. */
  lambda: number;
  alpha: number;
  sigma: number;
}

/** How many of the training levels are kept, N, and the levels of a run with n steps, descending (n + 1). */
export function dpmSolverLevels(alphasCumprod: Float64Array, n: number): { kept: number; levels: DpmSolverLevel[] } {
  // log alpha of each level, of float32 like its summands
  const logAlphas: number[] = [];
  let sum = 0;
  for (let i = 0; i < alphasCumprod.length; i++) {
    const beta = Math.fround(1 - alphasCumprod[i] / (i ? alphasCumprod[i - 1] : 1));
    sum += Math.fround(Math.log(Math.fround(1 - beta)));
    const logAlpha = Math.fround(sum / 2);
    if (halfLogSnr(logAlpha) < LEAST_HALF_LOG_SNR) break;
    logAlphas.push(logAlpha);
  }
  const kept = logAlphas.length;
  const levels = Array.from({ length: n + 1 }, (_, i) => {
    const t = 1 + (i / n) * (1 / kept - 1);
    const timestep = (t - 1 / kept) * 1000;
    const position = t * kept - 1; // entry k is of time (k + 1) / N
    const below = Math.min(Math.max(Math.floor(position), 0), kept - 2);
    const logAlpha = logAlphas[below] + (position - below) * (logAlphas[below + 1] - logAlphas[below]);
    return {
      t,
      timestep,
      lambda: halfLogSnr(logAlpha),
      alpha: Math.exp(logAlpha),
      sigma: Math.sqrt(-Math.expm1(2 * logAlpha)),
    };
  });
  return { kept, levels };
}

const halfLogSnr = (logAlpha: number) => logAlpha - Math.log(-Math.expm1(2 * logAlpha)) / 2;

/**
 * Runs the sampler from pure noise, or from where it was stopped, to a clean latent, that of the least noisy level. Draws noise for the start alone.
 * @throws UserError for an impossible option, sizes that do not match, or a network that fails to answer with numbers; the signal's reason when aborted.
 */
export async function sampleDpmSolver(network: Network, diffusion: Diffusion, options: DiffusionSamplerOptions): Promise<Float32Array> {
  const { steps, controlScale = 1, signal, onStep, startStep = 0, history = [] } = options;
  const { alphasCumprod, parameterization } = diffusion;
  if (!Number.isInteger(steps) || steps < 2 || steps > alphasCumprod.length) {
    throw new UserError(
      `${steps} sampling steps are not possible with this sampler: choose a whole number from 2 to ${alphasCumprod.length}. Common are 10 to 30.`,
    );
  }
  const { levels } = dpmSolverLevels(alphasCumprod, steps);
  checkOptions(options);
  const first = firstStep(options);
  let x = startLatent(options, 0, { signal: levels[first].alpha, noise: levels[first].sigma });
  let [previous] = history;

  for (let i = Math.max(first, startStep); i < steps; i++) {
    signal?.throwIfAborted();
    const [from, to] = [levels[i], levels[i + 1]];
    const { timestep, alpha, sigma } = from;
    const cfg = scaleAt(options, timestep);
    const predicted = await guidedPrediction(network, { x, timestep, controlScale, progress: progressAt(i, steps) }, cfg);
    const eps = noiseFrom(parameterization, x, predicted, alpha ** 2);
    const denoised = cleanFrom('eps', x, eps, alpha ** 2);
    const h = to.lambda - from.lambda;
    let target = denoised;
    if (previous && !(i === steps - 1 && steps < SHORT_RUN)) {
      const before = previous;
      const extra = h / (from.lambda - levels[i - 1].lambda) / 2;
      target = denoised.map((d, j) => d + extra * (d - before[j]));
    }
    x = x.map((v, j) => (to.sigma / sigma) * v - to.alpha * Math.expm1(-h) * target[j]);
    previous = denoised;
    await onStep?.({
      ...{ step: i + 1, steps, sigma: sigma / alpha, sigmaHat: sigma / alpha, cfg, controlScale, denoised, latent: x },
      history: [denoised],
    });
  }
  return x;
}
