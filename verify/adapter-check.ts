/**
 * A check of an adapter that its owner can run: every kind of kernel in every schedule that the adapter can follow, what its driver leaves open, how
 * fast it is, and one small restoration against its stored result. It ends in a verdict that a person understands.
 */
import type { AdapterFacts, Schedule } from '../core/adapter.ts';
import { DeviceError } from '../core/errors.ts';
import { constant, sizeOf } from '../core/tensor.ts';
import { sentence } from '../core/text.ts';
import type { Device } from '../gpu/device.ts';
import { deviceAfterLoss } from '../gpu/recovery.ts';
import { type TileTuning, timedTiles } from '../gpu/tile-tuning.ts';
import { chained, msOfWork, type Repeated } from '../gpu/timing.ts';
import { GPU_COPY_DST, GPU_COPY_SRC, GPU_MAP_READ, GPU_STORAGE } from '../gpu/usage.ts';
import { attention } from '../kernels/attention.ts';
import { conv2d } from '../kernels/conv2d.ts';
import { linear } from '../kernels/linear.ts';
import { LARGE_TILES } from '../kernels/tile-choice.ts';
import { type KernelCheck, kernelChecks } from './kernel-checks.ts';
import { type Probes, probe } from './probes.ts';

export interface KernelFinding {
  name: string;
  schedule: Schedule;
  /** The largest error, as a share of what is allowed; null where the kernel could not be run. */
  share: number | null;
  /** The worst element, or why it could not be run. */
  problem?: string;
}

export interface AdapterReport {
  adapter: Pick<AdapterFacts, 'vendor' | 'architecture' | 'device' | 'description' | 'software' | 'subgroupSizes'>;
  /** Schedules that were checked, and why others were not; what a probe of matrix units found. */
  schedules: { checked: Schedule[]; left: Partial<Record<Schedule, string>>; chosen: Schedule; matrices?: string };
  /** How many comparisons were made, and how many were left out because the time was over. */
  kernels: { checked: number; left: number; wrong: KernelFinding[]; worst: KernelFinding | null };
  /** Null where the check was stopped before it. */
  probes: Probes | null;
  /** The tiles that it would choose, and milliseconds of each work with both; null where it has no choice or the check was stopped before. */
  tiles: TileTuning | null;
  /** Null where the check was stopped before it. */
  speed: {
    /** GFLOP/s of work repeated within one submit: a matmul, a convolution and attention of SDXL's sizes. */
    matmul: number;
    convolution: number;
    attention: number;
    /** Bytes per second to the GPU and back. */
    upload: number;
    download: number;
  } | null;
  /** Seconds of the longest submit of the check, and what one may take. */
  longestSubmit: { seconds: number; budget: number };
  /** The small restoration: largest difference as a share of what is allowed; null where none was at hand. */
  restoration: { share: number } | null;
  /** good: use it; flawed: it computes, but see `why`; unusable: results cannot be trusted; unfinished: what was looked at is right, and not all was. */
  verdict: 'good' | 'flawed' | 'unusable' | 'unfinished';
  /** Sentences for a person. */
  why: string[];
  seconds: number;
  /** True where the check was stopped before its end. */
  interrupted: boolean;
}

export interface AdapterCheckOptions {
  /** Opens a device that follows a schedule, or the one that it would choose. Throws DeviceError where the adapter cannot. */
  open(schedule: Schedule | 'auto'): Promise<Device>;
  /** Restores something small and compares it with its stored result. -> the largest difference as a share of what is allowed */
  restoration?: (device: Device) => Promise<number>;
  /** Leaves out checks by name; 'probes', 'speed', 'tiles' and 'restoration' are some of them. Default: all are run. */
  only?: (name: string) => boolean;
  /** Seconds after which it ends; what is under way then is left behind. Default: three minutes on a GPU, eight where the processor computes, and compiles slowly. */
  seconds?: number;
  /** Is told of every check that begins; `secondsLeft` is null before it can be told. */
  progress?: (done: number, total: number, what: string, secondsLeft: number | null) => void;
  signal?: AbortSignal;
}

/** Checks of what is computed in tiles of two sizes. */
const TILED = /^(matmul|convolution|attention)/;
const SCHEDULES: Schedule[] = ['tiled', 'subgroup', 'matrix'];
const [GPU_SECONDS, CPU_SECONDS] = [180, 480];
/** Of the time, what the chosen schedule's kernels may take before all else is looked at. */
const FIRST = 2 / 3;
/** Checks after which the time left can be told. */
const TELLING = 5;
/** In place of what was not found out in time. */
const OVER = Symbol('over');

/**
 * Runs the check: the schedule that would be chosen, what the driver leaves open, speed, a restoration, and then other schedules as long as there is
 * time. What fails is in the report, a lost device too; throws DeviceError only where no device opens at all.
 */
export async function checkAdapter(options: AdapterCheckOptions): Promise<AdapterReport> {
  const check = new AdapterCheck(options, await options.open('auto'));
  try {
    return await check.report();
  } finally {
    check.close();
  }
}

class AdapterCheck {
  private readonly options: AdapterCheckOptions;
  private readonly begun = performance.now();
  /** Follows the schedule that would be chosen. Another one after a loss. */
  private chosen: Device;
  private readonly limit: number;
  private readonly checks: readonly KernelCheck[];
  private readonly findings: KernelFinding[] = [];
  private readonly left: AdapterReport['schedules']['left'] = {};
  private readonly checked: Schedule[] = [];
  /** Comparisons that the time did not allow, by schedule. */
  private readonly untimely: Partial<Record<Schedule, number>> = {};
  /** Other parts that the time did not allow. */
  private readonly untimelyParts: string[] = [];
  /** What else went wrong, in sentences. */
  private readonly problems: string[] = [];
  private readonly total: number;
  private done = 0;
  /** Checks that were made, which take the time. */
  private made = 0;
  private longest = 0;
  private interrupted = false;

  constructor(options: AdapterCheckOptions, chosen: Device) {
    const { only = () => true, seconds } = options;
    this.options = options;
    this.chosen = chosen;
    this.limit = seconds ?? (chosen.facts.software ? CPU_SECONDS : GPU_SECONDS);
    this.checks = [...kernelChecks()].filter(({ name }) => only(name));
    this.total = SCHEDULES.reduce((sum, schedule) => sum + this.comparisons(schedule).length, 0) + 4;
  }

  close(): void {
    this.chosen.close();
  }

  async report(): Promise<AdapterReport> {
    const { software, schedule } = this.chosen.facts;
    const { restoration } = this.options;
    this.chosen = await this.all(this.chosen, FIRST * this.limit);
    const probes = await this.part('probes', 'what the driver leaves open', () => probe(this.chosen));
    const speed = await this.part('speed', 'speed', () => speedOf(this.chosen));
    const choosesTiles = !software && schedule !== 'subgroup';
    const tiles = await this.part('tiles', 'which tiles are quick', async () => (choosesTiles ? timedTiles(this.chosen) : null));
    if (tiles) this.chosen.facts.tiles = tiles.tiles;
    const restored = await this.part('restoration', 'a restoration', async () =>
      restoration ? { share: await restoration(this.chosen) } : null,
    );
    for (const other of SCHEDULES.filter((each) => each !== schedule)) await this.another(other);
    this.tell('');

    const { facts, pace } = this.chosen;
    const { vendor, architecture, device, description, subgroupSizes } = facts;
    const wrong = this.findings.filter(({ share }) => !(share !== null && share <= 1));
    const worst = this.findings.reduce<KernelFinding | null>(
      (most, each) => (!most || (each.share ?? 0) > (most.share ?? 0) ? each : most),
      null,
    );
    const left = Object.values(this.untimely).reduce((sum, count) => sum + count, 0);
    const report = {
      adapter: { vendor, architecture, device, description, software, subgroupSizes },
      schedules: { checked: this.checked, left: this.left, chosen: schedule, matrices: facts.matrixFindings },
      kernels: { checked: this.findings.length, left, wrong, worst },
      probes,
      tiles,
      speed,
      longestSubmit: { seconds: this.longest, budget: pace.seconds },
      restoration: restored,
      seconds: this.seconds,
      interrupted: this.interrupted,
    };
    return { ...report, ...verdictOf(report, this.problems, this.untimely[schedule] ?? 0, this.untimelyParts) };
  }

  private get seconds(): number {
    return (performance.now() - this.begun) / 1000;
  }

  private get isStopped(): boolean {
    this.interrupted ||= this.options.signal?.aborted ?? false;
    return this.interrupted;
  }

  private tell(what: string): void {
    const { seconds, made, done, total, limit } = this;
    const left = made < TELLING ? null : Math.max(0, Math.min(limit - seconds, (seconds / made) * (total - done)));
    this.options.progress?.(done, total, what, left);
  }

  /** What is small is computed in small tiles; in the tiled schedule then once more in large ones. */
  private comparisons(schedule: Schedule): { check: KernelCheck; large: boolean }[] {
    const usual = this.checks.map((check) => ({ check, large: false }));
    if (schedule !== 'tiled') return usual;
    return [...usual, ...usual.filter(({ check }) => TILED.test(check.name)).map(({ check }) => ({ check, large: true }))];
  }

  private async another(schedule: Schedule): Promise<void> {
    if (this.isStopped) return;
    const device = await this.options.open(schedule).catch((error) => {
      if (!(error instanceof DeviceError)) throw error;
      this.left[schedule] = error.message;
      this.done += this.comparisons(schedule).length;
      return null;
    });
    if (device) (await this.all(device, this.limit)).close();
  }

  /** All comparisons of the schedule that a device follows, until so many seconds have passed. -> the device, or the one in its place after a loss */
  private async all(device: Device, until: number): Promise<Device> {
    const { schedule, tiles } = device.facts;
    let now = device;
    this.checked.push(schedule);
    for (const { check, large } of this.comparisons(schedule)) {
      if (this.isStopped) break;
      if (this.seconds > until || now.isGone) {
        this.untimely[schedule] = (this.untimely[schedule] ?? 0) + 1;
        this.done++;
        continue;
      }
      const name = large ? `${check.name}, large tiles` : check.name;
      this.tell(`${name}, ${schedule}`);
      now.facts.tiles = large ? LARGE_TILES : tiles;
      now.pace.onPortion = (_, measured) => {
        this.longest = Math.max(this.longest, measured);
      };
      const on = now;
      const found = await this.within(until, () => attempt(check, on));
      this.done++;
      if (found === OVER) {
        if (!this.isStopped) this.untimely[schedule] = (this.untimely[schedule] ?? 0) + 1;
        continue;
      }
      this.findings.push({ name, schedule, ...found });
      this.made++;
      if (now.isGone) now = await this.afterLoss(now, `${name} (${schedule})`);
    }
    now.facts.tiles = tiles;
    return now;
  }

  /** A device in place of one that a check lost; the lost one where none answers any more. */
  private async afterLoss(lost: Device, at: string): Promise<Device> {
    this.problems.push(`The GPU was lost at ${at}.`);
    try {
      return await deviceAfterLoss(lost, () => this.options.open(lost.facts.schedule), { signal: this.options.signal });
    } catch (error) {
      if (!this.isStopped) this.problems.push(sentence((error as Error).message));
      return lost;
    }
  }

  /** What `body` gives; OVER when so many seconds of the check have passed, or when it is stopped, and what is under way is left behind. */
  private async within<T>(until: number, body: () => Promise<T>): Promise<T | typeof OVER> {
    const { signal } = this.options;
    let giveUp = () => {};
    const over = new Promise<typeof OVER>((resolve) => {
      giveUp = () => resolve(OVER);
    });
    const timer = setTimeout(giveUp, 1000 * (until - this.seconds));
    signal?.addEventListener('abort', giveUp, { once: true });
    try {
      const work = body();
      work.catch(() => undefined); // nobody else hears of what is left behind
      return await Promise.race([work, over]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', giveUp);
    }
  }

  /** Another part of the check; null where it is left out or stopped, or could not be run. */
  private async part<T>(name: string, what: string, body: () => Promise<T>): Promise<T | null> {
    this.done++;
    if (this.isStopped || this.chosen.isGone || !(this.options.only?.(name) ?? true)) return null;
    this.tell(what);
    try {
      const found = this.seconds > this.limit ? OVER : await this.within(this.limit, body);
      if (found !== OVER) return found;
      if (!this.isStopped) this.untimelyParts.push(what);
      return null;
    } catch (error) {
      this.problems.push(sentence(`Of ${what} nothing can be said: ${(error as Error).message}`));
      return null;
    }
  }
}

async function attempt(check: { run(device: Device): Promise<{ share: number; worst: string }> }, device: Device) {
  try {
    const { share, worst } = await check.run(device);
    return share <= 1 ? { share } : { share, problem: worst };
  } catch (error) {
    return { share: null, problem: (error as Error).message };
  }
}

/** Repetitions of a run; many where few take less than so many milliseconds. */
const HOW = { few: 1, many: 48, short: 40, runs: 2 };

async function speedOf(device: Device): Promise<NonNullable<AdapterReport['speed']>> {
  const weight = (...shape: number[]) => constant(new Float32Array(sizeOf(shape)).fill(0.001), shape);
  const [w, window] = [weight(640, 640), weight(320, 3, 3, 320)];
  const gflops = async (flops: number, work: Repeated) => flops / 1e6 / (await msOfWork(device, work, HOW));
  const bytes = 2 ** 25;
  const data = new Uint8Array(bytes);
  const there = device.buffer('there', bytes, GPU_STORAGE | GPU_COPY_SRC | GPU_COPY_DST);
  const back = device.buffer('back', bytes, GPU_MAP_READ | GPU_COPY_DST);
  try {
    const upload = await secondsOf(async () => {
      device.gpu.queue.writeBuffer(there, 0, data);
      await device.settle(device.gpu.queue.onSubmittedWorkDone());
    });
    const download = await secondsOf(async () => {
      const encoder = device.gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(there, 0, back, 0, bytes);
      device.gpu.queue.submit([encoder.finish()]);
      await device.settle(back.mapAsync(1));
      back.getMappedRange().slice(0);
      back.unmap();
    });
    return {
      matmul: await gflops(
        2 * 1024 * 640 * 640,
        chained([1024, 640], () => (x) => linear(x, w)),
      ),
      convolution: await gflops(
        2 * 48 * 48 * 320 * 320 * 9,
        chained([1, 48, 48, 320], () => (x) => conv2d(x, window, null, { padding: 1 })),
      ),
      attention: await gflops(
        4 * 1024 * 1024 * 640,
        chained([1, 1024, 640], () => (x) => attention(x, x, x, 10)),
      ),
      upload: bytes / upload,
      download: bytes / download,
    };
  } finally {
    device.release(there);
    device.release(back);
  }
}

async function secondsOf(body: () => Promise<void>): Promise<number> {
  await body();
  const begun = performance.now();
  await body();
  return (performance.now() - begun) / 1000;
}

/** `problems`: what else went wrong; `leftOfChosen`, `leftParts`: comparisons in the chosen schedule, and other parts, that the time did not allow. */
function verdictOf(
  { kernels, schedules, probes, longestSubmit, restoration, interrupted }: Omit<AdapterReport, 'verdict' | 'why'>,
  problems: readonly string[],
  leftOfChosen: number,
  leftParts: readonly string[],
): Pick<AdapterReport, 'verdict' | 'why'> {
  const why: string[] = [];
  const own = kernels.wrong.filter(({ schedule }) => schedule === schedules.chosen);
  const elsewhere = kernels.wrong.filter(({ schedule }) => schedule !== schedules.chosen);
  if (own.length > 0)
    why.push(`${own.length} kernels are wrong in the schedule that this adapter would use (${schedules.chosen}): ${names(own)}.`);
  if (restoration && !(restoration.share <= 1))
    why.push(`A small restoration differs from its stored result by ${restoration.share.toFixed(1)} times what is allowed.`);
  why.push(...problems);
  const unusable = why.length > 0;
  if (elsewhere.length > 0)
    why.push(`${elsewhere.length} kernels are wrong in other schedules, which are not chosen by themselves: ${names(elsewhere)}.`);
  const losesHalves = probes !== null && !probes.subnormalHalves.read;
  if (losesHalves) why.push('Weights below 6.1e-5 in f16 are read as 0.');
  if (probes && !probes.infiniteHalves) why.push('Results beyond the range of f16 do not become infinity.');
  if (longestSubmit.seconds > 4 * longestSubmit.budget)
    why.push(
      `A submit took ${longestSubmit.seconds.toFixed(2)} s where ${longestSubmit.budget} s were planned: compiling counts, so look at it again in a second check.`,
    );
  if (interrupted) why.push('The check was stopped before its end.');
  if (leftOfChosen > 0) why.push(`Of the schedule that this adapter would use, ${leftOfChosen} checks were left out: the time was over.`);
  if (leftParts.length > 0) why.push(`The time was over before the end of: ${leftParts.join(', ')}.`);
  const leftElsewhere = kernels.left - leftOfChosen;
  if (leftElsewhere > 0) why.push(`Of other schedules, ${leftElsewhere} checks were left out: the time was over.`);
  if (kernels.wrong.length === 0)
    why.unshift(`All ${kernels.checked} checks that were made are right, in the schedules ${schedules.checked.join(', ')}.`);
  const flawed = elsewhere.length > 0 || losesHalves;
  const unfinished = interrupted || leftOfChosen > 0 || leftParts.length > 0;
  return { verdict: unusable ? 'unusable' : flawed ? 'flawed' : unfinished ? 'unfinished' : 'good', why };
}

const names = (findings: readonly KernelFinding[]) =>
  `${findings
    .slice(0, 5)
    .map(({ name, schedule }) => `${name} (${schedule})`)
    .join(', ')}${findings.length > 5 ? ', ...' : ''}`;
