import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeEmbedding, timestepEmbedding } from '../../models/timestep-embedding.ts';
import { scalingAt } from '../../sampler/denoiser.ts';
import { classifierFree, linearScale } from '../../sampler/guidance.ts';
import { karrasSigmas, NoiseSchedule } from '../../sampler/schedule.ts';
import { tileWeights, tileWindows } from '../../sampler/tiles.ts';
import { checkGolden, type GoldenCase, goldenCases, goldenFile } from '../support/golden.ts';

const schedule = new NoiseSchedule();

async function input(c: GoldenCase, name: string): Promise<number[]> {
  return Array.from(await (await goldenFile(c.file)).f64(c.inputs[name]));
}

/** Results by output name of every operation in schedules and embedders. */
const run: Record<string, (c: GoldenCase) => Promise<Record<string, ArrayLike<number>>>> = {
  sigmas_ddpm: async ({ config }) => ({ sigmas: schedule.steps(config.n) }),
  sigmas_karras: async ({ config }) => ({ sigmas: karrasSigmas(config.n, config.sigma_min, config.sigma_max, config.rho) }),
  denoiser_sigmas: async () => ({ sigmas_ascending: schedule.sigmas }),
  quantise_sigma: async (c) => {
    const scalings = (await input(c, 'sigma')).map((sigma) => scalingAt(schedule, sigma));
    const timesteps = scalings.map((s) => s.timestep);
    return {
      idx: timesteps,
      timestep: timesteps,
      sigma: scalings.map((s) => s.sigma),
      c_skip: scalings.map((s) => s.cSkip),
      c_out: scalings.map((s) => s.cOut),
      c_in: scalings.map((s) => s.cIn),
    };
  },
  linear_cfg_scale: async (c) => ({
    scale: (await input(c, 'sigma')).map((sigma) => linearScale(c.config.scale, c.config.scale_min, sigma)),
  }),
  guider_linear_cfg: async (c) => {
    const sigmas = await input(c, 'sigma');
    return { out: await guided(c, (image) => linearScale(c.config.scale, c.config.scale_min, sigmas[image])) };
  },
  guider_vanilla_cfg: async (c) => ({ out: await guided(c, () => c.config.scale) }),
  tile_windows: async ({ config: { h, w, tile_size, tile_stride } }) => ({
    windows: tileWindows(h, w, tile_size, tile_stride).flatMap(({ y0, y1, x0, x1 }) => [y0, y1, x0, x1]),
  }),
  tile_weights: async ({ config: { tile_size: n } }) => {
    const weights = tileWeights(n, n);
    return { weights, row64: weights.slice(64 * n, 65 * n), column64: Array.from({ length: n }, (_, y) => weights[y * n + 64]) };
  },
  timestep_embedding: async (c) => ({ emb: timestepEmbedding(await input(c, 't'), c.config.dim) }),
  concat_timestep_embedder_nd: async (c) => {
    const [rows, k] = (await goldenFile(c.file)).info(c.inputs.x).shape;
    const x = await input(c, 'x');
    return {
      emb: sizeEmbedding(
        Array.from({ length: rows }, (_, r) => x.slice(r * k, (r + 1) * k)),
        c.config.outdim,
      ),
    };
  },
};

/** x holds two negative images, then two positive ones. */
async function guided(c: GoldenCase, scale: (image: number) => number): Promise<number[]> {
  const x = Float32Array.from(await input(c, 'x'));
  const size = x.length / 4;
  return [0, 1].flatMap((i) => [...classifierFree(x.slice(i * size, (i + 1) * size), x.slice((i + 2) * size, (i + 3) * size), scale(i))]);
}

const cases = [...(await goldenCases('schedules')), ...(await goldenCases('embedders'))];

for (const c of cases) {
  test(`golden ${c.id}`, async () => {
    const results = await run[c.op](c);
    for (const output of Object.keys(c.outputs)) await checkGolden(c, output, results[output]);
  });
}

test('all cases are there', () => {
  assert.is(cases.length, 40);
});

test.run();
