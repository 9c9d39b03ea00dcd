/**
 * `npm run bench -- ops`: this library and its peers on the same adapter, in one process, taking turns. CPU time is the process's, which
 * with a CPU driver is the work itself and is not disturbed by neighbours; wall time is what a user of a quiet machine waits, and the only time of a GPU
 * that is known of all. Both are medians.
 */
import { availableParallelism } from 'node:os';
import { pathToFileURL } from 'node:url';
import { openDevice } from '../gpu/device.ts';
import { host } from '../host/node.ts';
import * as library from '../index.ts';
import { CASES, draw, errorAgainstF64 } from './cases.ts';
import type { Contender, Runner } from './contender.ts';
import { median } from './median.ts';
import { ours } from './ours.ts';
import { type Worker, workClock } from './work-clock.ts';

export interface OpResult {
  operation: string;
  library: string;
  /** Milliseconds of one run, medians: by whoever computes, and by the clock on the wall. */
  worker: Worker;
  ms: number;
  wallMs: number;
  /** By the first; of a CPU driver times the cores, what a quiet machine would reach. Null where memory bounds. */
  gflops: number | null;
  /** Relative error against f64 at 64 places. */
  error: number;
  /** Why there are no figures. */
  failure?: string;
}

/** Waits until the process rests: engines go on compiling WebAssembly in the background, which would count as somebody's CPU time. */
async function quiet(): Promise<void> {
  const [slice, end] = [500, performance.now() + 30_000];
  for (let busy = slice; busy > slice / 5 && performance.now() < end; ) {
    const used = process.cpuUsage();
    await host.settle(new Promise((resolve) => setTimeout(resolve, slice)));
    const { user, system } = process.cpuUsage(used);
    busy = (user + system) / 1000;
  }
}

/** Runs every case whose name contains `pattern`. */
export async function benchOps(pattern: string, rounds: number, report: (result: OpResult) => void): Promise<void> {
  const gpu = await host.gpu();
  const { globals } = await import('webgpu');
  Object.assign(globalThis, globals);
  Object.defineProperty(globalThis, 'navigator', { value: { gpu, userAgent: 'Node' }, configurable: true });
  const device = await openDevice({ gpu, settle: host.settle });
  // The others compute on devices of their own, whose clocks are out of reach.
  const clock = workClock(device, device.facts.software ? 'CPU' : 'wall');
  const contenders: Contender[] = [ours(device, library)];
  const refused: string[] = [];
  for (const [name, file] of [
    ['onnxruntime-web', './peers/ort.ts'],
    ['tfjs-webgpu', './peers/tfjs.ts'],
    ['jax-js', './peers/jax.ts'],
    ['onnxruntime-node', './peers/ort-native.ts'],
  ]) {
    try {
      contenders.push(
        await host.settle(
          (Object.values(await import(new URL(file, pathToFileURL(import.meta.filename)).href))[0] as () => Promise<Contender>)(),
        ),
      );
    } catch (error) {
      refused.push(`${name}: ${(error as Error).message.split('\n')[0]}`);
    }
  }
  for (const line of refused) console.error(`Left out: ${line}`);
  for (const shape of CASES.filter(({ name }) => name.includes(pattern))) {
    const c = draw(shape);
    const runners: { library: string; runner: Runner; error: number; busy: number[]; wall: number[] }[] = [];
    for (const { name, prepare } of contenders) {
      const fail = (failure: string) =>
        report({
          operation: c.name,
          library: name,
          worker: clock.worker,
          ms: Number.NaN,
          wallMs: Number.NaN,
          gflops: null,
          error: Number.NaN,
          failure,
        });
      try {
        if (c.kind === 'windowAttention' && name !== contenders[0].name) throw new Error('has no attention within windows');
        const runner = await host.settle(prepare(c));
        const error = errorAgainstF64(c, await host.settle(runner.result()));
        await host.settle(runner.run());
        runners.push({ library: name, runner, error, busy: [], wall: [] });
      } catch (error) {
        fail((error as Error).message.split('\n')[0]);
      }
    }
    await quiet();
    for (let round = 0; round < rounds; round++) {
      for (const { runner, busy, wall } of runners) {
        const begun = performance.now();
        busy.push(await clock.time(() => host.settle(runner.run())));
        wall.push(performance.now() - begun);
      }
    }
    const workers = clock.worker === 'CPU' ? availableParallelism() : 1;
    for (const { library, error, busy, wall } of runners) {
      const ms = median(busy);
      const gflops = c.flops ? (c.flops / ms / 1e6) * workers : null;
      report({ operation: c.name, library, worker: clock.worker, ms, wallMs: median(wall), gflops, error });
    }
  }
  device.close();
}
