/**
 * How much work a GPU is given at once. Operating systems and browsers take a GPU away from a program whose submit does not end in time, some after
 * two seconds and one after half of one, and the screen stands still meanwhile. So work is submitted in portions that should take a fraction of a
 * second, by the plan's operations and bytes and by the speed that portions before them have shown.
 */

/** What a dispatch does. */
export interface Work {
  flops: number;
  /** Bytes of its operands. */
  bytes: number;
}

/** A dispatch as it is divided: workgroups compute independently of one another. */
export interface DividedWork extends Work {
  groups: number;
}

/** Some workgroups of a dispatch. */
export interface Portion {
  /** Number of the dispatch in the list. */
  dispatch: number;
  first: number;
  groups: number;
}

export interface PaceOptions {
  /** Seconds that a submit may take, above 0. Default 0.25. */
  seconds?: number;
  /** True for drivers that compute on the processor. */
  software: boolean;
}

/** Cautious first guesses, per second: of an integrated GPU, and of two cores. */
const GPU_GUESS: Work = { flops: 5e11, bytes: 3e10 };
const CPU_GUESS: Work = { flops: 2e10, bytes: 5e9 };
/** Dispatches of a submit at most: the GPU begins with the first while the next are recorded, which takes some microseconds each. */
const MOST_DISPATCHES = 128;
/** One portion changes the estimate by at most these factors: a compiler, or other work, may have been in its way. */
const [QUICKER, SLOWER] = [0.5, 4];

export class Pace {
  /** Seconds that a submit may take. May be changed at any time. */
  seconds: number;
  /** Seconds that it might take to begin with. */
  readonly usualSeconds: number;
  /** Whether a portion was timed, and how many devices were lost. */
  hasLearnt = false;
  losses = 0;
  /** Is told of every portion that was timed: its planned and its measured seconds. */
  onPortion: ((planned: number, measured: number) => void) | null = null;
  private readonly guess: Work;
  /** Measured over guessed time. */
  private slowness = 1;

  constructor({ seconds = 0.25, software }: PaceOptions) {
    this.seconds = seconds;
    this.usualSeconds = seconds;
    this.guess = software ? CPU_GUESS : GPU_GUESS;
  }

  /** Seconds that work should take. */
  expect({ flops, bytes }: Work): number {
    return this.slowness * (flops / this.guess.flops + bytes / this.guess.bytes);
  }

  /** Work that should have taken `planned` seconds took `measured`. */
  learn(planned: number, measured: number): void {
    this.onPortion?.(planned, measured);
    if (!(planned > 0 && measured > 0)) return;
    this.hasLearnt = true;
    this.slowness *= Math.sqrt(Math.min(SLOWER ** 2, Math.max(QUICKER ** 2, measured / planned)));
  }

  /** The device was lost with a submit of this size: half of it from now on. */
  afterLoss(): void {
    this.seconds /= 2;
    this.losses++;
  }

  /** Operations per second that the estimate amounts to, for work that moves few bytes. */
  get flopsPerSecond(): number {
    return this.guess.flops / this.slowness;
  }

  set flopsPerSecond(flops: number) {
    this.slowness = this.guess.flops / flops;
  }

  /**
   * Work in the order given, divided into submits that should take at most `seconds` each. A dispatch that would take longer is divided by workgroups,
   * each part a submit of its own; a single workgroup is never divided. Without a bound in seconds it is a single submit. `most` caps the workgroups of one part along a dispatch's first dimension.
   */
  submits(work: readonly DividedWork[], most: number): Portion[][] {
    const submits: Portion[][] = [];
    let current: Portion[] = [];
    let planned = 0;
    const longest = Number.isFinite(this.seconds) ? MOST_DISPATCHES : work.length;
    const close = () => {
      if (current.length > 0) submits.push(current);
      current = [];
      planned = 0;
    };
    for (const [dispatch, each] of work.entries()) {
      const cost = this.expect(each);
      if (cost > this.seconds && each.groups > 1) {
        close();
        const parts = Math.min(each.groups, Math.ceil(cost / this.seconds));
        const size = Math.min(most, Math.ceil(each.groups / parts));
        for (let first = 0; first < each.groups; first += size)
          submits.push([{ dispatch, first, groups: Math.min(size, each.groups - first) }]);
        continue;
      }
      if (planned + cost > this.seconds || current.length === longest) close();
      current.push({ dispatch, first: 0, groups: each.groups });
      planned += cost;
    }
    close();
    return submits;
  }
}

/** What a portion does of its dispatch's work. */
export function share({ flops, bytes, groups: all }: DividedWork, { groups }: Portion): Work {
  return { flops: (flops * groups) / all, bytes: (bytes * groups) / all };
}
