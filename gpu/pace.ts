/**
 * How much work a GPU is given at once. Operating systems and browsers take a GPU away from a program whose submit does not end in time, some after
 * two seconds and one after half of one, and the screen stands still meanwhile. So work is submitted in portions that should take a fraction of a
 * second, by the plan's operations and bytes and by the speed that portions before them have shown.
 */

import { UserError } from '../core/errors.ts';

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

/** A screen that is drawn by the GPU that computes. */
export interface Screen {
  /** Whether somebody sees this program on it: it must go on moving then. */
  readonly isSeen: boolean;
}

export interface PaceOptions {
  /** Seconds that a submit may take, above 0. Default 0.25. */
  seconds?: number;
  /** True for drivers that compute on the processor. */
  software: boolean;
  screen?: Screen;
}

/** Cautious first guesses, per second: of an integrated GPU, and of two cores. */
const GPU_GUESS: Work = { flops: 5e11, bytes: 3e10 };
const CPU_GUESS: Work = { flops: 2e10, bytes: 5e9 };
/**
 * Dispatches of a submit at most, the first one's and the others': the GPU begins with the first while the next are recorded, which takes some microseconds
 * each. Drivers that compute on the processor stand still between two submits: a short one to begin with, and all others together.
 */
const MOST_DISPATCHES = { gpu: [128, 128], cpu: [32, Number.POSITIVE_INFINITY] } as const;
/** Seconds of a submit while the program is seen: the screen is drawn between two, so it moves some thirty times a second. */
const SEEN = 1 / 30;
/** Some browsers tell the end of a submit only when they look for it next: a submit takes so many such round trips at least. */
const ROUND_TRIPS = 8;
/** Submits that may be under way at once: one is computed while the next is recorded; but one alone where the screen is to have its turn. */
const [UNDER_WAY, UNDER_WAY_SEEN] = [2, 1];
/** Less work than this share of a submit's budget is not waited for by itself: that would cost more than it tells. */
const [TOLD, TOLD_SEEN] = [1 / 16, 1 / 2];
/** One portion changes the estimate by at most these factors: a compiler, or other work, may have been in its way. */
const [QUICKER, SLOWER] = [0.5, 4];

export class Pace {
  /** Seconds that a submit may take where nobody sees the program. May be changed at any time. */
  seconds: number;
  /** Seconds that it might take to begin with. */
  readonly usualSeconds: number;
  /** Whether a portion was timed, and how many devices were lost. */
  hasLearnt = false;
  losses = 0;
  /** Is told of every portion that was timed: its planned and its measured seconds. */
  onPortion: ((planned: number, measured: number) => void) | null = null;
  /** Seconds in which the end of nothing is told. */
  roundTrip = 0;
  private readonly guess: Work;
  private readonly mostDispatches: readonly [first: number, others: number];
  private readonly screen: Screen | undefined;
  /** Measured over guessed time. */
  private slowness = 1;

  /** Throws UserError for seconds that are not above 0. */
  constructor({ seconds = 0.25, software, screen }: PaceOptions) {
    if (!(seconds > 0))
      throw new UserError(`A submit may take ${seconds} seconds, and it must be more than 0.`, { code: 'submit-seconds' });
    this.screen = screen;
    this.seconds = seconds;
    this.usualSeconds = seconds;
    this.guess = software ? CPU_GUESS : GPU_GUESS;
    this.mostDispatches = MOST_DISPATCHES[software ? 'cpu' : 'gpu'];
  }

  /** Whether the screen has its turn between two submits. */
  private get yields(): boolean {
    return this.screen?.isSeen === true && ROUND_TRIPS * this.roundTrip < this.seconds;
  }

  /** Seconds that a submit may take now. */
  get limit(): number {
    return this.yields ? Math.min(this.seconds, Math.max(SEEN, ROUND_TRIPS * this.roundTrip)) : this.seconds;
  }

  /** Submits that may be under way at once. */
  get mostUnderWay(): number {
    return this.yields ? UNDER_WAY_SEEN : UNDER_WAY;
  }

  /** Seconds of submitted work from which on its end is waited for. */
  get told(): number {
    return this.limit * (this.yields ? TOLD_SEEN : TOLD);
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
   * Work in the order given, divided into submits that should take at most `limit` each. A dispatch that would take longer is divided by workgroups,
   * each part a submit of its own; a single workgroup is never divided. Without a bound in seconds it is a single submit. `most` caps the workgroups of one part along a dispatch's first dimension.
   */
  submits(work: readonly DividedWork[], most: number): Portion[][] {
    const submits: Portion[][] = [];
    let current: Portion[] = [];
    let planned = 0;
    const seconds = this.limit;
    const [first, others] = Number.isFinite(seconds) ? this.mostDispatches : [work.length, work.length];
    const close = () => {
      if (current.length > 0) submits.push(current);
      current = [];
      planned = 0;
    };
    for (const [dispatch, each] of work.entries()) {
      const cost = this.expect(each);
      if (cost > seconds && each.groups > 1) {
        close();
        const parts = Math.min(each.groups, Math.ceil(cost / seconds));
        const size = Math.min(most, Math.ceil(each.groups / parts));
        for (let from = 0; from < each.groups; from += size)
          submits.push([{ dispatch, first: from, groups: Math.min(size, each.groups - from) }]);
        continue;
      }
      if (planned + cost > seconds || current.length === (submits.length > 0 ? others : first)) close();
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
