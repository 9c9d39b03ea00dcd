/**
 * Guidance: steering the denoised image by text and towards the stage-1 image.
 * Classifier-free guidance: Ho & Salimans 2022. Restoration guidance and linear scales: SUPIR (Yu et al. 2024, arXiv 2401.13627, sec. 3.4).
 */
import { REFERENCE_SIGMA } from './schedule.ts';

/** negative + scale * (positive - negative), elementwise; scale 1 is `positive`, 0 is `negative`. */
export function classifierFree(negative: Float32Array, positive: Float32Array, scale: number): Float32Array {
  const out = new Float32Array(negative.length);
  for (let i = 0; i < out.length; i++) out[i] = negative[i] + scale * (positive[i] - negative[i]);
  return out;
}

/**
 * A guidance scale that rises from 1 at the noisiest level to `scale` + 1 at the least noisy one, which published programs call "rescaled"; a scale of
 * 1 or less stays as it is. t: the timestep, 0 to 1000, also between whole ones.
 */
export function risingScale(scale: number, t: number): number {
  return scale > 1 ? 1 + (scale * (1 - Math.cos(Math.PI * ((1000 - t) / 1000) ** 5))) / 2 : scale;
}

/** A scale that goes linearly in sigma from `start` at the schedule's first sigma to `end` at sigma 0. */
export function linearScale(start: number, end: number, sigma: number): number {
  return (sigma / REFERENCE_SIGMA) * (start - end) + end;
}

/**
 * Restoration guidance: pulls the denoised image towards `center` by the factor (sigma / first sigma)^power, so nearly all the way at first
 * and ever less later; a higher power lets go sooner.
 */
export function restorationGuided(denoised: Float32Array, center: Float32Array, sigma: number, power: number): Float32Array {
  const pull = (sigma / REFERENCE_SIGMA) ** power;
  const out = new Float32Array(denoised.length);
  for (let i = 0; i < out.length; i++) out[i] = denoised[i] - pull * (denoised[i] - center[i]);
  return out;
}
