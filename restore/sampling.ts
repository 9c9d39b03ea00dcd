/** The sampler that the options name, with all that they say to it; and its plan. */
import type { Network } from '../sampler/denoiser.ts';
import { sampleDpmpp2m } from '../sampler/dpmpp-2m.ts';
import { sampleEdm } from '../sampler/edm.ts';
import { sampleEuler } from '../sampler/euler.ts';
import { type PlannedStep, stepsOf } from '../sampler/planned.ts';
import type { SamplerOptions, SamplerStep } from '../sampler/sampler.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import { StepCaching } from '../sampler/step-caching.ts';
import type { RestoreOptions } from './options.ts';

/** Whether sampling begins with a picture under as much noise as the strength says. */
export const isFromPicture = ({ start }: { start: string }): boolean => start === 'photo' || start === 'stage1';

/** Steps of a run that begins with a picture under noise that are left out: with strength 1 none, and never all. */
export function stepsLeftOut({ start, strength }: Pick<RestoreOptions, 'strength'> & { start: string }, steps: number): number {
  return isFromPicture({ start }) ? steps - Math.max(1, Math.round(strength * steps)) : 0;
}

/** What a run adds to the options; `center` and `noiseEveryStep` (of tiled sampling) matter to EDM only, `denoised` to DPM++. */
export type SamplingRun = Pick<SamplerOptions, 'noise' | 'onStep' | 'signal' | 'startStep' | 'latent'> & {
  center: Float32Array;
  /** Clean latent that the run begins with, where the option `start` says so. */
  begin: Float32Array | null;
  /** Of the step that a resumed run goes on from. */
  denoised?: Float32Array;
  noiseEveryStep: boolean;
};

/** Samples a latent with the sampler, steps and scales of the options, which bear the samplers' own names. */
export function sample(network: Network, options: RestoreOptions, { begin, ...run }: SamplingRun): Promise<Float32Array> {
  const schedule = new NoiseSchedule();
  const leftOut = stepsLeftOut(options, options.steps);
  const caching = new StepCaching(options.cache, options.steps, leftOut);
  const cached = caching.network(network);
  const all = {
    ...options,
    controlStart: options.controlLinear ? options.controlStart : undefined,
    ...run,
    onStep: (done: SamplerStep) => run.onStep?.(caching.told(done)),
    ...(begin ? { begin: { step: leftOut, latent: begin } } : {}),
  };
  if (options.sampler === 'dpmpp2m') return sampleDpmpp2m(cached, schedule, all);
  if (options.sampler === 'euler') return sampleEuler(cached, schedule, all);
  return sampleEdm(cached, schedule, all);
}

/** The steps that a restoration with these options takes: noise levels, guidance and control scales. */
export function plannedSteps(options: RestoreOptions): Promise<PlannedStep[]> {
  const begin = options.start === 'noise' ? null : new Float32Array(1);
  return stepsOf((network, run) => sample(network, options, { ...run, noiseEveryStep: false, center: new Float32Array(1), begin }));
}
