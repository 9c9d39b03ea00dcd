/** Which tiles are quicker: decided by clear differences within a time, kept for the driver it was found with, and never asked of processors. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type AdapterFacts, type TiledWork, type TileSize, USUAL_TILES } from '../../core/adapter.ts';
import { DeviceError } from '../../core/errors.ts';
import { Device } from '../../gpu/device.ts';
import { timedTiles, tuneTiles } from '../../gpu/tile-tuning.ts';
import { fileNotes } from '../../host/file-notes.ts';
import { testDevices } from '../support/device.ts';
import { FACTS } from '../support/facts.ts';
import { MemoryFiles } from '../support/memory-files.ts';

/** A device of which only facts are asked. */
const onPaper = (facts: Partial<AdapterFacts> = {}) => ({ facts: { ...FACTS, description: 'driver 1', ...facts } }) as Device;

/** Milliseconds with the small tile where the large one takes 10; others take 10 with both. */
const times = (small: Partial<Record<TiledWork, number>>) => {
  let asked = 0;
  const time = async (work: TiledWork, size: TileSize) => {
    asked++;
    return size === 'large' ? 10 : (small[work] ?? 10);
  };
  return { time, count: () => asked };
};

test('what is clearly quicker is chosen, and what is not stays as usual', async () => {
  const { tiles, times: found } = await timedTiles(onPaper(), times({ manyRows: 8.9, manyWindows: 9.1, fewRows: 11.5, fewWindows: 10.5 }));
  assert.equal(tiles, { ...USUAL_TILES, manyRows: 'small', fewRows: 'large' });
  assert.equal(found.manyRows, { large: 10, small: 8.9 });
  const late = await timedTiles(onPaper(), { ...times({ manyRows: 1 }), seconds: -1 });
  assert.equal([late.tiles, late.times], [USUAL_TILES, {}], 'no time is left');
});

test('it is found out once for a driver, and again for another or where the note is damaged', async () => {
  const files = new MemoryFiles();
  const notes = fileNotes(files, 'notes', 'a browser');
  const tuned = async (facts?: Partial<AdapterFacts>) => {
    const device = onPaper(facts);
    const { time, count } = times({ manyRows: 5 });
    await tuneTiles(device, notes, { time });
    return [device.facts.tiles?.manyRows, count()];
  };
  assert.equal(await tuned(), ['small', 10]);
  assert.equal(await tuned(), ['small', 0]);
  assert.equal(await tuned({ description: 'driver 2' }), ['small', 10]);
  assert.equal(await tuned({ description: 'driver 2' }), ['small', 0]);
  for (const damage of [
    (text: string) => text.slice(9),
    (text: string) => text.replace('"small"', '"huge"'),
    (text: string) => text.replace('fewQueries', 'fewKeys'),
  ]) {
    const [[path, bytes]] = files.files;
    files.files.set(path, new TextEncoder().encode(damage(new TextDecoder().decode(bytes))));
    assert.equal(await tuned({ description: 'driver 2' }), ['small', 10]);
    assert.equal(await tuned({ description: 'driver 2' }), ['small', 0]);
  }
});

test('processors are not timed, and a GPU that fails in it goes on as usual', async () => {
  const files = new MemoryFiles();
  const notes = fileNotes(files, 'notes', 'a browser');
  for (const facts of [{ software: true }, { schedule: 'subgroup' as const }]) {
    const device = onPaper(facts);
    const { time, count } = times({});
    await tuneTiles(device, notes, { time });
    assert.equal([device.facts.tiles, count()], [undefined, 0]);
  }
  const device = onPaper();
  const time = () => Promise.reject(new DeviceError('gone'));
  await tuneTiles(device, notes, { time });
  assert.is(device.facts.tiles, USUAL_TILES);
  assert.is(files.files.size, 0);
});

test('timed on a device: times there are, and nothing of it is left', async () => {
  const { gpu, facts, settle } = (await testDevices()).find(({ facts }) => facts.schedule === 'tiled')!;
  const device = new Device(gpu, { ...facts, software: false }, settle);
  const { times: found } = await timedTiles(device, { works: ['fewRows'], seconds: 60 });
  assert.equal(Object.keys(found), ['fewRows']);
  assert.ok(found.fewRows!.large > 0 && found.fewRows!.small > 0);
  assert.equal([device.memory.buffers, device.facts.tiles], [0, undefined]);
});

test.run();
