/** Times what a device is given, lets only a few submits be under way, and tells the device's observer of what is done. */
import type { Pace, Work } from './pace.ts';

/** Is told what a device does, as far as it takes time. Awaited; what it throws ends the work that it was told of. */
export interface WorkObserver {
  /** Of the shaders that a program still needs, so many are compiled. */
  compiling(done: number, total: number): void | Promise<void>;
  /** So many floating-point operations more are done. */
  computed(flops: number): void | Promise<void>;
}

/** Submits that may be under way at once: one is computed while the next is recorded. */
const IN_FLIGHT = 2;
/** Less work than this share of a submit's budget is not timed by itself: waiting for it would cost more than it tells. */
const TIMED = 1 / 16;

export class Clock {
  /** Set to be told of work as it is done, within a run of a program too. */
  observer: WorkObserver | null = null;
  private readonly gpu: GPUDevice;
  private readonly pace: Pace;
  private readonly settle: <T>(promise: Promise<T>) => Promise<T>;
  private readonly underWay: Promise<void>[] = [];
  /** Submitted and not yet timed: when the first was, the seconds that all should take, and their operations. */
  private open = { begun: 0, planned: 0, flops: 0 };
  /** When the last ended that was timed. */
  private ended = 0;

  constructor(gpu: GPUDevice, pace: Pace, settle: <T>(promise: Promise<T>) => Promise<T>) {
    this.gpu = gpu;
    this.pace = pace;
    this.settle = settle;
  }

  /** Waits until another submit may be made. */
  async room(): Promise<void> {
    while (this.underWay.length >= IN_FLIGHT) await this.underWay.shift();
  }

  /** Work was submitted. */
  submitted(work: readonly Work[]): void {
    const { open, pace } = this;
    if (open.planned === 0) open.begun = performance.now();
    for (const each of work) {
      open.planned += pace.expect(each);
      open.flops += each.flops;
    }
    if (open.planned >= TIMED * pace.seconds) this.time();
  }

  /** Waits until all that was submitted is done and told. */
  async told(): Promise<void> {
    if (this.observer && this.open.flops > 0) this.time();
    for (const ended of this.underWay.splice(0)) await ended;
  }

  private time(): void {
    const { begun, planned, flops } = this.open;
    this.open = { begun: 0, planned: 0, flops: 0 };
    const ended = this.settle(this.gpu.queue.onSubmittedWorkDone()).then(() => {
      const now = performance.now();
      this.pace.learn(planned, (now - Math.max(begun, this.ended)) / 1000);
      this.ended = now;
      return this.observer?.computed(flops);
    });
    ended.catch(() => undefined); // awaited later; a lost device is told by what is read back
    this.underWay.push(ended);
  }
}
