/**
 * The diffusion process that Stable Diffusion 2 was trained on: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, a = `alphasCumprod`, and what its
 * networks predict of x_t: the noise (eps; Ho et al. 2020, DDPM), or the velocity v = sqrt(a) noise - sqrt(1 - a) x_0 (Salimans & Ho 2022, sec. 4).
 * Latents are flat arrays of any layout: every operation is elementwise.
 */
import { UserError } from '../core/errors.ts';
import { type Network, type NetworkInput, predict } from './denoiser.ts';
import { classifierFree, risingScale } from './guidance.ts';
import type { Mixture, SamplerOptions } from './sampler.ts';

export const PARAMETERIZATIONS = ['eps', 'v'] as const;
export type Parameterization = (typeof PARAMETERIZATIONS)[number];

export interface Diffusion {
  /** What is left of the image's variance at each level, descending; f64 (1000). */
  readonly alphasCumprod: Float64Array;
  /** What the network predicts. */
  readonly parameterization: Parameterization;
}

/** Options of the samplers over a `Diffusion`. `cfgStart` is not theirs: the scale is constant, or rises. */
export interface DiffusionSamplerOptions extends Omit<SamplerOptions, 'cfgStart'> {
  /** Whether the guidance scale rises from 1 to cfg + 1 over the run. Default false. */
  rescaleCfg?: boolean;
  /** Resume: the `history` reported by step `startStep`. */
  history?: readonly Float32Array[];
}

/** Shares of x_0 and of noise at level a = alphasCumprod[t]. */
export const mixtureAt = (a: number): Mixture => ({ signal: Math.sqrt(a), noise: Math.sqrt(1 - a) });

/** x_t from x_0 and noise at level a = alphasCumprod[t]. */
export function diffuse(x0: Float32Array, noise: Float32Array, a: number): Float32Array {
  const [signal, spread] = [Math.sqrt(a), Math.sqrt(1 - a)];
  return x0.map((v, i) => signal * v + spread * noise[i]);
}

/** x_0 from x_t and the network's prediction, at level a, which is not 0 for eps: noise alone tells nothing of the image. */
export function cleanFrom(parameterization: Parameterization, x: Float32Array, predicted: Float32Array, a: number): Float32Array {
  const [signal, spread] = [Math.sqrt(a), Math.sqrt(1 - a)];
  if (parameterization === 'v') return x.map((v, i) => signal * v - spread * predicted[i]);
  const [scale, share] = [Math.sqrt(1 / a), Math.sqrt(1 / a - 1)];
  return x.map((v, i) => scale * v - share * predicted[i]);
}

/** The noise in x_t from the network's prediction, at level a. */
export function noiseFrom(parameterization: Parameterization, x: Float32Array, predicted: Float32Array, a: number): Float32Array {
  if (parameterization === 'eps') return predicted;
  const [signal, spread] = [Math.sqrt(a), Math.sqrt(1 - a)];
  return x.map((v, i) => signal * predicted[i] + spread * v);
}

/** Throws UserError where eps is asked of noise alone: no image can be computed from it. */
export function checkDiffusion({ alphasCumprod, parameterization }: Diffusion): void {
  if (parameterization === 'eps' && alphasCumprod[alphasCumprod.length - 1] === 0) {
    throw new UserError(
      'A schedule that ends in noise alone (zero terminal SNR) needs a model that predicts v, and this one predicts eps.',
    );
  }
}

/** The guidance scale at a timestep. */
export function scaleAt({ cfg, rescaleCfg = false }: DiffusionSamplerOptions, timestep: number): number {
  return rescaleCfg ? risingScale(cfg, timestep) : cfg;
}

/** The network's prediction with classifier-free guidance; the negative branch is not asked for where the scale is exactly 1. */
export async function guidedPrediction(network: Network, input: Omit<NetworkInput, 'unguided'>, scale: number): Promise<Float32Array> {
  const unguided = scale === 1;
  const { negative, positive } = await predict(network, { ...input, unguided });
  return unguided ? positive : classifierFree(negative, positive, scale);
}
