/** A driver with faults: restorations end with the right picture, or with words that say why not. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DeviceError, Warning } from '../../core/errors.ts';
import { host } from '../../host/node.ts';
import type { Image } from '../../image/image.ts';
import { Restorer, type RestoreSettings } from '../../restore/restorer.ts';
import { FaultyGpu } from '../support/faulty-gpu.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refusal } from '../support/refused.ts';
import { tinyModelFiles } from '../support/tiny-model.ts';

const options = { steps: 3, cfg: 2, seed: 3, minSize: 16, upscale: 1 };
const photo: Image = { width: 16, height: 16, data: Uint8Array.from({ length: 768 }, (_, i) => 128 + 100 * Math.sin(i * i)) };
const files = new MemoryFiles();
const faulty = new FaultyGpu(await host.gpu());
// The methods of MemoryFiles, on it.
const names = ['readFile', 'fileSource', 'writeFileAtomic', 'list', 'exists', 'remove'] as const;
const inMemory = Object.fromEntries(names.map((name) => [name, (files[name] as (...given: unknown[]) => unknown).bind(files)]));
const faultyHost = {
  ...host,
  ...(inMemory as unknown as MemoryFiles),
  gpu: async () => faulty.gpu,
  machine: () => ({ system: 'linux' as const, memory: null }),
};
const waits = [0.01, 0.1];
let undisturbed: Uint8Array;
let peak = 0;

const load = (schedule?: 'subgroup') => Restorer.load(faultyHost, 'tiny', [], { waits, schedule });

/** Restores with a restorer of its own; its warnings' codes and the picture. */
async function restored(
  prepare: (restorer: Restorer) => void = () => {},
  settings: Pick<RestoreSettings, 'step'> = {},
): Promise<{ data: Uint8Array; warnings: Warning[] }> {
  const restorer = await load();
  const warnings: Warning[] = [];
  try {
    prepare(restorer);
    const { image } = await restorer.restore(photo, options, { ...settings, warning: (said) => void warnings.push(said) });
    peak = restorer.device.memory.peak;
    return { data: image.data, warnings };
  } finally {
    await restorer.close();
    assert.is(restorer.device.memory.buffers, 0);
  }
}

test.before(async () => {
  for (const [name, bytes] of await tinyModelFiles()) files.files.set(`tiny/${name}`, bytes);
  undisturbed = (await restored()).data;
  assert.ok(faulty.submits > 8);
});

test.before.each(() => faulty.mend());

test('lost here and there, with no adapter for a while: the same bytes', async () => {
  faulty.faults = { loseAt: (submit) => submit === 3 || submit === 9, nullFor: 50 };
  const { data, warnings } = await restored();
  assert.equal(data, undisturbed);
  assert.is(faulty.losses, 2);
  assert.is(faulty.refusedAdapters, 2);
  assert.equal(
    warnings.map(({ code }) => code),
    ['device-replaced', 'device-replaced'],
  );
});

test('a watchdog that takes the GPU away from long submits: they become smaller, and the bytes are the same', async () => {
  const steady = ({ device: { pace } }: Restorer) => {
    pace.learn = () => {};
    pace.seconds = 0.0002; // short enough that time bounds submits, and not the number of dispatches
  };
  await restored(steady);
  const most = Math.ceil(0.8 * faulty.largest);
  faulty.faults = { mostWorkgroups: most };
  const { data, warnings } = await restored(steady);
  assert.equal(data, undisturbed);
  assert.ok(warnings.length > 0 && warnings.length <= 2, `${warnings.length} losses`);
});

test('lost every time: it ends with a plain word, and so does the next photo only after tries of its own', async () => {
  faulty.faults = { loseAt: () => true };
  const restorer = await load();
  const end = (await refusal(restorer.restore(photo, { ...options, stage1Only: true }))) as DeviceError;
  assert.is(end.code, 'device-lost-again');
  assert.match(end.message, /The GPU was lost 3 times .* nothing more is tried/);
  assert.is(faulty.losses, 3);
  faulty.faults = {};
  assert.equal((await restorer.restore(photo, options)).image.data, undisturbed);
  await restorer.close();
});

test('an adapter that does not come again is told', async () => {
  faulty.faults = { loseAt: (submit) => submit === 2, nullFor: 1e6 };
  const restorer = await load();
  const end = (await refusal(restorer.restore(photo, { ...options, stage1Only: true }))) as DeviceError;
  assert.is(end.code, 'no-adapter-again');
  await restorer.close();
});

test('memory that ends early is done with, and what does not suffice is told with what may help', async () => {
  const outOfMemory = /Out of GPU memory while placing .*smaller image or tiles/;
  faulty.faults = { memory: 0.9 * peak };
  const { data, warnings } = await restored();
  assert.equal(data, undisturbed);
  assert.match(warnings.map(({ message }) => message).join(), outOfMemory);
  faulty.faults = { memory: 0.4 * peak };
  const restorer = await load();
  const end = await refusal(restorer.restore(photo, options));
  assert.match(end.message, outOfMemory);
  await restorer.close();
});

test('weights that did not get to the GPU are found, and brought there again', async () => {
  const name = 'first_stage_model.decoder';
  faulty.faults = { keepsWrite: (label, device) => device > 1 || !label.includes(name) };
  const { data, warnings } = await restored();
  assert.equal(data, undisturbed);
  assert.match(
    warnings.map(({ message }) => message).join(),
    new RegExp(`^The weight '.*${name}.*' is not on the GPU as it was written there`),
  );
  assert.is(warnings.length, 1);
  faulty.mend();
  faulty.faults = { keepsWrite: (label) => !label.includes(name) };
  const restorer = await load();
  const end = (await refusal(restorer.restore(photo, { ...options, stage1Only: true }))) as DeviceError;
  assert.is(end.code, 'wrong-upload');
  await restorer.close();
});

test('zeros without an error, and work that is dropped later: found, and done again with other kernels', async () => {
  let isSampling = false;
  faulty.faults = { dropAt: (_, devices) => devices === 1 && isSampling };
  const { data, warnings } = await restored(() => {}, { step: () => void (isSampling = true) });
  assert.equal(
    warnings.map(({ values }) => values?.fault),
    ['unchanged'],
  );
  const apart = Math.max(...data.map((value, i) => Math.abs(value - undisturbed[i])));
  assert.ok(apart <= 1, `another schedule rounds otherwise: ${apart} levels`);
  faulty.mend();
  faulty.faults = { dropAt: () => true };
  const restorer = await load();
  const end = (await refusal(restorer.restore(photo, { ...options, stage1Only: true }))) as DeviceError;
  assert.equal([end.code, end.values?.fault], ['wrong-values-again', 'constant']);
  assert.match(end.message, /The stage 'encode' gave what cannot be right: all \d+ values in .* are 0\. Probably the driver dropped/);
  await restorer.close();
});

test('a GPU that says nothing of its memory is tried once, and not again where the trial loses it', async () => {
  const schedule = 'subgroup'; // whose tiles are not timed
  const info = { vendor: 'acme', architecture: 'a', device: '', description: 'Acme 1', isFallbackAdapter: false };
  const budgetOf = async () => {
    const restorer = await load(schedule);
    const { budget, budgetFrom, why } = restorer.forecast(photo, options);
    const { buffers } = restorer.device.memory;
    await restorer.close();
    return { budget, budgetFrom, why: why[0], buffers };
  };
  faulty.faults = { info, memory: 400 * 2 ** 20 };
  const tried = await budgetOf();
  assert.equal([tried.budget, tried.budgetFrom, tried.buffers], [Math.floor(0.8 * 2 ** 28), 'estimate', 0]);
  assert.match(tried.why, /0\.21 GB of GPU memory may be used \(0\.3 GB were given in a trial\)/);
  faulty.faults = { info, loseAt: () => faulty.losses === 0 };
  const lost = await budgetOf();
  assert.equal([faulty.losses, lost.budget, lost.buffers], [1, 2 ** 31, 0]);
  assert.match(lost.why, /nothing tells more/);
  // What is given wins, and what does not fit an estimate is told to be one.
  faulty.faults = { info, memory: 1 };
  const restorer = await load(schedule);
  restorer.memory = 50e6;
  assert.is(restorer.forecast(photo, options).budgetFrom, 'given');
  restorer.memory = undefined;
  restorer.device.card = { bytes: 1e5, why: 'it is very small', mayTry: false };
  assert.throws(
    () => restorer.forecast(photo, options),
    /does not fit: 100 kB .* How much the GPU has is an estimate: it is very small\.$/,
  );
  await restorer.close();
});

test.run();
