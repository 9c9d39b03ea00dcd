/** Times what a device is given, lets only a few submits be under way, and tells the device's observer of what is done. */
import type { Pace, Work } from './pace.ts';

/** Is told what a device does, as far as it takes time. Awaited; what it throws ends the work that it was told of. */
export interface WorkObserver {
  /** Of the shaders that a program still needs, so many are compiled. */
  compiling(done: number, total: number): void | Promise<void>;
  /** So many floating-point operations more are done. */
  computed(flops: number): void | Promise<void>;
}

export class Clock {
  /** Set to be told of work as it is done, within a run of a program too. */
  observer: WorkObserver | null = null;
  private readonly gpu: GPUDevice;
  private readonly pace: Pace;
  private readonly settle: <T>(promise: Promise<T>) => Promise<T>;
  private readonly underWay: Promise<void>[] = [];
  /** Submitted, and nobody waits for it yet: the seconds that it should take, and its operations. */
  private open = { planned: 0, flops: 0 };
  private meanwhile: (() => void)[] = [];
  /** When the last ended that was timed. */
  private ended = 0;

  constructor(gpu: GPUDevice, pace: Pace, settle: <T>(promise: Promise<T>) => Promise<T>) {
    this.gpu = gpu;
    this.pace = pace;
    this.settle = settle;
  }

  /** Waits until another submit may be made. */
  async room(): Promise<void> {
    while (this.underWay.length >= this.pace.mostUnderWay) await this.underWay.shift();
  }

  /** Does something of the host's when work is submitted the next time, so that the GPU does not stand still meanwhile. */
  whenWorking(task: () => void): void {
    this.meanwhile.push(task);
  }

  /** Work was submitted. */
  submitted(work: readonly Work[]): void {
    const { open, pace } = this;
    for (const task of this.meanwhile) setTimeout(task); // when nothing else is to be submitted at once
    this.meanwhile = [];
    const planned = work.reduce((sum, each) => sum + pace.expect(each), 0);
    open.planned += planned;
    open.flops += work.reduce((sum, { flops }) => sum + flops, 0);
    // Small submits are waited for together; how long each took is not known then.
    if (open.planned >= pace.told) this.fence(planned >= pace.told ? planned : null);
  }

  /** Waits until all that was submitted is done and told. */
  async told(): Promise<void> {
    if (this.observer && this.open.flops > 0) this.fence(null);
    for (const ended of this.underWay.splice(0)) await ended;
  }

  /** `planned`: the seconds that the last submit should take, where that is to be compared. */
  private fence(planned: number | null): void {
    const begun = performance.now();
    const { flops } = this.open;
    this.open = { planned: 0, flops: 0 };
    const ended = this.settle(this.gpu.queue.onSubmittedWorkDone()).then(() => {
      const now = performance.now();
      if (planned !== null) this.pace.learn(planned, (now - Math.max(begun, this.ended)) / 1000);
      this.ended = now;
      return this.observer?.computed(flops);
    });
    ended.catch(() => undefined); // awaited later; a lost device is told by what is read back
    this.underWay.push(ended);
  }
}
