/**
 * The autoencoder in exact tiles gives what it gives whole, to f32 rounding, with memory for a tile however large the image. The published
 * program's approximate tiling has its golden cases (`verify`); here are its tiles.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import { constant, input, sizeOf, type Tensor } from '../../core/tensor.ts';
import { permute } from '../../kernels/copy.ts';
import { groupMoments } from '../../kernels/group-moments.ts';
import { groupNorm, normalizeGroups } from '../../kernels/group-norm.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { FeatureMap, partition } from '../../models/feature-map.ts';
import { forecastTiled, runTiled } from '../../models/tiled-graph.ts';
import { Vae } from '../../models/vae.ts';
import type { Values } from '../../restore/networks.ts';
import type { SupirModel } from '../../restore/supir-model.ts';
import { publishedTiles, runAutoencoder, VAE_TILING } from '../../restore/tiled-vae.ts';
import type { VerifyContext } from '../../verify/context.ts';
import type { CaseEntry } from '../../verify/golden.ts';
import { check } from '../support/check.ts';
import { testDevice } from '../support/device.ts';
import { goldenContext } from '../support/golden.ts';
import * as reference from '../support/reference.ts';
import { sampler } from '../support/sample.ts';

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

test('a tile’s memory does not grow with the image, and all of it is freed', async () => {
  const peakOf = async (h: number, w: number) => {
    const before = { ...device.memory };
    device.memory.peak = device.memory.bytes;
    await runAutoencoder(device, 'decoder', decoder, drawn([1, h, w, 4], 3), exact(2 ** 17));
    assert.equal([device.memory.buffers, device.memory.bytes], [before.buffers, before.bytes]);
    return device.memory.peak - before.bytes;
  };
  const [small, large] = [await peakOf(8, 8), await peakOf(16, 24)];
  // The middle's attention reads all keys and values: 128 channels at each latent pixel.
  const attention = (h: number, w: number) => 2 * 128 * 4 * h * w;
  assert.ok(large <= 1.2 * small + attention(16, 24), `${large} bytes for an image of 6 times the size, which took ${small}`);
  const { bytes } = device.memory;
  device.memory.peak = bytes;
  await runAutoencoder(device, 'decoder', decoder, drawn([1, 16, 24, 4], 3), WHOLE);
  assert.ok(device.memory.peak - bytes > 5 * large, 'the whole image at once takes much more');
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

test('an SDXL-size decoder of 2048 x 2048 pixels needs no binding above 128 MiB; the forecast is what a run takes', async () => {
  const limits = { maxStorageBufferBindingSize: 2 ** 27, minUniformBufferOffsetAlignment: 256 };
  const sdxl = new Vae(SUPIR_SDXL.vae).decode(input('z', [1, 256, 256, 4]));
  const { gpuBytes, hostBytes } = forecastTiled(sdxl, VAE_TILING.tileBytes, device.facts, limits);
  assert.ok(gpuBytes < 600 * 2 ** 20, `${gpuBytes} bytes on the GPU`);
  assert.ok(hostBytes < 9 * 2 ** 30, `${hostBytes} bytes on the host`);

  const z = drawn([1, 16, 12, 4], 7);
  const forecast = forecastTiled(decoder(input('z', z.shape)), 2 ** 17, device.facts, device.gpu.limits);
  const before = device.memory.bytes;
  device.memory.peak = before;
  await runAutoencoder(device, 'decoder', decoder, z, exact(2 ** 17));
  assert.is(forecast.gpuBytes, device.memory.peak - before);
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
  const run = runTiled(device, [{ output, input: new FeatureMap(shape) }], { tileBytes: 64 });
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
    const windows = partition(h, w, most);
    for (const { y0, y1, x0, x1 } of windows) for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) seen[y * w + x]++;
    assert.ok(seen.every((times) => times === 1));
    assert.ok(windows.every(({ y0, y1, x0, x1 }) => (y1 - y0) * (x1 - x0) <= Math.max(most, 1)));
  }
});

test('the published tiles: borders, and sides rounded up to what fits', () => {
  const boxes = publishedTiles(104, 136, 64, 32, 1 / 8).map(({ read, written }) => [read.x0, read.x1, written.x0, written.x1]);
  assert.equal(boxes, [
    [0, 128, 0, 12],
    [64, 136, 12, 17],
  ]);
  assert.equal(
    publishedTiles(30, 8, 6, 11, 8).map(({ read, written }) => [read.y0, read.y1, written.y0, written.y1]),
    [
      [0, 26, 0, 120],
      [4, 30, 120, 240],
    ],
  );
});

test.run();
