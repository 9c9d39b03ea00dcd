/**
 * A check of an adapter that its owner can run: every kind of kernel in every schedule that the adapter can follow, what its driver leaves open, how
 * fast it is, and one small restoration against its stored result. It ends in a verdict that a person understands.
 */
import type { Schedule } from '../core/adapter.ts';
import { DeviceError } from '../core/errors.ts';
import { input } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile } from '../gpu/program.ts';
import { type TileTuning, timedTiles } from '../gpu/tile-tuning.ts';
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
  adapter: { vendor: string; architecture: string; device: string; description: string; software: boolean };
  /** Schedules that were checked, and why others were not; what a probe of matrix units found. */
  schedules: { checked: Schedule[]; left: Partial<Record<Schedule, string>>; chosen: Schedule; matrices?: string };
  kernels: { checked: number; wrong: KernelFinding[]; worst: KernelFinding | null };
  probes: Probes;
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
  /** good: use it; flawed: it computes, but see `why`; unusable: results cannot be trusted. */
  verdict: 'good' | 'flawed' | 'unusable';
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
  /** Leaves out checks. Default: all are run. */
  only?: (name: string) => boolean;
  progress?: (done: number, total: number, what: string) => void;
  signal?: AbortSignal;
}

/** Checks of what is computed in tiles of two sizes. */
const TILED = /^(matmul|convolution|attention)/;
const SCHEDULES: Schedule[] = ['tiled', 'subgroup', 'matrix'];

/** Runs the check. What fails is in the report; throws DeviceError only where no device opens at all. */
export async function checkAdapter({
  open,
  restoration,
  only = () => true,
  progress,
  signal,
}: AdapterCheckOptions): Promise<AdapterReport> {
  const begun = performance.now();
  const chosen = await open('auto');
  const { vendor, architecture, device: name, description, software, schedule } = chosen.facts;
  const checks = [...kernelChecks()].filter((check) => only(check.name));
  const left: AdapterReport['schedules']['left'] = {};
  const checked: Schedule[] = [];
  const findings: KernelFinding[] = [];
  const others = SCHEDULES.filter((each) => each !== schedule);
  const tiles = checks.filter(({ name }) => TILED.test(name));
  const total = checks.length * (1 + others.length) + tiles.length + 4;
  let done = 0;
  let longest = 0;
  let interrupted = false;

  const tell = (what: string) => progress?.(done, total, what);
  const run = async (device: Device, on: Schedule, which: readonly KernelCheck[], how = '') => {
    device.pace.onPortion = (_, measured) => {
      longest = Math.max(longest, measured);
    };
    for (const check of which) {
      if (signal?.aborted) {
        interrupted = true;
        return;
      }
      tell(`${check.name}${how}, ${on}`);
      findings.push({ name: `${check.name}${how}`, schedule: on, ...(await attempt(check, device)) });
      done++;
    }
  };
  /** What is small is computed in small tiles; in the tiled schedule then once more in large ones. */
  const all = async (device: Device, on: Schedule) => {
    checked.push(on);
    await run(device, on, checks);
    if (on !== 'tiled' || interrupted) return;
    const before = device.facts.tiles;
    device.facts.tiles = LARGE_TILES;
    await run(device, on, tiles, ', large tiles');
    device.facts.tiles = before;
  };
  await all(chosen, schedule);
  for (const other of others) {
    if (interrupted) break;
    const device = await open(other).catch((error) => {
      if (!(error instanceof DeviceError)) throw error;
      left[other] = error.message;
      done += checks.length;
      return null;
    });
    if (!device) continue;
    await all(device, other);
    device.close();
  }

  tell('what the driver leaves open');
  const probes = await probe(chosen);
  done++;
  tell('speed');
  interrupted ||= signal?.aborted ?? false;
  const speed = interrupted ? null : await speedOf(chosen);
  done++;
  tell('which tiles are quick');
  interrupted ||= signal?.aborted ?? false;
  const choosesTiles = !software && schedule !== 'subgroup';
  const quickest = choosesTiles && !interrupted ? await timedTiles(chosen) : null;
  if (quickest) chosen.facts.tiles = quickest.tiles;
  done++;
  tell('a restoration');
  const restored = restoration && !interrupted ? { share: await restoration(chosen) } : null;
  done++;
  tell('');
  chosen.close();

  const wrong = findings.filter(({ share }) => !(share !== null && share <= 1));
  const worst = findings.reduce<KernelFinding | null>((most, each) => (!most || (each.share ?? 0) > (most.share ?? 0) ? each : most), null);
  const report = {
    adapter: { vendor, architecture, device: name, description, software },
    schedules: { checked, left, chosen: schedule, matrices: chosen.facts.matrixFindings },
    kernels: { checked: findings.length, wrong, worst },
    probes,
    tiles: quickest,
    speed,
    longestSubmit: { seconds: longest, budget: chosen.pace.seconds },
    restoration: restored,
    seconds: (performance.now() - begun) / 1000,
    interrupted,
  };
  return { ...report, ...verdictOf(report) };
}

async function attempt(check: { run(device: Device): Promise<{ share: number; worst: string }> }, device: Device) {
  try {
    const { share, worst } = await check.run(device);
    return share <= 1 ? { share } : { share, problem: worst };
  } catch (error) {
    return { share: null, problem: (error as Error).message };
  }
}

/** Work within one submit: enough for a clock, and repeated. */
const [CHAIN, RUNS] = [6, 3];

async function speedOf(device: Device): Promise<NonNullable<AdapterReport['speed']>> {
  const token = input('x', [1024, 640]);
  const map = input('x', [1, 48, 48, 320]);
  const q = input('x', [1, 1024, 640]);
  const [w, window] = [input('w', [640, 640]), input('w', [320, 3, 3, 320])];
  const chain = <T>(x: T, f: (x: T) => T) => Array.from({ length: CHAIN }).reduce<T>((y) => f(y), x);
  const gflops = async (y: ReturnType<typeof linear>, inputs: Record<string, Float32Array>) => {
    const program = await compile(device, { y });
    try {
      await program.run(inputs);
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i < RUNS; i++) {
        const begun = performance.now();
        await program.run();
        best = Math.min(best, performance.now() - begun);
      }
      return program.plan.flops / 1e6 / best;
    } finally {
      program.dispose();
    }
  };
  const small = (n: number) => new Float32Array(n).fill(0.01);
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
        chain(token, (x) => linear(x, w)),
        { x: small(token.size), w: small(w.size) },
      ),
      convolution: await gflops(
        chain(map, (x) => conv2d(x, window, null, { padding: 1 })),
        { x: small(map.size), w: small(window.size) },
      ),
      attention: await gflops(
        chain(q, (x) => attention(x, x, x, 10)),
        { x: small(q.size) },
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

function verdictOf({
  kernels,
  schedules,
  probes,
  longestSubmit,
  restoration,
  interrupted,
}: Omit<AdapterReport, 'verdict' | 'why'>): Pick<AdapterReport, 'verdict' | 'why'> {
  const why: string[] = [];
  const own = kernels.wrong.filter(({ schedule }) => schedule === schedules.chosen);
  const elsewhere = kernels.wrong.filter(({ schedule }) => schedule !== schedules.chosen);
  if (own.length > 0)
    why.push(`${own.length} kernels are wrong in the schedule that this adapter would use (${schedules.chosen}): ${names(own)}.`);
  if (restoration && !(restoration.share <= 1))
    why.push(`A small restoration differs from its stored result by ${restoration.share.toFixed(1)} times what is allowed.`);
  const unusable = why.length > 0;
  if (elsewhere.length > 0)
    why.push(`${elsewhere.length} kernels are wrong in other schedules, which are not chosen by themselves: ${names(elsewhere)}.`);
  if (!probes.subnormalHalves.read) why.push('Weights below 6.1e-5 in f16 are read as 0.');
  if (!probes.infiniteHalves) why.push('Results beyond the range of f16 do not become infinity.');
  if (longestSubmit.seconds > 4 * longestSubmit.budget)
    why.push(
      `A submit took ${longestSubmit.seconds.toFixed(2)} s where ${longestSubmit.budget} s were planned: compiling counts, so look at it again in a second check.`,
    );
  if (interrupted) why.push('The check was stopped before its end.');
  if (why.length === 0) why.push(`All ${kernels.checked} checks are right, in the schedules ${schedules.checked.join(', ')}.`);
  const flawed = elsewhere.length > 0 || !probes.subnormalHalves.read || interrupted;
  return { verdict: unusable ? 'unusable' : flawed ? 'flawed' : 'good', why };
}

const names = (findings: readonly KernelFinding[]) =>
  `${findings
    .slice(0, 5)
    .map(({ name, schedule }) => `${name} (${schedule})`)
    .join(', ')}${findings.length > 5 ? ', ...' : ''}`;
