/** Sampling in tiles: blending predictions inside the network equals blending the tiles' results after every step, as published. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import type { Network } from '../../sampler/denoiser.ts';
import { sampleDpmpp2m } from '../../sampler/dpmpp-2m.ts';
import { sampleEdm } from '../../sampler/edm.ts';
import { sampleEuler } from '../../sampler/euler.ts';
import { NoiseSchedule } from '../../sampler/schedule.ts';
import { cropWindow, tiledNetwork, tileWeights, tileWindows } from '../../sampler/tiles.ts';

const schedule = new NoiseSchedule();
const SHAPE = [2, 7, 9, 3];
const SIZE = SHAPE.reduce((a, b) => a * b);
const windows = tileWindows(SHAPE[1], SHAPE[2], 4, 2);

const noiseOf = (seed: number, size = SIZE) => {
  const random = new TorchRandom(seed);
  return () => random.randn(size);
};

/** A nonlinear stand-in for the networks that sees neighbours only within its tile. */
const tile: Network = async ({ x, timestep }) => {
  const positive = x.map((v, i) => Math.tanh(v + 0.3 * x[(i + 5) % x.length]) + timestep / 1000);
  return { negative: positive.map((v) => 0.8 * v - 0.1), positive };
};

/** sum(w tile) / sum(w), in f64. */
function blend(tiles: Float32Array[]): Float64Array {
  const [n, h, w, c] = SHAPE;
  const [sums, shares] = [new Float64Array(SIZE), new Float64Array(SIZE)];
  windows.forEach(({ y0, y1, x0, x1 }, index) => {
    const weights = tileWeights(y1 - y0, x1 - x0);
    let at = 0;
    for (let image = 0; image < n; image++) {
      for (let y = y0; y < y1; y++) {
        for (let x = x0; x < x1; x++) {
          for (let k = 0; k < c; k++, at++) {
            const weight = weights[(y - y0) * (x1 - x0) + x - x0];
            const to = ((image * h + y) * w + x) * c + k;
            sums[to] += weight * tiles[index][at];
            shares[to] += weight;
          }
        }
      }
    }
  });
  return sums.map((sum, i) => sum / shares[i]);
}

test('a window’s crop is that part of the latent', () => {
  const latent = Float32Array.from({ length: SIZE }, (_, i) => i);
  const [y0, x0] = [2, 3];
  const crop = cropWindow(latent, SHAPE, { y0, y1: 5, x0, x1: 8 });
  assert.is(crop.length, 2 * 3 * 5 * 3);
  assert.is(crop[0], (y0 * 9 + x0) * 3);
  assert.is(crop[3 * 5 * 3], (7 * 9 + y0 * 9 + x0) * 3);
  assert.is(crop.at(-1), ((7 + 4) * 9 + 7) * 3 + 2);
});

test('one step in tiles is the weighted mean of the tiles’ own steps, with restoration guidance and churn', async () => {
  const center = noiseOf(5)();
  const options = { steps: 2, cfg: 4, cfgStart: 1.5, sChurn: 1, sNoise: 1.01, restoreCfg: 2 };
  const first = async (network: Network, draws: () => Float32Array, about: Float32Array) => {
    let latent = new Float32Array();
    const stop = new AbortController();
    const onStep = (step: { latent: Float32Array }) => {
      latent = step.latent as Float32Array<ArrayBuffer>;
      stop.abort();
    };
    await sampleEdm(network, schedule, { ...options, noise: draws, center: about, onStep, signal: stop.signal }).catch(() => undefined);
    return latent;
  };
  const whole = await first(tiledNetwork(tile, windows, SHAPE), noiseOf(1), center);
  const tiles: Float32Array[] = [];
  for (const window of windows) {
    const noise = noiseOf(1);
    tiles.push(await first(tile, () => cropWindow(noise(), SHAPE, window), cropWindow(center, SHAPE, window)));
  }
  const expected = blend(tiles);
  const worst = whole.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
  assert.ok(worst < 1e-5, `${worst} of a latent with deviation ${schedule.sigmas[999]}`);
});

test('one window over the whole latent changes nothing', async () => {
  const all = tileWindows(SHAPE[1], SHAPE[2], 128, 64);
  assert.is(all.length, 1);
  const run = (network: Network) => sampleDpmpp2m(network, schedule, { steps: 4, cfg: 2, noise: noiseOf(3) });
  assert.equal(await run(tiledNetwork(tile, all, SHAPE)), await run(tile));
});

test('every window is told apart, so that each can have its own prompt', async () => {
  const seen: number[] = [];
  const network = tiledNetwork(
    async ({ x }, index) => {
      seen.push(index);
      return { negative: x, positive: x.map(() => index) };
    },
    windows,
    SHAPE,
  );
  const x = noiseOf(2)();
  const { negative, positive } = await network({ x, timestep: 0, controlScale: 1 });
  assert.equal(seen, [...windows.keys()]);
  assert.ok(negative.every((value, i) => Math.abs(value - x[i]) < 1e-6));
  assert.is(positive[0], 0);
  assert.is(positive.at(-1), windows.length - 1);
});

test('trailing timesteps are those that few-step bases were distilled for', () => {
  const timesteps = (n: number) => [...schedule.trailingSteps(n)].slice(0, n).map((sigma) => schedule.nearest(sigma));
  assert.equal(timesteps(8), [999, 874, 749, 624, 499, 374, 249, 124]);
  assert.equal(timesteps(4), [999, 749, 499, 249]);
  assert.equal(timesteps(1), [999]);
  assert.is(schedule.trailingSteps(4)[4], 0);
  assert.throws(() => schedule.trailingSteps(0), /not possible/);
});

test('Euler draws noise once, goes through the trailing sigmas, and ends at the last estimate', async () => {
  const seen: number[] = [];
  let drawn = 0;
  const noise = noiseOf(1);
  let last = new Float32Array();
  const result = await sampleEuler(tile, schedule, {
    steps: 4,
    cfg: 1,
    sNoise: 1.01,
    noise: () => {
      drawn++;
      return noise();
    },
    onStep: ({ sigma, sigmaHat, denoised }) => {
      assert.is(sigma, sigmaHat);
      seen.push(sigma);
      last = denoised as Float32Array<ArrayBuffer>;
    },
  });
  assert.is(drawn, 1);
  assert.equal(seen, [...schedule.trailingSteps(4)].slice(0, 4));
  assert.equal(result, last);
});

test.run();
