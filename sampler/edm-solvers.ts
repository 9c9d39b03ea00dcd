/**
 * Solvers of the probability flow and its noisy kin in sigma, Karras et al. 2022's variable, for networks of a `Diffusion`: what DiffBIR
 * (arXiv 2308.15070) samples with. Euler, Heun: Karras et al. 2022, algorithm 2. DPM-Solver: Lu et al. 2022, arXiv 2206.00927 and 2211.01095.
 * LMS: linear multistep (Adams-Bashforth) over uneven steps. "a": ancestral, going below the next level and adding noise up to it.
 */
import { UserError } from '../core/errors.ts';
import type { Network } from './denoiser.ts';
import { predict } from './denoiser.ts';
import type { Diffusion, DiffusionSamplerOptions } from './diffusion.ts';
import { classifierFree, risingScale } from './guidance.ts';
import { addNoise, checkOption, checkOptions, firstStep, progressAt, startLatent } from './sampler.ts';
import { checkSteps, nearestSigma } from './schedule.ts';

/** The first level's share of signal, in place of its own: the run begins in all but pure noise, sigma 10,000, whatever the model's schedule. */
const FIRST_SIGNAL = 1e-8;

export interface EdmSolverOptions extends DiffusionSamplerOptions {
  /** Euler, Heun and DPM 2: noise added again over the whole run, in steps' worth; a step's share sChurn / steps is at most sqrt 2 - 1. Default 0. */
  sChurn?: number;
  /** The range of sigma within which that noise is added. Defaults 0 and 300. */
  sTmin?: number;
  sTmax?: number;
  /** Ancestral and SDE solvers: how much of the noise that a step removes is replaced by new noise, 0 none, 1 all. Default 1. */
  eta?: number;
  /** LMS: how many slopes are combined, 1 (Euler's method) to 4. Default 1. */
  order?: number;
}

interface Step {
  x: Float32Array;
  sigma: number;
  sigmaNext: number;
  index: number;
  /** All sigmas of the run. */
  sigmas: readonly number[];
  denoise: (x: Float32Array, sigma: number) => Promise<Float32Array>;
  /** Draws of this step, as many as `draws` says. */
  noise: Float32Array[];
  /** What earlier steps left, the latest first. */
  history: readonly Float32Array[];
  options: Required<Pick<EdmSolverOptions, 'steps' | 'sChurn' | 'sTmin' | 'sTmax' | 'sNoise' | 'eta' | 'order'>>;
}

interface StepResult {
  latent: Float32Array;
  denoised: Float32Array;
  /** With the step's churn. Default: its sigma. */
  sigmaHat?: number;
  /** To be handed to the next step. */
  history?: Float32Array[];
}

interface Solver {
  /** Draws of noise in a step; every one is drawn, used or not, so that a seed means the same. */
  draws: (sigmaNext: number) => number;
  step: (step: Step) => Promise<StepResult>;
}

const always = () => 1;
const never = () => 0;
const unlessLast = (draws: number) => (sigmaNext: number) => (sigmaNext > 0 ? draws : 0);

/** The straight line through x at sigma and the clean latent at 0, followed to another sigma: its position is x's share there. */
const towards = (x: Float32Array, clean: Float32Array, share: number) => x.map((v, i) => share * v + (1 - share) * clean[i]);
/** dx / dsigma. */
const slopeOf = (x: Float32Array, clean: Float32Array, sigma: number) => x.map((v, i) => (v - clean[i]) / sigma);
const along = (x: Float32Array, slope: Float32Array, by: number) => x.map((v, i) => v + by * slope[i]);
const f32 = Math.fround;

/**
 * An ancestral step from sigma `from` to `to`: go down to `down`, add noise of strength `up`. Every operation rounds to float32: from 10,000
 * the last difference cancels, and the published results depend on what is left.
 */
export function ancestral(from: number, to: number, eta: number): { down: number; up: number } {
  const [from2, to2] = [f32(f32(from) * f32(from)), f32(f32(to) * f32(to))];
  const up = Math.min(f32(to), f32(eta * f32(Math.sqrt(f32(f32(to2 * f32(from2 - to2)) / from2)))));
  return { down: f32(Math.sqrt(f32(to2 - f32(up * up)))), up };
}

/** x with the step's churn: noise added up to sigmaHat. */
function churned({ x, sigma, noise, options: { steps, sChurn, sTmin, sTmax, sNoise } }: Step): { xHat: Float32Array; sigmaHat: number } {
  const gamma = sigma >= sTmin && sigma <= sTmax ? Math.min(sChurn / steps, Math.SQRT2 - 1) : 0;
  const sigmaHat = sigma * (1 + gamma);
  return { xHat: gamma > 0 ? addNoise(x, noise[0], sNoise * Math.sqrt(sigmaHat ** 2 - sigma ** 2)) : x, sigmaHat };
}

const euler: Solver = {
  draws: always,
  async step(at) {
    const { xHat, sigmaHat } = churned(at);
    const denoised = await at.denoise(xHat, sigmaHat);
    return { latent: towards(xHat, denoised, at.sigmaNext / sigmaHat), denoised, sigmaHat };
  },
};

/** Euler's step, then the mean of the slopes at its two ends. */
const heun: Solver = {
  draws: always,
  async step(at) {
    const { xHat, sigmaHat } = churned(at);
    const denoised = await at.denoise(xHat, sigmaHat);
    const slope = slopeOf(xHat, denoised, sigmaHat);
    const by = at.sigmaNext - sigmaHat;
    const first = along(xHat, slope, by);
    if (at.sigmaNext === 0) return { latent: first, denoised, sigmaHat };
    const second = slopeOf(first, await at.denoise(first, at.sigmaNext), at.sigmaNext);
    return {
      latent: along(
        xHat,
        slope.map((v, i) => (v + second[i]) / 2),
        by,
      ),
      denoised,
      sigmaHat,
    };
  },
};

/** Euler's step to the middle (of log sigma), whose slope then goes all the way to `sigmaTo`. */
async function midpoint(at: Step, x: Float32Array, sigma: number, sigmaTo: number) {
  const denoised = await at.denoise(x, sigma);
  const slope = slopeOf(x, denoised, sigma);
  if (sigmaTo === 0) return { latent: along(x, slope, -sigma), denoised };
  const middle = Math.sqrt(sigma * sigmaTo);
  const half = along(x, slope, middle - sigma);
  return { latent: along(x, slopeOf(half, await at.denoise(half, middle), middle), sigmaTo - sigma), denoised };
}

const dpm2: Solver = {
  draws: always,
  async step(at) {
    const { xHat, sigmaHat } = churned(at);
    return { ...(await midpoint(at, xHat, sigmaHat, at.sigmaNext)), sigmaHat };
  },
};

/** An ancestral solver from one that goes from sigma to a sigma below the next. */
const ancestralSolver = (go: (at: Step, down: number) => Promise<{ latent: Float32Array; denoised: Float32Array }>): Solver => ({
  draws: unlessLast(1),
  async step(at) {
    const { down, up } = ancestral(at.sigma, at.sigmaNext, at.options.eta);
    const { latent, denoised } = await go(at, down);
    return { latent: at.sigmaNext > 0 ? addNoise(latent, at.noise[0], at.options.sNoise * up) : latent, denoised };
  },
});

const eulerAncestral = ancestralSolver(async (at, down) => {
  const denoised = await at.denoise(at.x, at.sigma);
  return { latent: towards(at.x, denoised, down / at.sigma), denoised };
});

const dpm2Ancestral = ancestralSolver((at, down) => midpoint(at, at.x, at.sigma, down));

/** DPM-Solver++ 2S: to the middle of log sigma, and from the start with the estimate made there. */
const dpmpp2sAncestral = ancestralSolver(async (at, down) => {
  const denoised = await at.denoise(at.x, at.sigma);
  if (down === 0) return { latent: denoised, denoised };
  const middle = Math.sqrt(at.sigma * down);
  const there = await at.denoise(towards(at.x, denoised, middle / at.sigma), middle);
  return { latent: towards(at.x, there, down / at.sigma), denoised };
});

/** The same with noise added in the middle too. */
const dpmppSde: Solver = {
  draws: unlessLast(2),
  async step({ x, sigma, sigmaNext, denoise, noise, options: { eta, sNoise } }) {
    const denoised = await denoise(x, sigma);
    if (sigmaNext === 0) return { latent: denoised, denoised };
    const middle = Math.sqrt(sigma * sigmaNext);
    const half = ancestral(sigma, middle, eta);
    const there = await denoise(addNoise(towards(x, denoised, half.down / sigma), noise[0], sNoise * half.up), middle);
    const whole = ancestral(sigma, sigmaNext, eta);
    return { latent: addNoise(towards(x, there, whole.down / sigma), noise[1], sNoise * whole.up), denoised };
  },
};

/** Length of the step that ends at sigma number i, in log sigma. */
const logStep = (sigmas: readonly number[], i: number) => Math.log(sigmas[i - 1] / sigmas[i]);

const dpmpp2m: Solver = {
  draws: never,
  async step({ x, sigma, sigmaNext, index, sigmas, denoise, history: [before] }) {
    const denoised = await denoise(x, sigma);
    let target = denoised;
    if (before && sigmaNext > 0) {
      const extra = logStep(sigmas, index + 1) / logStep(sigmas, index) / 2;
      target = denoised.map((d, i) => d + extra * (d - before[i]));
    }
    return { latent: towards(x, target, sigmaNext / sigma), denoised, history: [denoised] };
  },
};

/** x after a step of length h = log(sigma / sigmaNext) with the fixed estimate `clean`, noise not yet added. */
function sdeMean(x: Float32Array, clean: Float32Array, h: number, eta: number): Float32Array {
  return towards(x, clean, Math.exp(-h * (eta + 1)));
}

const sdeNoise = (sigmaNext: number, h: number, eta: number) => sigmaNext * Math.sqrt(-Math.expm1(-2 * h * eta));

/** 2M SDE, midpoint. */
const dpmpp2mSde: Solver = {
  draws: unlessLast(1),
  async step({ x, sigma, sigmaNext, index, sigmas, denoise, noise, history: [before], options: { eta, sNoise } }) {
    const denoised = await denoise(x, sigma);
    if (sigmaNext === 0) return { latent: denoised, denoised };
    const h = logStep(sigmas, index + 1);
    const extra = before ? h / logStep(sigmas, index) / 2 : 0;
    const target = before ? denoised.map((d, i) => d + extra * (d - before[i])) : denoised;
    const mean = sdeMean(x, target, h, eta);
    return { latent: addNoise(mean, noise[0], sNoise * sdeNoise(sigmaNext, h, eta)), denoised, history: [denoised] };
  },
};

/** 3M SDE. */
const dpmpp3mSde: Solver = {
  draws: unlessLast(1),
  async step({ x, sigma, sigmaNext, index, sigmas, denoise, noise, history, options: { eta, sNoise } }) {
    const denoised = await denoise(x, sigma);
    if (sigmaNext === 0) return { latent: denoised, denoised };
    const h = logStep(sigmas, index + 1);
    const a = h * (eta + 1);
    let mean = sdeMean(x, denoised, h, eta);
    const second = Math.expm1(-a) / a + 1;
    const [before, earlier] = history;
    if (earlier) {
      const third = second / a - 0.5;
      const [r0, r1] = [logStep(sigmas, index) / h, logStep(sigmas, index - 1) / h];
      mean = mean.map((v, i) => {
        const near = (denoised[i] - before[i]) / r0;
        const far = (before[i] - earlier[i]) / r1;
        const d1 = near + ((near - far) * r0) / (r0 + r1);
        const d2 = (near - far) / (r0 + r1);
        return v + second * d1 - third * d2;
      });
    } else if (before) {
      const r0 = logStep(sigmas, index) / h;
      mean = mean.map((v, i) => v + (second * (denoised[i] - before[i])) / r0);
    }
    const latent = addNoise(mean, noise[0], sNoise * sdeNoise(sigmaNext, h, eta));
    return { latent, denoised, history: before ? [denoised, before] : [denoised] };
  },
};

/** The integral from a to b of the polynomial that is 1 at points[k] and 0 at the others. */
function lagrangeIntegral(points: readonly number[], k: number, a: number, b: number): number {
  let coefficients = [1]; // of 1, t, t^2 ..., t measured from a
  for (const [i, point] of points.entries()) {
    if (i === k) continue;
    const scale = 1 / (points[k] - point);
    const next = new Array<number>(coefficients.length + 1).fill(0);
    for (const [power, value] of coefficients.entries()) {
      next[power] -= value * (point - a) * scale;
      next[power + 1] += value * scale;
    }
    coefficients = next;
  }
  return coefficients.reduce((sum, value, power) => sum + (value * (b - a) ** (power + 1)) / (power + 1), 0);
}

const lms: Solver = {
  draws: never,
  async step({ x, sigma, sigmaNext, index, sigmas, denoise, history, options: { order } }) {
    const denoised = await denoise(x, sigma);
    const slopes = [slopeOf(x, denoised, sigma), ...history].slice(0, order);
    const points = slopes.map((_, k) => sigmas[index - k]);
    const weights = slopes.map((_, k) => lagrangeIntegral(points, k, sigma, sigmaNext));
    const latent = x.map((v, i) => slopes.reduce((sum, slope, k) => sum + weights[k] * slope[i], v));
    return { latent, denoised, history: slopes.slice(0, order - 1) };
  },
};

/** By the names that the published program gives them. */
export const EDM_SOLVERS = {
  euler,
  euler_a: eulerAncestral,
  heun,
  dpm_2: dpm2,
  dpm_2_a: dpm2Ancestral,
  lms,
  'dpm++_2s_a': dpmpp2sAncestral,
  'dpm++_sde': dpmppSde,
  'dpm++_2m': dpmpp2m,
  'dpm++_2m_sde': dpmpp2mSde,
  'dpm++_3m_sde': dpmpp3mSde,
} satisfies Record<string, Solver>;
export type EdmSolver = keyof typeof EDM_SOLVERS;

/**
 * Timesteps and sigmas of a run with n steps, descending, ending in 0 (n + 1). The first sigma is 10,000.
 * @throws UserError unless n is a whole number from 1 to the number of levels.
 */
export function edmSolverLevels(alphasCumprod: Float64Array, n: number): { timesteps: number[]; sigmas: number[] } {
  const last = alphasCumprod.length - 1;
  checkSteps(n, last + 1, '10 to 50');
  const stride = -last / n; // rounded before it is multiplied, as the published tables are: with 99 steps and some others a level is lower by one
  const timesteps = Array.from({ length: n }, (_, i) => Math.trunc(i * stride + last));
  const sigmas = timesteps.map((t, i) => {
    const signal = i === 0 ? FIRST_SIGNAL : alphasCumprod[t];
    return f32(Math.sqrt((1 - signal) / signal));
  });
  return { timesteps: [...timesteps, 0], sigmas: [...sigmas, 0] };
}

/**
 * Runs a solver from pure noise, or from where it was stopped, to a clean latent. The network is told the timestep of the nearest sigma of the run, also
 * in between. Guidance acts on the clean estimates.
 * @throws UserError for an impossible option, sizes that do not match, or a network that fails to answer with numbers; the signal's reason when aborted.
 */
export async function sampleEdmSolver(
  solver: EdmSolver,
  network: Network,
  { alphasCumprod, parameterization }: Diffusion,
  options: EdmSolverOptions,
): Promise<Float32Array> {
  const { steps, noise, cfg, rescaleCfg = false, controlScale = 1, signal, onStep, startStep = 0 } = options;
  const { sChurn = 0, sTmin = 0, sTmax = 300, sNoise = 1, eta = 1, order = 1 } = options;
  const { timesteps, sigmas } = edmSolverLevels(alphasCumprod, steps);
  checkOptions(options);
  checkOption('sChurn', sChurn, 0);
  checkOption('eta', eta, 0, 1);
  if (!Number.isInteger(order)) throw new UserError(`The sampler option order is ${order}: give a whole number from 1 to 4.`);
  checkOption('order', order, 1, 4);
  if (!(sTmin <= sTmax))
    throw new UserError(`The sampler options sTmin (${sTmin}) and sTmax (${sTmax}) leave no range of sigma: give sTmin <= sTmax.`);
  const first = firstStep(options);
  let x = startLatent(options, sigmas[0], { signal: 1, noise: sigmas[first] });
  let history = options.history ?? [];
  const { draws, step } = EDM_SOLVERS[solver];

  for (let i = first; i < steps; i++) {
    const [sigma, sigmaNext] = [sigmas[i], sigmas[i + 1]];
    const drawn = Array.from({ length: draws(sigmaNext) }, noise);
    if (i < startStep) continue; // done before; only its draws are taken
    signal?.throwIfAborted();

    const progress = progressAt(i, steps);
    const denoise = async (noisy: Float32Array, level: number) => {
      const timestep = timesteps[nearestSigma(sigmas, level)];
      const spread = level ** 2 + 1;
      const scaled = noisy.map((v) => v / Math.sqrt(spread));
      const { negative, positive } = await predict(network, { x: scaled, timestep, controlScale, progress, unguided: cfg === 1 });
      const [skip, out] = parameterization === 'v' ? [1 / spread, -level / Math.sqrt(spread)] : [1, -level];
      const clean = (predicted: Float32Array) => noisy.map((v, j) => skip * v + out * predicted[j]);
      if (cfg === 1) return clean(positive);
      return classifierFree(clean(negative), clean(positive), rescaleCfg ? risingScale(cfg, timestep) : cfg);
    };
    const settings = { steps, sChurn, sTmin, sTmax, sNoise, eta, order };
    const result = await step({ x, sigma, sigmaNext, index: i, sigmas, denoise, noise: drawn, history, options: settings });
    x = result.latent;
    history = result.history ?? [];
    const { denoised, sigmaHat = sigma } = result;
    const scale = rescaleCfg ? risingScale(cfg, timesteps[i]) : cfg;
    await onStep?.({ step: i + 1, steps, sigma, sigmaHat, cfg: scale, controlScale, denoised, latent: x, history });
  }
  return x;
}
