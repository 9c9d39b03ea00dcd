/** What a sampler will ask of every step, before anything is computed. */
import type { Network } from './denoiser.ts';
import type { SamplerOptions, SamplerStep } from './sampler.ts';

/** A step of the plan. Sigma is infinite where nothing of the picture is left. */
export type PlannedStep = Pick<SamplerStep, 'step' | 'sigma' | 'sigmaHat' | 'cfg' | 'controlScale'>;

/** The sampler itself runs, on a latent of one value and a network that answers zero, so that the plan cannot differ from the restoration. */
export async function stepsOf(
  run: (network: Network, options: Pick<SamplerOptions, 'noise' | 'onStep'>) => Promise<unknown>,
): Promise<PlannedStep[]> {
  const steps: PlannedStep[] = [];
  const zero = () => new Float32Array(1);
  await run(async () => ({ negative: zero(), positive: zero() }), {
    noise: zero,
    onStep: ({ step, sigma, sigmaHat, cfg, controlScale }) => void steps.push({ step, sigma, sigmaHat, cfg, controlScale }),
  });
  return steps;
}
