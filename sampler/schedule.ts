/**
 * Noise schedules: how much noise a sampler assumes at each step, as sigma = noise over signal of the latent.
 * The 1000 sigmas of training: DDPM (Ho et al. 2020) with Stable Diffusion's "scaled linear" betas. Karras spacing: Karras et al. 2022, eq. 5.
 */
import { UserError } from '../core/errors.ts';

export interface ScheduleConfig {
  /** Noise levels of training. Default 1000. */
  timesteps?: number;
  /** Variance added at the first and the last level, each between 0 and 1. Defaults 0.00085 and 0.012. */
  betaStart?: number;
  betaEnd?: number;
  /** Whether the last level is shifted to noise alone. (Lin et al. 2023, arXiv 2305.08891, algorithm 1) Default false. */
  zeroTerminalSnr?: boolean;
}

/**
 * What is left of the image's variance at each level of training, descending from near 1: the products of (1 - beta) over "scaled linear" betas.
 * f64 (timesteps). The last is 0 with `zeroTerminalSnr`.
 */
export function alphasCumprod({
  timesteps = 1000,
  betaStart = 0.00085,
  betaEnd = 0.012,
  zeroTerminalSnr = false,
}: ScheduleConfig = {}): Float64Array {
  const start = Math.sqrt(betaStart);
  const slope = (Math.sqrt(betaEnd) - start) / (timesteps - 1);
  let product = 1;
  const products = Float64Array.from({ length: timesteps }, (_, i) => (product *= 1 - (start + i * slope) ** 2));
  if (!zeroTerminalSnr) return products;
  const [first, last] = [Math.sqrt(products[0]), Math.sqrt(products[timesteps - 1])];
  return products.map((value) => (((Math.sqrt(value) - last) * first) / (first - last)) ** 2);
}

/**
 * The first sigma as the published program rounds it. It, and not the exact 14.614641, is the unit of linear CFG, linear control scale and
 * restoration guidance.
 */
export const REFERENCE_SIGMA = 14.6146;

export class NoiseSchedule {
  /** The sigmas of training, ascending; a sigma's index is the timestep that the networks were trained with. f64 (timesteps). */
  readonly sigmas: Float64Array;

  constructor(config: ScheduleConfig = {}) {
    this.sigmas = alphasCumprod(config).map((left) => Math.sqrt((1 - left) / left));
  }

  /**
   * The sigmas of a sampler with n steps, descending, with 0 appended; f64 (n + 1).
   * @throws UserError unless n is a whole number from 1 to the number of training levels.
   */
  steps(n: number): Float64Array {
    const levels = this.sigmas.length;
    checkSteps(n, levels);
    const stride = -(levels - 1) / n;
    const sigmas = new Float64Array(n + 1);
    for (let i = 0; i < n; i++) sigmas[i] = this.sigmas[Math.trunc(i * stride + (levels - 1))];
    return sigmas;
  }

  /**
   * The same with "trailing" timesteps, evenly spaced and counted from the last one: what distilled few-step models were trained for.
   * (Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed", table 2; SDXL-Lightning, arXiv 2402.13929)
   */
  trailingSteps(n: number): Float64Array {
    const sigmas = this.steps(n); // checks n
    const levels = this.sigmas.length;
    for (let i = 0; i < n; i++) sigmas[i] = this.sigmas[Math.round(levels - (i * levels) / n) - 1];
    return sigmas;
  }

  /** The sigmas of a sampler with n steps, spaced by Karras between the last non-zero and the first of `steps(n)`, with 0 appended; f64 (n + 1). */
  karrasSteps(n: number): Float64Array {
    const sigmas = this.steps(n);
    return karrasSigmas(n, sigmas[n - 1], sigmas[0]);
  }

  /** Index of the training sigma nearest to a sigma; the lower one of two that are equally near. */
  nearest(sigma: number): number {
    return nearestSigma(this.sigmas, sigma);
  }
}

/** n sigmas from max down to min, evenly spaced in sigma^(1/rho), with 0 appended; f64 (n + 1). */
export function karrasSigmas(n: number, min: number, max: number, rho = 7): Float64Array {
  const top = max ** (1 / rho);
  const bottom = min ** (1 / rho);
  const sigmas = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) sigmas[i] = (top + (n > 1 ? i / (n - 1) : 0) * (bottom - top)) ** rho;
  return sigmas;
}

/** @throws UserError unless n is a whole number from 1 to the number of training levels. */
export function checkSteps(n: number, levels: number, common = '10 to 100'): void {
  if (Number.isInteger(n) && n >= 1 && n <= levels) return;
  throw new UserError(`${n} sampling steps are not possible: choose a whole number from 1 to ${levels}. Common are ${common}.`);
}

/** Index of the sigma nearest to one; the first of two that are equally near. */
export function nearestSigma(sigmas: ArrayLike<number>, sigma: number): number {
  let best = 0;
  for (let i = 1; i < sigmas.length; i++) {
    if (Math.abs(sigmas[i] - sigma) < Math.abs(sigmas[best] - sigma)) best = i;
  }
  return best;
}
