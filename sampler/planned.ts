/** What a sampler will ask of every step, before anything is computed. */
import type { Network } from './denoiser.ts';
import type { SamplerOptions, SamplerStep } from './sampler.ts';

/** A step of the plan. Sigma is infinite where nothing of the picture is left. */
export type PlannedStep = Pick<SamplerStep, 'step' | 'sigma' | 'sigmaHat' | 'cfg' | 'controlScale'> & {
  /** Whether it takes the deep features over from the step before (step-caching.ts). */
  reuse: boolean;
};

/** The sampler itself runs, on a latent of one value and a network that answers zero, so that the plan cannot differ from the restoration. */
export async function stepsOf(
  run: (network: Network, options: Pick<SamplerOptions, 'noise' | 'onStep'>) => Promise<unknown>,
): Promise<PlannedStep[]> {
  const steps: PlannedStep[] = [];
  const zero = () => new Float32Array(1);
  let reuse = false;
  const network: Network = async (input) => {
    reuse = input.reuse ?? false;
    return { negative: zero(), positive: zero() };
  };
  await run(network, {
    noise: zero,
    onStep: ({ step, sigma, sigmaHat, cfg, controlScale }) => void steps.push({ step, sigma, sigmaHat, cfg, controlScale, reuse }),
  });
  return steps;
}
