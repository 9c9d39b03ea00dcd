/** Files kept in the browser: as much as it takes, whatever it says beforehand, and nothing that was stored in part counts as kept. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { host } from '../../host/browser.ts';
import { opfsStore } from '../../host/opfs-store.ts';
import { EngineFiles } from '../../web/engine-files.ts';
import { type PrivateFiles, privateFiles } from '../support/private-files.ts';
import { refused } from '../support/refused.ts';

let disk: PrivateFiles;
test.before.each(() => {
  disk = privateFiles();
});
test.after.each(() => disk.restore());

const BLOCK = 2 ** 24;
const contents = Uint8Array.from({ length: 2 * BLOCK + 1000 }, (_, i) => (i * 31) >>> 3);

async function given(): Promise<EngineFiles> {
  const files = new EngineFiles();
  await files.add([{ path: 'm.json', file: new File([contents], 'm.json', { lastModified: 1 }) }]);
  return files;
}
const keep = async (files: EngineFiles) => {
  const seen: number[] = [];
  await files.keep('m.json', (done) => seen.push(done), new AbortController().signal);
  return seen;
};

test('a file is kept although the browser says that it would not fit, and read again without the original', async () => {
  const files = await given();
  assert.equal(await keep(files), [BLOCK, 2 * BLOCK, contents.length]);
  const later = new EngineFiles();
  const [{ id }] = await later.kept();
  await later.openKept(id);
  const source = await later.host.fileSource('own/m.json');
  assert.equal(await source.read(BLOCK - 5, 10), contents.slice(BLOCK - 5, BLOCK + 5));
  assert.equal(await later.removeKept(id), []);
  assert.equal(
    [...disk.files.keys()].filter((path) => path.startsWith('kept-blocks/')),
    [],
  );
});

test('keeping that was stopped goes on where it was, and writes what is there no second time', async () => {
  const files = await given();
  const stop = new AbortController();
  const error = await files.keep('m.json', () => stop.abort(new Error('stopped')), stop.signal).catch((each) => each);
  assert.is(error.message, 'stopped');
  assert.equal(await files.kept(), []);
  const { writes } = disk;
  await keep(files);
  assert.is(disk.writes, writes + 3, 'two blocks and the list');
});

for (const whenFull of ['error', 'part'] as const) {
  test(`where there is no room (${whenFull}) that is told, and nothing is left`, async () => {
    const files = await given();
    Object.assign(disk, { room: BLOCK + 500, whenFull });
    await refused(keep(files), /m\.json takes 0\.03 GB, and this browser keeps no more than 0\.02 GB of it/);
    assert.equal([...disk.files.keys()], []);
    assert.equal(await files.kept(), []);
    const store = await opfsStore('blocks');
    await store.put('a', new Uint8Array(100));
    const failure = await store.put('b', new Uint8Array(2 * BLOCK)).catch((each) => each);
    assert.is(failure.name, 'QuotaExceededError');
    assert.is(await store.get('b'), null);
    assert.is((await store.get('a'))!.size, 100);
    await refused(
      host.writeFileAtomic('runs/state', new Uint8Array(2 * BLOCK)),
      /Cannot write runs\/state: the browser grants this site no more storage/,
    );
    assert.not(disk.files.get('runs/state')?.length);
  });
}

test.run();
