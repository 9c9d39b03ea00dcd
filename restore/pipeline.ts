/** Executes the stages of a method, one after the other; what they make lies on the host, so that it outlives a device. */
import type { SamplerStep } from '../sampler/sampler.ts';
import type { ProgressMeter } from './progress.ts';
import { checkFinite, checkMade } from './soundness.ts';
import type { Job, Kind, Stage } from './stage.ts';

/** What the stages of one restoration have made so far. */
export class Results<Made> {
  readonly made: Partial<Made>;
  private readonly done: Set<string>;

  constructor(made: Partial<Made> = {}, done: Iterable<string> = []) {
    this.made = { ...made };
    this.done = new Set(done);
  }

  has(stage: string): boolean {
    return this.done.has(stage);
  }

  add(stage: string, made: Partial<Made>): void {
    Object.assign(this.made, made);
    this.done.add(stage);
  }

  /** What another seed does not change. */
  forAnotherSeed(stages: readonly Pick<Stage<Kind>, 'name' | 'isSeeded'>[]): Results<Made> {
    const first = stages.findIndex(({ isSeeded }) => isSeeded);
    const kept = stages.slice(0, first < 0 ? stages.length : first).filter(({ name }) => this.done.has(name));
    return new Results(
      this.made,
      kept.map(({ name }) => name),
    );
  }
}

/**
 * Runs those stages that have not run yet. Throws the signal's reason when aborted, DeviceError when the GPU fails or what it
 * gives cannot be right; what was made before is then in
 * `results`, and every GPU buffer but the weights is freed.
 */
export async function runStages<K extends Kind>(
  stages: readonly Stage<K>[],
  job: Job<K>,
  results: Results<K['made']> = new Results(),
  meter: ProgressMeter | null = null,
): Promise<Results<K['made']>> {
  const { device } = job.model;
  const { events } = job;
  let current = '';
  const step = async (done: SamplerStep) => {
    checkFinite(current, `the latent of step ${done.step}`, done.latent);
    await events.step?.(done);
    await meter?.settled();
  };
  device.clock.observer = meter;
  try {
    for (const stage of stages) {
      if (results.has(stage.name)) continue;
      events.signal?.throwIfAborted();
      await meter?.begin(stage.name, stage.begunAt?.(job));
      current = stage.name;
      const made = await stage.run({ ...job, events: { ...events, step } }, results.made as K['made']);
      checkMade(stage.name, made);
      results.add(stage.name, made);
      await meter?.settled();
    }
  } finally {
    device.clock.observer = null;
  }
  return results;
}
