/** Files of the host: written whole, read whole and by range, listed, refused by name. Runs on every host. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { currentHost } from '../../host/current.ts';

const FOLDER = 'out/test/files';
const bytes = Uint8Array.from({ length: 70_001 }, (_, i) => (i * i) % 251);

async function refusal(promise: Promise<unknown>): Promise<UserError> {
  const error = await promise.then(
    () => null,
    (cause) => cause,
  );
  assert.instance(error, UserError);
  return error;
}

test('a written file reads back whole, by range and by name', async () => {
  const host = await currentHost();
  const path = `${FOLDER}/numbers.bin`;
  await host.writeFileAtomic(path, new Uint8Array(90_000));
  await host.writeFileAtomic(path, bytes);
  assert.equal(await host.readFile(path), bytes);
  assert.equal(await host.list(FOLDER), ['numbers.bin']);
  assert.ok(!(await host.list('out/test')).includes('files'));

  const source = await host.fileSource(path);
  assert.is(source.name, 'numbers.bin');
  assert.is(source.size, bytes.length);
  assert.equal(await source.read(65_000, 5_001), bytes.slice(65_000));
  assert.equal(await source.read(70_001, 0), new Uint8Array(0));
  assert.match((await refusal(source.read(70_000, 2))).message, 'numbers.bin');
  await refusal(source.read(-1, 2));
  await source.close?.();
});

test('a missing file or folder is named', async () => {
  const host = await currentHost();
  for (const act of [host.fileSource, host.readFile, host.list]) {
    assert.match((await refusal(act('out/test/nowhere/lost.bin'))).message, 'out/test/nowhere/lost.bin');
  }
});

test('a path that cannot be written is named', async () => {
  const host = await currentHost();
  await host.writeFileAtomic(`${FOLDER}/numbers.bin`, bytes);
  assert.match((await refusal(host.writeFileAtomic(`${FOLDER}/numbers.bin/inside.bin`, bytes))).message, 'inside.bin');
  assert.equal(await host.list(FOLDER), ['numbers.bin']);
});

test.run();
