/** What was found out about an adapter holds for this adapter, driver, runtime and version alone; all else counts for nothing and is renewed. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { AdapterNotes } from '../../gpu/adapter-notes.ts';
import { fileNotes } from '../../host/file-notes.ts';
import { FACTS } from '../support/facts.ts';
import { MemoryFiles } from '../support/memory-files.ts';

const ACME = { ...FACTS, vendor: 'acme', architecture: 'a1', device: '0x1', description: 'Acme 1, driver 1.0' };
const files = new MemoryFiles();
const notesOf = (facts = ACME, runtime = 'a browser 1') => new AdapterNotes(fileNotes(files, 'notes', runtime), facts);

test.before.each(() => files.files.clear());

test('a finding is kept, beside others, for its adapter', async () => {
  const notes = notesOf();
  assert.is(await notes.read('speed'), undefined);
  await notes.write('speed', { flops: 1e12 });
  await notes.write('tiles', 'small');
  assert.equal(await notesOf().read('speed'), { flops: 1e12 });
  assert.is(await notesOf().read('tiles'), 'small');
  assert.is(await notesOf({ ...ACME, device: '0x2' }).read('speed'), undefined);
  assert.is(await notes.read('toString'), undefined);
  assert.is(files.files.size, 1);
});

test('another driver or runtime ignores it, and its own takes the place', async () => {
  await notesOf().write('tiles', 'small');
  const newer = notesOf({ ...ACME, description: 'Acme 1, driver 1.1' });
  assert.is(await newer.read('tiles'), undefined);
  assert.is(await notesOf(ACME, 'a browser 2').read('tiles'), undefined);
  await newer.write('speed', 1);
  assert.is(files.files.size, 1);
  assert.equal([await newer.read('tiles'), await newer.read('speed'), await notesOf().read('tiles')], [undefined, 1, undefined]);
});

test('what is damaged, or no note, counts for nothing and is written anew', async () => {
  await notesOf().write('tiles', 'small');
  const [[path, whole]] = files.files;
  const text = new TextDecoder().decode(whole);
  const damaged = [
    text.slice(0, 40),
    '',
    'null',
    '[]',
    '{}',
    '{"adapter":1,"found":{"tiles":"small"}}',
    text.replace(/"found": \{[^}]*\}/, '"found": 7'),
  ];
  for (const each of [...damaged, text + ' '.repeat(2 ** 16)]) {
    files.files.set(path, new TextEncoder().encode(each));
    assert.is(await notesOf().read('tiles'), undefined, each.slice(0, 60));
    await notesOf().write('tiles', 'large');
    assert.is(await notesOf().read('tiles'), 'large');
  }
});

test('where nothing can be kept nothing is, without an error', async () => {
  files.capacity = 10;
  await notesOf().write('tiles', 'small');
  assert.is(await notesOf().read('tiles'), undefined);
  files.capacity = Number.POSITIVE_INFINITY;
  const nowhere = new AdapterNotes(fileNotes(files, null, ''), ACME);
  await nowhere.write('tiles', 'small');
  assert.is(await nowhere.read('tiles'), undefined);
  assert.is(files.files.size, 0);
});

test.run();
