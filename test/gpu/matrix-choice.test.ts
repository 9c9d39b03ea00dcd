/** Matrix units are used where a choice says so and the adapter still offers the unit; what was chosen is remembered while it holds. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MATRIX_FEATURE } from '../../core/adapter.ts';
import { openDevice } from '../../gpu/device.ts';
import { type MatrixChoice, rememberedChoice } from '../../gpu/matrix-choice.ts';
import { fileNotes } from '../../host/file-notes.ts';
import type { AdapterReport } from '../../verify/adapter-check.ts';
import { reportText } from '../../verify/report-text.ts';
import { HALVES } from '../support/facts.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refusal } from '../support/refused.ts';

const ADAPTER = {
  features: new Set(['shader-f16', 'subgroups', 'subgroup-size-control', MATRIX_FEATURE]),
  info: {
    ...{ vendor: 'acme', architecture: 'a1', device: '0x1', description: 'Acme 1, driver 1.0', subgroupMinSize: 32, subgroupMaxSize: 32 },
    subgroupMatrixConfigs: [{ componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 }],
  },
  limits: {},
} as unknown as GPUAdapter;
const CHOICE: MatrixChoice = { unit: HALVES, quicker: true, why: 'quick' };

/** The features that a device is asked for, which then cannot be had. */
async function wanted(options: Partial<Parameters<typeof openDevice>[0]>): Promise<string[]> {
  let features: string[] = [];
  const adapter = {
    ...ADAPTER,
    requestDevice: async ({ requiredFeatures }: GPUDeviceDescriptor) => {
      features = [...requiredFeatures!];
      throw new Error('no device on paper');
    },
  };
  const gpu = { requestAdapter: async () => adapter } as unknown as GPU;
  assert.match((await refusal(openDevice({ gpu, ...options }))).message, /on paper/);
  return features;
}

test('a device has matrix units where they were chosen and are quicker, or were asked for', async () => {
  const choose = (choice: Partial<MatrixChoice>) => async () => ({ ...CHOICE, ...choice });
  const has = async (options: Parameters<typeof wanted>[0]) => (await wanted(options)).includes(MATRIX_FEATURE);
  assert.is(await has({ chooseMatrixUnit: choose({}) }), true);
  assert.is(await has({}), false);
  assert.is(await has({ chooseMatrixUnit: choose({ quicker: false }) }), false);
  assert.is(await has({ chooseMatrixUnit: choose({ unit: null, quicker: false }) }), false);
  assert.is(await has({ chooseMatrixUnit: choose({ unit: { ...HALVES, m: 8 } }) }), false, 'no longer offered');
  assert.is(await has({ schedule: 'matrix', chooseMatrixUnit: choose({ quicker: false }) }), true);
  assert.is(await has({ schedule: 'matrix' }), true);
  assert.is(await has({ schedule: 'tiled', chooseMatrixUnit: choose({}) }), false);
});

test('a choice is remembered for its adapter, and what is damaged is found out anew', async () => {
  const files = new MemoryFiles();
  const notes = fileNotes(files, 'notes', 'a browser 1');
  let probes = 0;
  const choose = (adapter = ADAPTER) =>
    rememberedChoice(notes, adapter, async () => {
      probes++;
      return CHOICE;
    });
  assert.equal(await choose(), CHOICE);
  assert.equal(await choose(), CHOICE);
  assert.is(probes, 1);
  await choose({ ...ADAPTER, info: { ...ADAPTER.info, description: 'Acme 1, driver 1.1' } } as GPUAdapter);
  assert.is(probes, 2);
  const [[path, whole]] = files.files;
  const text = new TextDecoder().decode(whole).replace('driver 1.1', 'driver 1.0');
  const damaged = [
    text.replace('"kernel": "', '"kernel": "0'),
    text.replace('"quicker": true', '"quicker": 1'),
    text.replace('"lanes": 32', '"lanes": "32"'),
    text.replace('"input": "f16"', '"input": "f64"'),
  ];
  for (const [i, each] of damaged.entries()) {
    files.files.set(path, new TextEncoder().encode(each));
    assert.equal(await choose(), CHOICE);
    assert.is(probes, 3 + i, each);
  }
});

test('a report of an adapter tells what was found of its matrix units', () => {
  const report: AdapterReport = {
    adapter: { vendor: 'acme', architecture: 'a1', device: '0x1', description: 'Acme 1', software: false, subgroupSizes: [32, 32] },
    schedules: { checked: ['tiled'], left: {}, chosen: 'tiled', matrices: 'f16 16x16x16 of 32: wrong' },
    kernels: { checked: 1, left: 0, wrong: [], worst: null },
    probes: {
      subnormalHalves: { read: true, written: true },
      infiniteHalves: true,
      ulps: { exp: 1, tanh: 1, division: 1 },
      timestampGrain: null,
    },
    tiles: null,
    speed: null,
    longestSubmit: { seconds: 0.1, budget: 0.25 },
    restoration: null,
    verdict: 'good',
    why: ['All is right.'],
    seconds: 1,
    interrupted: false,
  };
  assert.match(reportText(report, 'Node 20'), /schedules +tiled \(chosen\)\n +matrix units: f16 16x16x16 of 32: wrong\n/);
});

test.run();
