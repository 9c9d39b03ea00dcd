import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BLOCK, inBlocks } from '../../weights/block-source.ts';
import { type ByteSource, bytesSource } from '../../weights/byte-source.ts';

const bytes = Uint8Array.from({ length: 2 * BLOCK + 1000 }, (_, i) => (i * 2654435761) >>> 24);

/** A source in blocks, and what it asks the file for. */
function watched(read: ByteSource['read'] = bytesSource('file', bytes).read) {
  const asked: [offset: number, length: number][] = [];
  const source: ByteSource = {
    name: 'file',
    size: bytes.length,
    read: (offset, length, into) => {
      asked.push([offset, length]);
      return read(offset, length, into);
    },
  };
  return { asked, source: inBlocks(source) };
}

test('small reads of a block are one read of the file, and each has its own bytes', async () => {
  const { asked, source } = watched();
  const ranges = [
    [0, 8],
    [8, 100],
    [BLOCK - 3, 3],
    [2 * BLOCK + 10, 990],
    [5, 0],
  ];
  const into = new Uint8Array(200);
  const all = await Promise.all(ranges.map(([offset, length], i) => source.read(offset, length, i === 1 ? into : undefined)));
  for (const [i, [offset, length]] of ranges.entries()) assert.equal(all[i], bytes.slice(offset, offset + length), `${offset} ${length}`);
  assert.ok(all[1].buffer === into.buffer);
  assert.equal(asked, [
    [0, BLOCK],
    [2 * BLOCK, 1000],
  ]);
  all[0].fill(7);
  assert.equal(await source.read(0, 8), bytes.slice(0, 8));
});

test('long reads, and those across two blocks, are as they are asked for', async () => {
  const { asked, source } = watched();
  const ranges = [
    [BLOCK - 1, 2],
    [3, BLOCK / 4 + 1],
  ];
  for (const [offset, length] of ranges) assert.equal(await source.read(offset, length), bytes.slice(offset, offset + length));
  assert.equal(asked, ranges);
  await source.read(bytes.length, 1).then(
    () => assert.unreachable('read behind the end'),
    (error: Error) => assert.match(error.message, /the file has 2098152/),
  );
});

test('a read that failed is tried again', async () => {
  let fails = true;
  const { source } = watched(async (offset, length) => {
    if (fails) throw new Error('the disk is away');
    return bytes.slice(offset, offset + length);
  });
  await source.read(1, 2).then(
    () => assert.unreachable('read from a disk that is away'),
    (error: Error) => assert.match(error.message, /away/),
  );
  fails = false;
  assert.equal(await source.read(1, 2), bytes.slice(1, 3));
});

test.run();
