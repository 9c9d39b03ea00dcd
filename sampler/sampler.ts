/** What both samplers share: their options, the report of a step, and how a run starts, resumes and stops. */
import { UserError } from '../core/errors.ts';

export interface SamplerOptions {
  /** Sampling steps, 1 to 1000; the usual range is 8 (Lightning) to 50. */
  steps: number;
  /**
   * The next unit-normal draw of the latent's size. The first gives the start; each later one belongs to a step. A resumed run draws the same
   * sequence from its beginning.
   */
  noise: () => Float32Array;
  /** Guidance scale at sigma 0, no unit: 1 is no guidance, usual 1.5 to 7.5. */
  cfg: number;
  /** Guidance scale at the first sigma, linear in sigma between. Default `cfg`: constant. */
  cfgStart?: number;
  /** Strength of the control network, 0 (plain SDXL) and up; 1 is what it was trained for. Default 1. */
  controlScale?: number;
  /** Factor on the standard deviation of noise added during sampling, 0 and up. Default 1. */
  sNoise?: number;
  /** Stops the run before its next step with the signal's reason. */
  signal?: AbortSignal;
  /** Called after every step, and awaited. */
  onStep?: (step: SamplerStep) => void | Promise<void>;
  /** Begins with a picture under noise instead of noise alone. */
  begin?: Begin;
  /** Resume: steps that are already done, 0 to steps - 1. Default 0. */
  startStep?: number;
  /** Resume: the `latent` reported by step `startStep`. */
  latent?: Float32Array;
}

/** A picture to begin with, under as much noise as the level of a step has. */
export interface Begin {
  /** Steps that are left out, 0 to steps - 1: those of levels with more noise. */
  step: number;
  /** Clean latent. */
  latent: Float32Array;
}

export interface SamplerStep {
  /** Steps done, 1 to `steps`. */
  step: number;
  steps: number;
  /** Noise of the latent before the step. */
  sigma: number;
  /** The same with this step's churn: what the network was asked to remove. */
  sigmaHat: number;
  /** Guidance scale used. */
  cfg: number;
  /** Control scale used. */
  controlScale: number;
  /** The clean latent as estimated in this step, before restoration guidance. Not changed later: keep it or not. */
  denoised: Float32Array;
  /** The latent after the step, less noisy; the result after the last. Not changed later. */
  latent: Float32Array;
  /** Multistep samplers: what else a run needs to resume after this step. Not changed later. */
  history?: readonly Float32Array[];
  /** Step caching: true where the next step takes over what this one computed, so that no run resumes between them. Default false. */
  leadsOn?: boolean;
}

/** @throws UserError naming the option, unless it is a number within [min, max]. */
export function checkOption(name: string, value: number, min: number, max: number = Number.MAX_VALUE): void {
  if (value >= min && value <= max) return;
  const range = max === Number.MAX_VALUE ? `of ${min} or more` : `from ${min} to ${max}`;
  throw new UserError(`The sampler option ${name} is ${value}: give a number ${range}.`);
}

/** @throws UserError naming the first shared option that is impossible. */
export function checkOptions(options: SamplerOptions): void {
  const { steps, cfg, cfgStart = cfg, controlScale = 1, sNoise = 1, startStep = 0, latent, begin } = options;
  checkOption('cfg', cfg, 0);
  checkOption('cfgStart', cfgStart, 0);
  checkOption('controlScale', controlScale, 0);
  checkOption('sNoise', sNoise, 0);
  if (!Number.isInteger(startStep) || startStep < 0 || startStep >= steps) {
    throw new UserError(`A run of ${steps} steps cannot resume after step ${startStep}: give a whole number from 0 to ${steps - 1}.`);
  }
  if (begin && !(Number.isInteger(begin.step) && begin.step >= 0 && begin.step < steps)) {
    throw new UserError(`A run of ${steps} steps cannot begin after step ${begin.step}: give a whole number from 0 to ${steps - 1}.`);
  }
  if (startStep > 0 !== (latent !== undefined)) {
    throw new UserError('To resume, give both startStep (1 or more) and the latent that step reported; to start again, give neither.');
  }
}

/** Index of the first step that a run takes, were it not resumed. */
export const firstStep = ({ begin }: Pick<SamplerOptions, 'begin'>): number => begin?.step ?? 0;

/** How much of a picture and of noise, in standard deviations, a level has. */
export interface Mixture {
  signal: number;
  noise: number;
}

/**
 * The latent to begin with: noise of the first sigma's strength, or a picture under noise as `mixture`, that of the first step taken, says, or the latent to
 * resume from. Always takes the first draw. Throws UserError for latents of other sizes.
 */
export function startLatent({ noise, latent, begin }: SamplerOptions, sigma: number, mixture: Mixture): Float32Array {
  const scale = Math.sqrt(1 + sigma ** 2);
  const drawn = noise();
  if (begin && begin.latent.length !== drawn.length) {
    throw new UserError(
      `The latent to begin with has ${begin.latent.length} values and the noise ${drawn.length}: they are of different images.`,
    );
  }
  const start = drawn.map((v, i) => (begin ? mixture.signal * begin.latent[i] + mixture.noise * v : v * scale));
  if (latent && latent.length !== start.length) {
    throw new UserError(
      `The latent to resume from has ${latent.length} values and the noise ${start.length}: they are of different images.`,
    );
  }
  return latent ?? start;
}

/** A fresh x + scale * noise. @throws UserError if the noise has another size. */
export function addNoise(x: Float32Array, noise: Float32Array, scale: number): Float32Array {
  if (noise.length !== x.length) throw new UserError(`A draw of noise has ${noise.length} values for a latent of ${x.length}.`);
  return combined(1, x, scale, noise);
}

/** a x + b y, elementwise: a loop, for an array's own `map` takes five times as long, and the GPU waits. */
export function combined(a: number, x: Float32Array, b: number, y: Float32Array): Float32Array {
  const sum = new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) sum[i] = a * x[i] + b * y[i];
  return sum;
}

/** How far a run is in step number `i` from 0: 0 in the first, 1 in the last. */
export function progressAt(i: number, steps: number): number {
  return steps > 1 ? i / (steps - 1) : 0;
}
