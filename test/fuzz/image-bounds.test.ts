/** What small files may claim, and what that costs: bounds of time and memory on every size that an image file can name. */
import { deflateSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { encodeJpeg } from '../../image/encode.ts';
import { PNG_SIGNATURE, type PngChunk, writeChunk } from '../../image/png-chunks.ts';
import { ascii, exifBlock, joinBytes, makePng, type RawPng, scanBytes, withSegment } from '../image/make-files.ts';
import { inBounds } from '../support/bounds.ts';
import { refused } from '../support/refused.ts';

const big = (value: number): number[] => [value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255];
const png = (header: number[], chunks: PngChunk[]) =>
  joinBytes(
    PNG_SIGNATURE,
    ...[{ type: 'IHDR', data: Uint8Array.from(header) }, ...chunks, { type: 'IEND', data: new Uint8Array() }].map(writeChunk),
  );
const SMALL: RawPng = { width: 6, height: 4, depth: 8, color: 2, rows: new Uint8Array(76) };
const jpeg = encodeJpeg({ width: 16, height: 8, data: new Uint8Array(384).fill(90) }, 90);

test('a PNG of few bytes and 48 megapixels of 64 bits takes the memory of its picture', async () => {
  const [width, height] = [8000, 6000];
  for (const interlaced of [0, 1]) {
    const rows = deflateSync(new Uint8Array(height * (1 + 8 * width) + (interlaced ? height * 8 : 0)));
    const file = png([...big(width), ...big(height), 16, 6, 0, 0, interlaced], [{ type: 'IDAT', data: rows }]);
    assert.ok(file.length < 500_000);
    // A pixel takes three bytes of colour, one of alpha, and six of its 16-bit colour.
    const image = await inBounds(() => decode(file, 'x.png'), { seconds: 20, megabytes: 10 * 48 + 80 });
    assert.equal([image.width, image.height, image.alpha!.length], [width, height, width * height]);
  }
});

test('rows that a PNG has beyond its picture are not waited for', async () => {
  const rows = deflateSync(new Uint8Array(300e6));
  const file = png([...big(6), ...big(4), 8, 2, 0, 0, 0], [{ type: 'IDAT', data: rows }]);
  const { note } = await inBounds(() => decode(file, 'x.png'), { seconds: 2, megabytes: 40 });
  assert.match(note!, /data beyond its pixels/);
});

test('chunks by the million, profiles and texts that inflate without end', async () => {
  const header = [...big(6), ...big(4), 8, 2, 0, 0, 0];
  const start = png(header, []).subarray(0, 33);
  const empty = writeChunk({ type: 'prVt', data: new Uint8Array() });
  const many = new Uint8Array(33 + 1_100_000 * empty.length);
  many.set(start);
  for (let at = 33; at < many.length; at += empty.length) many.set(empty, at);
  await inBounds(() => refused(decode(many, 'x.png'), /x\.png: the PNG file has more than 1000000 chunks/), {
    seconds: 10,
    megabytes: 500,
  });
  const endless = deflateSync(new Uint8Array(200e6));
  const profile = { type: 'iCCP', data: joinBytes(ascii('a\0\0'), endless) };
  const noted = await inBounds(() => decode(makePng({ ...SMALL, chunks: [profile] }), 'x.png'), { seconds: 5, megabytes: 120 });
  assert.match(noted.note!, /colour profile is damaged/);
  const text = { type: 'zTXt', data: joinBytes(ascii('Raw profile type exif\0\0'), endless) };
  const texts = Array.from({ length: 50 }, () => text);
  await inBounds(() => decode(makePng({ ...SMALL, chunks: texts }), 'x.png'), { seconds: 10, megabytes: 250 });
});

test('a JPEG that claims more than its bytes can hold is refused at once', async () => {
  const claim = jpeg.slice();
  const at = claim.findIndex((byte, i) => byte === 0xff && claim[i + 1] === 0xc0);
  claim.set([6100 >> 8, 6100 & 255, 16384 >> 8, 0], at + 5);
  await inBounds(() => refused(decode(claim, 'x.jpg'), /\d+ bytes for 16384x6100 pixels/), { seconds: 1, megabytes: 20 });
});

test('a progressive JPEG of few bytes and 67 megapixels ends in time', async () => {
  const [side, blocks] = [8192, 1024 ** 2];
  const codes = (table: number, symbol: number) => [0xff, 0xc4, 0, 20, table, 1, ...new Array(15).fill(0), symbol];
  const none = scanBytes(`0${'1'.repeat(14)}`.repeat(Math.ceil(blocks / 32_767)));
  const frame = [0xff, 0xc2, 0, 11, 8, side >> 8, side & 255, side >> 8, side & 255, 1, 1, 0x11, 0];
  const file = (scans: number) =>
    joinBytes(
      [0xff, 0xd8, 0xff, 0xdb, 0, 67, 0],
      new Uint8Array(64).fill(1),
      ...[frame, codes(0x00, 0), codes(0x10, 0xe0), [0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0]],
      new Uint8Array(blocks / 8 + 4),
      ...Array.from({ length: scans }, () => joinBytes([0xff, 0xda, 0, 8, 1, 1, 0, 1, 62, 0], none)),
      [0xff, 0xd9],
    );
  assert.ok(file(40).length < 150_000);
  await inBounds(() => refused(decode(file(40), 'x.jpg'), /so many scans/), { seconds: 15, megabytes: 200 });
  const image = await inBounds(() => decode(file(15), 'x.jpg'), { seconds: 25, megabytes: 500 });
  assert.is(image.data[0], 128);
});

test('EXIF segments by the thousand, and lists of 65535 tags', async () => {
  const block = joinBytes(ascii('Exif\0\0'), exifBlock(9, true));
  const segment = joinBytes([0xff, 0xe1, 0, block.length + 2], block);
  const many = joinBytes(jpeg.subarray(0, 2), ...Array.from({ length: 20_000 }, () => segment), jpeg.subarray(2));
  await inBounds(() => decode(many, 'x.jpg'), { seconds: 5, megabytes: 150 });
  const long = exifBlock(6, true);
  long.set([0xff, 0xff], 8);
  const list = joinBytes(ascii('Exif\0\0'), long, new Uint8Array(65_000).fill(1));
  const image = await inBounds(() => decode(withSegment(jpeg, 0xe1, list), 'x.jpg'), { seconds: 1, megabytes: 20 });
  assert.equal([image.width, image.height], [8, 16]);
});

test.run();
