/** How fast this adapter computes and this model's files are read, measured in a moment: enough to tell minutes from hours. */

import { parameters } from '../core/module.ts';
import { SCRATCH_BYTES } from '../core/parameter-source.ts';
import { constant, input } from '../core/tensor.ts';
import { compile } from '../gpu/program.ts';
import { linear } from '../kernels/linear.ts';
import type { Speeds } from './forecast.ts';
import type { Networks } from './networks.ts';

/** A projection of 1024 tokens of SDXL's middle width. */
const [ROWS, WIDTH] = [1024, 1280];
const RUNS = 3;
/** Bytes of weights to read. */
const SAMPLE = 2 ** 25;

/** Runs a matmul, compiled before, and reads some weights. */
export async function measureSpeeds({ device, supir }: Networks): Promise<Speeds> {
  const x = new Float32Array(ROWS * WIDTH).fill(0.5);
  const weight = constant(new Uint16Array(WIDTH * WIDTH).fill(0x3800), [WIDTH, WIDTH]);
  const program = await compile(device, { y: linear(input('x', [ROWS, WIDTH]), weight) });
  let best = Number.POSITIVE_INFINITY;
  try {
    await program.run({ x });
    for (let i = 0; i < RUNS; i++) {
      const begun = performance.now();
      await program.run();
      best = Math.min(best, performance.now() - begun);
    }
  } finally {
    program.dispose();
  }
  return { gflopPerSecond: (2 * ROWS * WIDTH * WIDTH) / 1e6 / best, readPerSecond: await readingSpeed(supir) };
}

/** Bytes of the largest network's weights in a second, converted as the GPU takes them. */
async function readingSpeed(root: Networks['supir']): Promise<number> {
  const scratch = new Uint8Array(SCRATCH_BYTES);
  let bytes = 0;
  const begun = performance.now();
  for (const [, weight] of parameters(root.model.diffusion_model)) {
    if (bytes > SAMPLE) break;
    if (weight.kind === 'vector') continue;
    for (const piece of weight.pieces()) bytes += (await piece.read(scratch)).length;
  }
  return bytes / ((performance.now() - begun) / 1000);
}
