/** Memory that WebGPU hides: estimated for adapters on paper, tried on one that refuses, and what a restoration makes of it. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Machine } from '../../core/adapter.ts';
import { estimateMemory, triedMemory } from '../../gpu/card-memory.ts';
import { openDevice } from '../../gpu/device.ts';
import { machineOf } from '../../host/browser.ts';
import { currentHost } from '../../host/current.ts';
import { FACTS } from '../support/facts.ts';
import { FaultyGpu } from '../support/faulty-gpu.ts';

const GIB = 2 ** 30;
const LINUX: Machine = { system: 'linux', memory: 16 * GIB };
const WINDOWS: Machine = { system: 'windows', memory: 16 * GIB };
const NOTHING: Machine = { system: null, memory: null };

/** What an adapter calls itself, its largest buffer in GiB, and its machine -> GiB, whether a trial may tell more. */
const ADAPTERS: [name: Partial<typeof FACTS>, buffer: number, machine: Machine, gib: number, mayTry: boolean][] = [
  [{ vendor: 'nvidia', architecture: 'lovelace' }, 4, LINUX, 5, true],
  [{ vendor: 'nvidia', architecture: 'lovelace' }, 4, WINDOWS, 5, false],
  [{ vendor: 'nvidia', architecture: 'blackwell' }, 2, WINDOWS, 7, false],
  [{ vendor: 'nvidia', architecture: 'pascal' }, 2, WINDOWS, 1, false],
  // wgpu tells PCI numbers, and the name in the description.
  [{ vendor: '4318', description: 'NVIDIA GeForce RTX 3060' }, 1, { ...LINUX, memory: null }, 3, true],
  [{ vendor: 'amd', architecture: 'rdna-2' }, 4, LINUX, 3, true],
  [{ vendor: 'amd', architecture: 'rdna-4' }, 4, WINDOWS, 7, false],
  [{ vendor: 'intel', architecture: 'gen-12hp' }, 4, WINDOWS, 3, false],
  [{ vendor: 'intel', architecture: 'xe-2hpg' }, 4, WINDOWS, 7, false],
  [{ vendor: 'intel', architecture: 'gen-9' }, 2, WINDOWS, 8, false],
  [{ vendor: 'intel', architecture: 'gen-9' }, 2, NOTHING, 2, false],
  [{ vendor: 'apple', architecture: 'metal-3' }, 4, { system: 'mac', memory: 36 * GIB }, 18, false],
  [{ vendor: 'apple' }, 4, { system: 'mac', memory: null }, 4, false],
  [{ vendor: 'apple' }, 1, { system: 'mac', memory: null }, 1e9 / GIB, false], // an iPad that says it is a Mac
  [{ vendor: 'apple' }, 0.25, { system: 'ios', memory: null }, 1e9 / GIB, false],
  [{ vendor: 'qualcomm', architecture: 'adreno-7xx' }, 0.25, { system: 'android', memory: 8 * GIB }, 2, false],
  [{ vendor: 'arm', architecture: 'valhall' }, 0.25, { system: 'android', memory: 1 * GIB }, 0.5, false],
  [{}, 1, LINUX, 2, true],
  [{}, 0.25, NOTHING, 0.5, false],
  [{ vendor: 'mesa', software: true }, 2, LINUX, 8, false],
  [{ vendor: 'google', software: true }, 2, NOTHING, 2, false],
];

test('adapters on paper: by maker, generation, largest buffer and machine', () => {
  for (const [name, buffer, machine, gib, mayTry] of ADAPTERS) {
    const card = estimateMemory({ ...FACTS, description: '', ...name }, { maxBufferSize: buffer * GIB }, machine);
    const said = `${JSON.stringify(name)} ${machine.system}`;
    assert.ok(Math.abs(card.bytes - gib * GIB) < 2, `${said}: ${card.bytes / GIB} GiB`);
    assert.is(card.mayTry, mayTry, said);
    assert.match(card.why, /^[a-zA-Z].*[a-zA-Z0-9]$/);
  }
});

test('what browsers call themselves', () => {
  assert.equal(machineOf('Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1'), {
    system: 'ios',
    memory: null,
  });
  assert.equal(machineOf('Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 Chrome/150.0.0.0 Mobile', 4), {
    system: 'android',
    memory: 4 * GIB,
  });
  assert.is(machineOf('Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/150.0.0.0', 8).system, 'windows');
  assert.is(machineOf('Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/26.0 Safari/605.1.15').system, 'mac');
  assert.is(machineOf('Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0').system, 'linux');
  assert.is(machineOf('a browser').system, null);
});

const host = await currentHost();
const faulty = new FaultyGpu(await host.gpu());
const open = () => openDevice({ gpu: faulty.gpu, settle: host.settle });
const card = { bytes: GIB / 4, why: 'on paper', mayTry: true };

test('a trial ends at the first refusal or where it is enough, and gives everything back', async () => {
  faulty.mend();
  faulty.faults = { memory: 0.7 * GIB };
  const device = await open();
  const tried = (wanted: number, given = card) => triedMemory(device.gpu, device.settle, given, wanted);
  const refused = await tried(8 * GIB);
  assert.is(refused.bytes, Math.floor(0.8 * 2 * 2 ** 28), 'two buffers were given');
  assert.equal([refused.mayTry, refused.why], [false, '0.5 GB were given in a trial']);
  assert.is((await tried(0.3 * GIB)).bytes, Math.floor(0.3 * GIB));
  assert.is(await tried(GIB / 8), card, 'there is enough');
  const sure = { ...card, mayTry: false };
  assert.is(await tried(8 * GIB, sure), sure, 'it would tell nothing');
  assert.ok(device.buffer('as large as before', 2 ** 28, 0x80));
  device.check();
  assert.is(device.memory.buffers, 1, 'a trial counts no buffer');
  device.close();
});

test.run();
