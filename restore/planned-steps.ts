/**
 * What each sampling step will be asked for, before anything is computed: noise levels, guidance and control scales. The sampler itself runs, on a
 * latent of one value and a network that answers zero, so that the plan cannot differ from the restoration.
 */
import type { SamplerStep } from '../sampler/sampler.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import type { RestoreOptions } from './options.ts';
import { samplerOf } from './pipeline.ts';

/** A step of the plan. */
export type PlannedStep = Pick<SamplerStep, 'step' | 'sigma' | 'sigmaHat' | 'cfg' | 'controlScale'>;

/** The steps that a restoration with these options takes. */
export async function plannedSteps(options: RestoreOptions): Promise<PlannedStep[]> {
  const steps: PlannedStep[] = [];
  const zero = () => new Float32Array(1);
  await samplerOf(options)(async () => ({ negative: zero(), positive: zero() }), new NoiseSchedule(), {
    steps: options.steps,
    noise: zero,
    noiseEveryStep: false,
    cfg: options.cfg,
    cfgStart: options.cfgStart,
    controlScale: options.control,
    sNoise: options.sNoise,
    center: zero(),
    onStep: ({ step, sigma, sigmaHat, cfg, controlScale }) => void steps.push({ step, sigma, sigmaHat, cfg, controlScale }),
  });
  return steps;
}
