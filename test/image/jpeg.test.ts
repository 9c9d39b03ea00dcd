/**
 * JPEG against libjpeg's own pixels. The files in fixtures/image/jpeg are libjpeg-turbo's (cjpeg, and ImageMagick for CMYK), each .png beside one is
 * what djpeg makes of it; oddities that leave the picture whole are put into them here.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { encodeJpeg } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { fixture } from '../support/fixtures.ts';
import { refused } from '../support/refused.ts';
import { ascii, joinBytes, scanBytes, withSegment } from './make-files.ts';

const file = (name: string) => fixture(`image/jpeg/${name}.jpg`);
const pixels = async (bytes: Uint8Array): Promise<number[]> => [...(await decode(bytes, 'x.jpg')).data];

/** What a segment's marker is at; all of a kind if `all`. */
function places(bytes: Uint8Array, wanted: (marker: number) => boolean): number[] {
  return Array.from(bytes.keys()).filter((at) => bytes[at] === 0xff && wanted(bytes[at + 1]));
}
const put = (bytes: Uint8Array, at: number, ...more: number[]) => joinBytes(bytes.subarray(0, at), more, bytes.subarray(at));
const isRestart = (marker: number) => marker >= 0xd0 && marker <= 0xd7;

for (const name of [
  'progressive-restart-420', // scans of one component whose last interval is short
  'progressive-restart-440',
  'separate-restart-422',
  'grey-restart', // sampled 2x2, which means nothing with one component
  'quarter-411',
  'rgb-halved', // Adobe's RGB with halved planes
  'cmyk-halved',
  'cmyk-progressive',
]) {
  test(`libjpeg's pixels: ${name}`, async () => {
    const bytes = await file(name);
    const [ours, theirs] = [await decode(bytes, 'x.jpg'), await decode(await fixture(`image/jpeg/${name}.png`), 'x.png')];
    assert.equal([ours.width, ours.height], [41, 35]);
    assert.equal(ours.data, theirs.data);
    assert.is(ours.note !== undefined, name.startsWith('cmyk'));
  });

  test(`the same picture: ${name} with oddities`, async () => {
    const bytes = await file(name);
    const expected = await pixels(bytes);
    for (const at of places(bytes, (marker) => isRestart(marker) || marker >= 0xd9)) {
      assert.equal(await pixels(put(bytes, at, 0xff, 0xff, 0xff)), expected, `fill bytes at ${at}`);
      if (at > 20) assert.equal(await pixels(put(bytes, at, 0x12, 0x34, 0xff, 0x00, 0x56)), expected, `stray bytes at ${at}`);
    }
    const end = bytes.length - 2;
    assert.equal(await pixels(put(bytes, end, 0xff, 0xd3, 0xff, 0xd0)), expected, 'stray restart markers');
    for (const rest of [
      [],
      [0xff],
      [1, 2, 3, 4],
      [0xff, 0xd8, 0xff, 0xdb, 0, 3, 9],
      [0xff, 0xc4, 0, 9, 1],
      ascii('SEFT\0\0'),
      [...bytes],
    ]) {
      const { data, note } = await decode(joinBytes(bytes.subarray(0, end), rest), 'x.jpg');
      assert.equal([...data], expected);
      assert.match(note!, /the end of the JPEG file is missing/);
    }
  });

  test(`lost data are told from a lost end: ${name}`, async () => {
    const bytes = await file(name);
    const scans = places(bytes, (marker) => marker === 0xda);
    const last = bytes.length - 3; // the last byte of data holds a bit at least
    for (const length of [last, last - 1, last - 40, ...scans, ...scans.map((at) => at + 30)])
      await refused(decode(bytes.subarray(0, length), 'cut.jpg'), /^cut\.jpg: the JPEG file is damaged or cut off \(/);
    for (const at of scans.slice(1)) {
      const complete = joinBytes(bytes.subarray(0, at), [0xff, 0xd9]);
      if (!name.includes('progressive')) await refused(decode(complete, 'x.jpg'), /a part of the picture is missing/);
    }
    const restarts = places(bytes, isRestart);
    if (restarts.length < 2) return;
    const lost = joinBytes(bytes.subarray(0, restarts[0]), bytes.subarray(restarts[1]));
    await refused(decode(lost, 'x.jpg'), /damaged or cut off/);
  });
}

test('components that share an identifier come in the order of the frame', async () => {
  for (const name of ['quarter-411', 'separate-restart-422']) {
    const bytes = await file(name);
    const expected = await pixels(bytes);
    const [frame] = places(bytes, (marker) => marker === 0xc0 || marker === 0xc2);
    for (const ids of [
      [1, 1, 1],
      [7, 7, 9],
      [0, 255, 0],
    ]) {
      const renamed = bytes.slice();
      const original = ids.map((id, i) => {
        const at = frame + 10 + 3 * i;
        const was = renamed[at];
        renamed[at] = id;
        return was;
      });
      for (const at of places(bytes, (marker) => marker === 0xda))
        for (let i = 0; i < bytes[at + 4]; i++) renamed[at + 5 + 2 * i] = ids[original.indexOf(bytes[at + 5 + 2 * i])];
      assert.equal(await pixels(renamed), expected, `${name} ${ids}`);
    }
  }
});

test('every level is rounded: a flat picture comes back as it was', async () => {
  for (const level of [1, 64, 127, 128, 200, 254]) {
    const image: Image = { width: 16, height: 8, data: new Uint8Array(384).fill(level) };
    const error = (await pixels(encodeJpeg(image, 100))).reduce((sum, value) => sum + value - level, 0) / 384;
    assert.ok(Math.abs(error) < 0.26, `${level}: ${error}`);
  }
});

/** A progressive grey file of `side` pixels, all mid-grey, with `scans` scans of coefficients 1 to 62 in which there is nothing. */
function manyScans(side: number, scans: number): Uint8Array {
  const blocks = (side / 8) ** 2;
  const means = new Uint8Array(Math.ceil(blocks / 8) + 4);
  const codes = (table: number, symbol: number) => [0xff, 0xc4, 0, 20, table, 1, ...new Array(15).fill(0), symbol]; // one code, the bit 0
  const nothing = `0${'1'.repeat(14)}`.repeat(Math.ceil(blocks / 32_767)); // the code, and how many blocks it holds for
  const empty = joinBytes([0xff, 0xda, 0, 8, 1, 1, 0, 1, 62, 0], scanBytes(nothing));
  return joinBytes(
    [0xff, 0xd8, 0xff, 0xdb, 0, 67, 0],
    new Uint8Array(64).fill(1),
    [0xff, 0xc2, 0, 11, 8, side >> 8, side & 255, side >> 8, side & 255, 1, 1, 0x11, 0],
    ...[codes(0x00, 0), codes(0x10, 0xe0)],
    [0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0],
    means,
    ...Array.from({ length: scans }, () => empty),
    [0xff, 0xd9],
  );
}

test('scans are bounded in number, and by how often they go through a large picture', async () => {
  const small = await decode(manyScans(8, 100), 'x.jpg');
  assert.ok(small.data.every((value) => value === 128));
  await refused(decode(manyScans(8, 200), 'x.jpg'), /x\.jpg: a JPEG with so many scans \(more than 200/);
  const start = performance.now();
  const large = manyScans(4096, 150); // of 262144 blocks
  assert.ok(large.length < 60_000);
  await refused(decode(large, 'x.jpg'), /20 times the picture/);
  assert.ok(performance.now() - start < 10_000);
});

test('what lacks a table is refused in words', async () => {
  const bytes = await file('quarter-411');
  const without = (marker: number) => {
    let left: Uint8Array = bytes;
    for (let at = places(left, (each) => each === marker)[0]; at !== undefined; at = places(left, (each) => each === marker)[0])
      left = joinBytes(left.subarray(0, at), left.subarray(at + 2 + ((left[at + 2] << 8) | left[at + 3])));
    return left;
  };
  await refused(decode(without(0xdb), 'x.jpg'), /a quantisation table is missing/);
  await refused(decode(without(0xc4), 'x.jpg'), /a Huffman table is missing/);
});

test('segments of no length, and ones that are not known, are passed over', async () => {
  const bytes = await file('quarter-411');
  const expected = await pixels(bytes);
  assert.equal(await pixels(put(bytes, 2, 0xff, 0xef, 0, 0)), expected);
  assert.equal(await pixels(withSegment(bytes, 0xf7, [1, 2, 3])), expected);
});

test.run();
