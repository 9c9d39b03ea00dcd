/**
 * How far a restoration is, and how long the rest will take: one estimate over all stages. The forecast says how much each stage computes; the device
 * says what it has computed and compiled; how fast is measured on the way, for each network by itself, since convolutions and attention differ.
 */
import type { WorkObserver } from '../gpu/clock.ts';

export interface Progress {
  /** Which piece of the photo is at work, where it is restored in several: 'face 2 of 5'. */
  piece?: string;
  /** The stage at work; `compile` while shaders are compiled for it. */
  stage: string;
  /** Of the stage's parts: tiles, texts, steps, or shaders. */
  done: number;
  total: number;
  /** Of the whole work, 0 to 1. */
  share: number;
  /** Until all is done, compiling left out; null before anything was measured. */
  secondsLeft: number | null;
}

/** Of a stage's forecast, what the meter needs. */
export interface PlannedWork {
  stage: string;
  /** The network that it runs. */
  graph: string;
  parts: number;
  gflop: number;
  /** The share of the work that is done after each part, where parts differ. */
  ends?: readonly number[];
}

interface Measured {
  gflop: number;
  seconds: number;
}

export class ProgressMeter implements WorkObserver {
  private readonly stages: readonly PlannedWork[];
  private readonly known: Readonly<Record<string, number>>;
  private readonly listener: (progress: Progress) => void | Promise<void>;
  private readonly now: () => number;
  private readonly measured = new Map<string, Measured>();
  private at = -1;
  /** Of the stage at work, in GFLOP: done in all, and before its first part that was timed ended. */
  private done = 0;
  private since = 0;

  /** `known`: GFLOP/s by network from earlier runs. `now` in milliseconds. */
  constructor(
    stages: readonly PlannedWork[],
    listener: (progress: Progress) => void | Promise<void>,
    known: Readonly<Record<string, number>> = {},
    now: () => number = () => performance.now(),
  ) {
    this.stages = stages;
    this.listener = listener;
    this.known = known;
    this.now = now;
  }

  /** A stage begins, of which a share may be done already. */
  begin(stage: string, done = 0): void | Promise<void> {
    // Of several pieces each has its own.
    this.at = this.stages.findIndex((each, i) => i > this.at && each.stage === stage);
    const { parts, gflop } = this.stages[this.at];
    this.done = gflop * shareAfter(this.stages[this.at], Math.round(done * parts));
    this.since = this.now();
    return this.tell();
  }

  /** Shaders are being compiled; what that takes is not work that the rest will take too. */
  compiling(done: number, total: number): void | Promise<void> {
    this.since = this.now();
    return this.listener({ stage: 'compile', done, total, share: this.share, secondsLeft: this.secondsLeft });
  }

  computed(flops: number): void | Promise<void> {
    const stage = this.stages[this.at];
    const { graph, parts, gflop } = stage;
    const firstEnds = gflop * shareAfter(stage, 1);
    const now = this.now();
    const before = this.measured.get(graph) ?? { gflop: 0, seconds: 0 };
    const added = { gflop: before.gflop + flops / 1e9, seconds: before.seconds + (now - this.since) / 1000 };
    // In the first part drivers compile what they left: it counts until there is another.
    const first = this.done < firstEnds && this.done + flops / 1e9 >= firstEnds * (1 - 1e-6) && parts > 1;
    this.measured.set(graph, added);
    this.done += flops / 1e9;
    this.since = now;
    const told = this.tell(-1e-6);
    if (first) this.measured.set(graph, { gflop: added.gflop * FAINT, seconds: added.seconds * FAINT });
    return told;
  }

  /** GFLOP/s by network, as far as it is known. */
  get speeds(): Record<string, number> {
    const found = [...this.measured]
      .filter(([, { seconds }]) => seconds > 0)
      .map(([graph, { gflop, seconds }]) => [graph, gflop / seconds]);
    return { ...this.known, ...Object.fromEntries(found) };
  }

  /** What was computed is also taken care of: a step is saved, a stage's result is there. Until then its last part does not count as done. */
  settled(): void | Promise<void> {
    return this.tell();
  }

  private tell(allowance = 1e-6): void | Promise<void> {
    const at = this.stages[this.at];
    const { stage, parts, gflop } = at;
    const share = gflop > 0 ? this.done / gflop + allowance / parts : 0;
    let done = 0;
    while (done < parts && shareAfter(at, done + 1) <= share) done++;
    return this.listener({ stage, done, total: parts, share: this.share, secondsLeft: this.secondsLeft });
  }

  /** GFLOP that a stage has still to compute. */
  private left(i: number): number {
    const { gflop } = this.stages[i];
    return i < this.at ? 0 : i > this.at ? gflop : Math.max(0, gflop - this.done);
  }

  private get share(): number {
    const total = this.stages.reduce((sum, { gflop }) => sum + gflop, 0);
    const done = this.stages.reduce((sum, { gflop }, i) => sum + (gflop - this.left(i)), 0);
    return total > 0 ? done / total : 1;
  }

  private get secondsLeft(): number | null {
    const { speeds } = this;
    const all = [...this.measured.values()];
    const [gflop, seconds] = [all.reduce((sum, each) => sum + each.gflop, 0), all.reduce((sum, each) => sum + each.seconds, 0)];
    let left = 0;
    for (const [i, { graph }] of this.stages.entries()) {
      const speed = speeds[graph] ?? (seconds > 0 ? gflop / seconds : 0);
      if (this.left(i) > 0 && speed === 0) return null;
      if (this.left(i) > 0) left += this.left(i) / speed;
    }
    return left;
  }
}

/** The share of a stage's work that is done after some of its parts. */
function shareAfter({ parts, ends }: PlannedWork, done: number): number {
  return done > 0 && ends ? ends[done - 1] : done / parts;
}

/** Weight of a stage's first part against the later ones. */
const FAINT = 0.01;
