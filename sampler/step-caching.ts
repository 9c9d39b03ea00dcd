/**
 * Step caching: some steps of a run take the networks' deep features over from the step before, and compute anew only what lies next to the picture. Deep
 * features differ little from one step to the next. (DeepCache, arXiv 2312.00858, sec. 3)
 */
import type { Network } from './denoiser.ts';
import { progressAt, type SamplerStep } from './sampler.ts';

/**
 * Of `count` steps, whether each takes features over: a `share` of them, 0 to 1, rounded. The others lie evenly between the first and the last, which are
 * always whole.
 */
export function reusingSteps(count: number, share: number): boolean[] {
  const whole = Math.max(Math.min(2, count), count - Math.round(share * count));
  const places = Array.from({ length: whole }, (_, i) => (i === 0 ? 0 : Math.round((i * (count - 1)) / (whole - 1))));
  return Array.from({ length: count }, (_, i) => !places.includes(i));
}

/** Which steps of one run reuse, and the network and the listener of a sampler that keeps to it. */
export class StepCaching {
  private readonly reuses: readonly boolean[];
  private readonly steps: number;

  /** `steps` of a run, of which the first `leftOut` are not sampled. */
  constructor(share: number, steps: number, leftOut = 0) {
    this.steps = steps;
    this.reuses = [...new Array<boolean>(leftOut).fill(false), ...reusingSteps(steps - leftOut, share)];
  }

  /** The network, told where to reuse. */
  network(network: Network): Network {
    return (input) => {
      const step = this.reuses.findIndex((_, i) => progressAt(i, this.steps) === (input.progress ?? 0));
      return network({ ...input, reuse: this.reuses[step] });
    };
  }

  /** What a step that is done tells: no run can begin after it where the next reuses. */
  told(done: SamplerStep): SamplerStep {
    return this.reuses[done.step] ? { ...done, leadsOn: true } : done;
  }
}
