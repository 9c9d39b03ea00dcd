/**
 * How long a GPU takes for some work. What a run takes beside the work, a way there and back, may be many times as long as a kernel: so work is
 * repeated within a run, of which nothing comes back.
 */
import { input, type Shape, type Tensor } from '../core/tensor.ts';
import type { Device } from './device.ts';
import { compile } from './program.ts';

/** Work on an input `x`, so many times. */
export type Repeated = (repeats: number) => { x: Tensor; results: Tensor[] };

export interface RepeatedWork {
  /** Repetitions of a run; and where these take less than `short` milliseconds. */
  few: number;
  many: number;
  short: number;
  /** Runs, of which the shortest counts. */
  runs: number;
}

/** Each repetition reads the result of the one before, as in networks. */
export function chained(shape: Shape, make: () => (x: Tensor) => Tensor): Repeated {
  return (repeats) => {
    const [x, step] = [input('x', shape), make()];
    return { x, results: [Array.from({ length: repeats }).reduce<Tensor>((y) => step(y), x)] };
  };
}

/** All repetitions read the same. */
export function repeated(shape: Shape, make: () => (x: Tensor) => Tensor): Repeated {
  return (repeats) => {
    const [x, step] = [input('x', shape), make()];
    return { x, results: Array.from({ length: repeats }, () => step(x)) };
  };
}

/** Milliseconds of a run of so many repetitions, the least of `runs` after a first one. Throws DeviceError as compiling and running do. */
export async function msOfRun(device: Device, work: Repeated, repeats: number, runs: number): Promise<number> {
  const { x, results } = work(repeats);
  const outputs = Object.fromEntries(results.map((result, i) => [`y${i}`, result]));
  const program = await compile(device, outputs, undefined, { kept: Object.keys(outputs) });
  const run = async (given = {}) => {
    const begun = performance.now();
    await program.run(given);
    await device.settle(device.gpu.queue.onSubmittedWorkDone());
    return performance.now() - begun;
  };
  try {
    await run({ x: new Float32Array(x.size).fill(0.01) });
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < runs; i++) least = Math.min(least, await run());
    return least;
  } finally {
    program.dispose();
  }
}

/** Milliseconds of one repetition. Throws as msOfRun. */
export async function msOfWork(device: Device, work: Repeated, { few, many, short, runs }: RepeatedWork): Promise<number> {
  const ms = await msOfRun(device, work, few, runs);
  return ms >= short ? ms / few : (await msOfRun(device, work, many, runs)) / many;
}
