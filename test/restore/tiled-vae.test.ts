/**
 * The autoencoder in exact tiles gives what it gives whole, to f32 rounding, with memory for a tile however large the image. The published
 * program's approximate tiling has its golden cases (`verify`); here are its tiles.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { WeightLedger } from '../../core/placement.ts';
import { TorchRandom } from '../../core/random.ts';
import { constant, input, sizeOf, type Tensor } from '../../core/tensor.ts';
import { permute } from '../../kernels/copy.ts';
import { groupMoments } from '../../kernels/group-moments.ts';
import { groupNorm, normalizeGroups } from '../../kernels/group-norm.ts';
import { FeatureMap, partition } from '../../models/feature-map.ts';
import { runTiled } from '../../models/tiled-graph.ts';
import type { Values } from '../../restore/networks.ts';
import type { SupirModel } from '../../restore/supir-model.ts';
import { forecastAutoencoder, publishedTiles, runAutoencoder, VAE_TILING } from '../../restore/tiled-vae.ts';
import type { VerifyContext } from '../../verify/context.ts';
import type { CaseEntry } from '../../verify/golden.ts';
import * as reference from '../../verify/reference.ts';
import { sampler } from '../../verify/sample.ts';
import { check } from '../support/check.ts';
import { testDevice } from '../support/device.ts';
import { goldenContext } from '../support/golden.ts';

const device = await testDevice();
let context: VerifyContext;
let model: SupirModel;

test.before(async () => {
  context = await goldenContext(device);
  model = await context.model({ weights: { model: 'tiny' } } as CaseEntry);
});
test.after(() => context.dispose());

function drawn(shape: number[], seed: number): Values {
  return { data: new TorchRandom(seed).randn(sizeOf(shape)), shape };
}

const farthest = (a: Values, b: Values) => {
  assert.equal([...a.shape], [...b.shape]);
  return a.data.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b.data[i])), 0);
};

/** Largest difference accepted on values of about unit size; the requirement is 1e-3. */
const TOLERANCE = 3e-5;

const decoder = (z: Tensor) => model.networks.first_stage_model.decode(z);
const encoder = (x: Tensor) => model.networks.first_stage_model.encode(x, 'encoder');
const exact = (tileBytes: number) => ({ ...VAE_TILING, how: 'exact' as const, tileBytes });
const WHOLE = { ...VAE_TILING, how: 'off' as const };

test('decoder: exact tiles of several sizes equal the whole, at odd sizes and for two images', async () => {
  const z = drawn([2, 9, 13, 4], 1);
  const whole = await runAutoencoder(device, 'decoder', decoder, z, WHOLE);
  for (const tileBytes of [2 ** 17, 3e5, 2 ** 30]) {
    const tiled = await runAutoencoder(device, 'decoder', decoder, z, exact(tileBytes));
    const error = farthest(tiled, whole);
    assert.ok(error < TOLERANCE, `tiles of ${tileBytes} bytes: off by ${error}`);
  }
});

test('encoder: exact tiles equal the whole, also where the reductions meet odd sizes', async () => {
  const x = drawn([1, 104, 72, 3], 2);
  const whole = await runAutoencoder(device, 'encoder', encoder, x, WHOLE);
  for (const tileBytes of [2 ** 16, 2 ** 18]) {
    const error = farthest(await runAutoencoder(device, 'encoder', encoder, x, exact(tileBytes)), whole);
    assert.ok(error < TOLERANCE, `tiles of ${tileBytes} bytes: off by ${error}`);
  }
});

/** Runs with `budget` bytes for everything; what was on the GPU at most beside what was there before. */
async function peakOf(budget: number, run: () => Promise<unknown>): Promise<number> {
  const { residency, memory } = device;
  model.release();
  const before = { ...memory };
  memory.peak = memory.bytes;
  residency.budget = before.bytes + budget;
  try {
    await run();
  } finally {
    residency.budget = Number.POSITIVE_INFINITY;
  }
  const peak = memory.peak - before.bytes;
  model.release();
  assert.equal([memory.buffers, memory.bytes], [before.buffers, before.bytes]);
  return peak;
}

test('maps stay on the GPU where they fit, else on the host: the same numbers, within the budget, as forecast to the byte', async () => {
  const z = drawn([1, 24, 40, 4], 3);
  const whole = await runAutoencoder(device, 'decoder', decoder, z, WHOLE);
  const peaks: number[] = [];
  // The smaller tiles take the keys of attention in parts.
  for (const [mb, tileBytes] of [
    [200, 2 ** 18],
    [24, 2 ** 18],
    [14, 2 ** 16],
    [10, 2 ** 18],
    [7, 2 ** 17],
  ]) {
    const budget = mb * 1e6;
    const forecast = forecastAutoencoder(device, 'decoder', decoder, z.shape, exact(tileBytes), budget);
    let tiled: Values | undefined;
    const peak = await peakOf(budget, async () => {
      tiled = await runAutoencoder(device, 'decoder', decoder, z, exact(tileBytes));
    });
    const error = farthest(tiled!, whole);
    assert.ok(error < TOLERANCE, `${mb} MB: off by ${error}`);
    assert.ok(peak <= budget, `${peak} of ${budget} bytes`);
    const ledger = new WeightLedger();
    ledger.budget = budget;
    const most = forecast.programs.map(({ plan, beside }) => {
      const { placement } = ledger.admit(plan, beside, device.gpu.limits.minStorageBufferOffsetAlignment);
      ledger.leave(placement);
      return ledger.bytes + plan.bytes.total + beside + placement.slabs.reduce((sum, slab) => sum + slab, 0);
    });
    assert.is(Math.max(...most), peak, `${mb} MB`);
    peaks.push(peak);
  }
  assert.ok(peaks[0] > 2 * peaks[4]);
});

test('auto runs whole what fits, and in tiles what does not', async () => {
  const z = drawn([1, 8, 8, 4], 4);
  let tiles = 0;
  const events = { onTile: () => void tiles++ };
  const whole = await runAutoencoder(device, 'decoder', decoder, z, VAE_TILING, events);
  assert.is(tiles, 0);
  const tiled = await runAutoencoder(device, 'decoder', decoder, z, { ...VAE_TILING, mostWhole: 2 ** 18, tileBytes: 2 ** 18 }, events);
  assert.ok(tiles > 0);
  assert.ok(farthest(tiled, whole) < TOLERANCE);
});

test('an abort stops between tiles and frees the tile’s buffers', async () => {
  const { buffers } = device.memory;
  const stop = new AbortController();
  const run = runAutoencoder(device, 'decoder', decoder, drawn([1, 16, 16, 4], 5), exact(2 ** 16), {
    signal: stop.signal,
    onTile: (done, of) => {
      assert.ok(done <= of);
      if (done === 3) stop.abort(new Error('enough'));
    },
  });
  const reason = await run.then(
    () => 'done',
    (error) => error.message,
  );
  assert.is(reason, 'enough');
  assert.is(device.memory.buffers, buffers);
});

test('group moments and normalizeGroups together are groupNorm', async () => {
  const draw = sampler(6);
  const [x, gamma, beta] = [draw([2, 5, 7, 12], { mean: 0.5 }), draw([12]), draw([12])];
  const split = normalizeGroups(x.tensor, groupMoments(x.tensor, 3), gamma.tensor, beta.tensor, 1e-6);
  await check('normalizeGroups', split, reference.groupNorm(x, gamma, beta, 3, 1e-6), { terms: 4, ulps: 8 });
  assert.throws(() => groupMoments(x.tensor, 5), /groupMoments: 5 groups/);
  assert.throws(() => normalizeGroups(x.tensor, input('moments', [1, 3, 2]), gamma.tensor, beta.tensor), /moments \(1, 3, 2\)/);
});

test('what cannot be computed in tiles is refused by name', async () => {
  const shape = [1, 4, 6, 8];
  const [gamma, beta] = [constant(new Float32Array(8), [8]), constant(new Float32Array(8), [8])];
  const output = permute(groupNorm(input('x', shape), gamma, beta, 2), [0, 2, 1, 3]);
  const run = runTiled(device, [{ output, input: new FeatureMap(shape) }], { tileBytes: 64, budget: 2 ** 20 });
  const error = await run.then(
    () => undefined,
    (e) => e,
  );
  assert.instance(error, ShapeError);
  assert.match(error.message, /tiles/);
});

test('partitions cover every pixel once, with windows of nearly one size', () => {
  for (const [h, w, most] of [
    [1, 1, 100],
    [17, 5, 9],
    [64, 48, 1000],
    [10, 10, 0.5],
  ]) {
    const seen = new Uint8Array(h * w);
    const { rows, columns } = partition(h, w, most);
    const length = ({ start, end }: { start: number; end: number }) => end - start;
    for (const down of rows)
      for (const across of columns) {
        for (let y = down.start; y < down.end; y++) for (let x = across.start; x < across.end; x++) seen[y * w + x]++;
        assert.ok(length(down) * length(across) <= Math.max(most, 1));
      }
    assert.ok(seen.every((times) => times === 1));
    for (const ranges of [rows, columns]) assert.ok(ranges.slice(0, -1).every((range) => length(range) === length(ranges[0])));
  }
});

test('the published tiles: borders, and sides rounded up to what fits', () => {
  const boxes = publishedTiles(104, 136, 64, 32, 1 / 8).map(({ read, written }) => [
    read.columns.start,
    read.columns.end,
    written.columns.start,
    written.columns.end,
  ]);
  assert.equal(boxes, [
    [0, 128, 0, 12],
    [64, 136, 12, 17],
  ]);
  assert.equal(
    publishedTiles(30, 8, 6, 11, 8).map(({ read, written }) => [read.rows.start, read.rows.end, written.rows.start, written.rows.end]),
    [
      [0, 26, 0, 120],
      [4, 30, 120, 240],
    ],
  );
});

test.run();
