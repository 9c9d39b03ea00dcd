/** How fast this adapter computes and this model's files are read, measured in a moment: enough to tell minutes from hours. */

import { parameters } from '../core/module.ts';
import { SCRATCH_BYTES } from '../core/parameter-source.ts';
import { constant } from '../core/tensor.ts';
import { chained, msOfWork } from '../gpu/timing.ts';
import { linear } from '../kernels/linear.ts';
import type { Model } from './model.ts';

/** How fast an adapter computes, and a model's files are read. */
export interface Speeds {
  /** GFLOP/s, of networks that have not run yet. */
  gflopPerSecond: number;
  /** GFLOP/s by network, learnt from runs (progress.ts). */
  byGraph?: Readonly<Record<string, number>>;
  /** Bytes; left out where reading does not count. */
  readPerSecond?: number;
}

/** A projection of 1024 tokens of SDXL's middle width. */
const [ROWS, WIDTH] = [1024, 1280];
/** Of them in a run; many where few take less than so many milliseconds. */
const HOW = { few: 2, many: 40, short: 20, runs: 3 };
/** Bytes of weights to read. */
const SAMPLE = 2 ** 25;

/** Runs matmuls one behind another, and reads some weights. */
export async function measureSpeeds({ device, networks }: Model): Promise<Speeds> {
  const weight = constant(new Uint16Array(WIDTH * WIDTH).fill(0x1000), [WIDTH, WIDTH]);
  const projections = chained([ROWS, WIDTH], () => (x) => linear(x, weight));
  const ms = await msOfWork(device, projections, HOW);
  return { gflopPerSecond: (2 * ROWS * WIDTH * WIDTH) / 1e6 / ms, readPerSecond: await readingSpeed(networks) };
}

/** Bytes of the networks' weights in a second, converted as the GPU takes them. */
async function readingSpeed(root: object): Promise<number> {
  const scratch = new Uint8Array(SCRATCH_BYTES);
  let bytes = 0;
  const begun = performance.now();
  for (const [, weight] of parameters(root)) {
    if (bytes > SAMPLE) break;
    if (weight.kind === 'vector') continue;
    for (const piece of weight.pieces()) bytes += (await piece.read(scratch)).length;
  }
  return bytes / ((performance.now() - begun) / 1000);
}
