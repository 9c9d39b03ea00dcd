/** What a restoration is forecast to take is what it takes, and the picture is the same, however its weights lie. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { host } from '../../host/node.ts';
import type { Image } from '../../image/image.ts';
import type { GivenOptions } from '../../restore/choose-options.ts';
import type { Forecast } from '../../restore/forecast.ts';
import type { Progress } from '../../restore/progress.ts';
import { Restorer } from '../../restore/restorer.ts';
import { measureSpeeds } from '../../restore/speed.ts';

const demo = new URL('../../demo', import.meta.url).pathname;
const options = { steps: 2, cfg: 2, seed: 3, minSize: 64 };
const photo: Image = { width: 64, height: 64, data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7919) % 251) };
const MB = 1e6;
let restorer: Restorer;

test.before(async () => {
  restorer = await Restorer.load(host, demo);
});

test.after(async () => {
  await restorer.close();
  assert.is(restorer.device.memory.buffers, 0);
});

/** Restores with `memory` on an empty device, and compares peaks; all but the weights is given back. */
async function restored(memory: number | undefined, given: GivenOptions = options): Promise<{ forecast: Forecast; image: Uint8Array }> {
  const { device, model } = restorer;
  restorer.memory = memory;
  device.memory.peak = 0;
  const forecast = restorer.forecast(photo, given);
  const { image } = await restorer.restore(photo, given);
  assert.is(device.memory.peak, forecast.peakGpuBytes);
  model.release();
  assert.equal({ buffers: device.memory.buffers, bytes: device.memory.bytes }, { buffers: 0, bytes: 0 });
  return { forecast, image: image.data };
}

const stageOf = ({ stages }: Forecast, name: string) => stages.find(({ stage }) => stage === name)!;

test('with speeds there is a time, which grows with the steps', async () => {
  restorer.memory = undefined;
  const speeds = await measureSpeeds(restorer.model);
  assert.ok(speeds.gflopPerSecond > 0 && speeds.readPerSecond! > 0);
  assert.is(restorer.forecast(photo, options).seconds, null);
  const [few, many] = [2, 20].map((steps) => restorer.forecast(photo, { ...options, steps }, speeds));
  const computing = (many.gflop - few.gflop) / speeds.gflopPerSecond;
  assert.ok(
    computing > 0 && Math.abs(many.seconds! - few.seconds! - computing) < 1e-6 * many.seconds!,
    `${few.seconds} and ${many.seconds}`,
  );
  assert.is(restorer.device.memory.buffers, 0);
});

test('the forecast of GPU memory is the measured peak, resident, by component and streamed, and the pictures are the same', async () => {
  const resident = await restored(undefined);
  assert.is(resident.forecast.residency, 'resident');
  assert.is(resident.forecast.readPerStep, 0);

  const all = resident.forecast.peakGpuBytes;
  const component = await restored(all - MB);
  assert.is(component.forecast.residency, 'component');
  assert.equal(component.image, resident.image);

  const sample = stageOf(resident.forecast, 'sample');
  const streamed = await restored(sample.activations + sample.weights - 2 * MB);
  assert.is(streamed.forecast.residency, 'streamed');
  assert.ok(streamed.forecast.readPerStep > 2 * MB);
  assert.equal(streamed.image, resident.image);
});

test('steps that reuse features count what they compute and read, and every window’s features count in the memory', async () => {
  const cached = { ...options, steps: 5, cache: 0.6, tile: 8 };
  const plain = stageOf(restorer.forecast(photo, { ...cached, cache: 0 }), 'sample');
  const { forecast } = await restored(undefined, cached);
  const sample = stageOf(forecast, 'sample');
  assert.equal([plain.runs, plain.reusing, sample.runs, sample.reusing], [45, 0, 45, 27]);
  assert.ok(sample.gflop < 0.66 * plain.gflop && sample.gflop > 0.6 * plain.gflop, `${sample.gflop} of ${plain.gflop}`);
  // Both branches of 8 x 8 pixels of 64 channels, in nine windows, and a place of their own in the program.
  const [more, features] = [sample.activations - plain.activations, 2 * 8 * 8 * 64 * 4];
  assert.ok(more > 9 * features && more <= 10 * features, `${more}`);
  assert.ok(forecast.why.includes('Step caching: 27 of 45 runs in sample take deep features over.'));
  assert.is(sample.ends!.length, 5);
  assert.ok(sample.ends![1] - sample.ends![0] < 0.45 * sample.ends![0] && sample.ends![4] === 1, `${sample.ends}`);

  // Weights that pass through, for a latent in one piece, with which the autoencoder fits whole too.
  const whole = { ...cached, tile: 0 };
  const { forecast: one, image } = await restored(undefined, whole);
  const { activations, weights } = stageOf(one, 'sample');
  const streamed = await restored(activations + weights - 2 * MB, whole);
  assert.equal(streamed.image, image);
  const reading = stageOf(streamed.forecast, 'sample');
  assert.equal([reading.runs, reading.reusing], [5, 3]);
  assert.is(reading.read - reading.loaded, 2 * reading.streamed, 'whole steps alone read weights again');
  assert.ok(reading.streamed > 2 * MB);
});

test('features of windows that do not fit are told before the work begins', () => {
  restorer.memory = 60 * MB;
  const large = { width: 1024, height: 1024 };
  const given = { ...options, tile: 8, tileStride: 4 };
  assert.throws(
    () => restorer.forecast(large, { ...given, cache: 0.5 }),
    /the stage 'sample' does not fit: .* GB of it are for the deep features of \d+ windows, which step caching \(the option cache\) keeps/,
  );
});

test('tiles follow the memory', () => {
  const large = { width: 256, height: 256 };
  restorer.memory = undefined;
  assert.is(stageOf(restorer.forecast(large, options), 'decode').tiling, 'whole');
  restorer.memory = 60 * MB;
  const tight = restorer.forecast(large, options);
  assert.is(stageOf(tight, 'decode').tiling, 'exact');
  assert.ok(tight.why.some((reason) => reason.startsWith('Exact tiles in stage1, decode')));
  assert.ok(tight.peakGpuBytes <= 60 * MB);
  assert.is(stageOf(restorer.forecast(large, { ...options, tile: 16 }), 'sample').tiling, 'windows');
});

test('an adapter that runs out of memory is asked for less in a second try', async () => {
  const own = await Restorer.load(host, demo);
  try {
    const { gpu } = own.device;
    const pop = gpu.popErrorScope.bind(gpu);
    let scopes = Number.NEGATIVE_INFINITY;
    const progress = ({ stage, done }: Progress) => void (stage === 'sample' && done === 0 && scopes < 0 && (scopes = 0));
    // The inner scope is that of validation, the outer one that of memory.
    gpu.popErrorScope = async () => {
      const error = await pop();
      return ++scopes === 2 ? ({ message: 'no room' } as GPUError) : error;
    };
    const warnings: string[] = [];
    await own.restore(photo, options, { progress, warning: ({ message }) => void warnings.push(message) });
    assert.is(warnings.length, 1);
    assert.match(warnings[0], /^Out of GPU memory while placing .*no room.*Trying once more/);
    assert.ok(own.memory! > 0);
    assert.ok(own.device.memory.peak <= own.memory!, `${own.device.memory.peak} of ${own.memory}`);
  } finally {
    await own.close();
  }
});

test('what does not fit is refused before the work begins, with the numbers', async () => {
  restorer.memory = 3 * MB;
  const { device } = restorer;
  let begun = false;
  const error = await restorer.restore(photo, options, { progress: () => void (begun = true) }).then(
    () => null,
    (cause) => cause,
  );
  assert.instance(error, UserError);
  assert.match(
    error.message,
    /^At 64 x 64 pixels the stage '\w+' does not fit: 3 MB of GPU memory are allowed, and this needs \d+ MB at least/,
  );
  assert.not(begun);
  assert.is(device.memory.buffers, 0);
  // Less than one tile's maps take, where no map is left that could lie elsewhere.
  restorer.memory = 20e3;
  assert.throws(() => restorer.forecast(photo, options), /does not fit: 20 kB of GPU memory are allowed/);
});

test.run();
