/** WebP files in and out. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { decode } from '../../image/decode.ts';
import type { Image } from '../../image/image.ts';
import { psnr } from '../../image/metrics.ts';
import { encodeWebp } from '../../image/webp.ts';
import { readWebpChunks, withMetadata } from '../../image/webp-file.ts';
import { ascii, exifBlock, joinBytes } from './make-files.ts';

/** Soft shapes, as photographs have. */
function soft(width: number, height: number): Image {
  const wave = (x: number, y: number, c: number) => 128 + 60 * Math.sin(x / 17 + c / 4) + 50 * Math.cos(y / 13);
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => wave(Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3));
  return { width, height, data };
}

/** A 1x1 lossless file of one pixel, (r, g, b, a): five prefix codes of one symbol each. */
function losslessPixel(r: number, g: number, b: number, a: number): Uint8Array {
  const bits: number[] = [];
  const put = (value: number, count: number) => {
    for (let i = 0; i < count; i++) bits.push((value >> i) & 1);
  };
  put(0, 14); // width - 1
  put(0, 14); // height - 1
  put(a === 255 ? 0 : 1, 1);
  put(0, 3); // version
  put(0, 3); // no transform, no colour cache, no meta prefix codes
  for (const symbol of [g, r, b, a, 0]) {
    put(0b1, 1); // a simple code
    put(0, 1); // of one symbol
    put(1, 1); // of 8 bits
    put(symbol, 8);
  }
  const bytes = Array.from({ length: Math.ceil(bits.length / 8) }, (_, i) =>
    bits.slice(8 * i, 8 * i + 8).reduce((byte, bit, k) => byte | (bit << k), 0),
  );
  return riff(['VP8L', [0x2f, ...bytes]]);
}

function riff(...chunks: [type: string, data: ArrayLike<number>][]): Uint8Array {
  const four = (x: number) => [x & 255, (x >> 8) & 255, (x >> 16) & 255, x >>> 24];
  const body = joinBytes(
    ascii('WEBP'),
    ...chunks.map(([type, data]) => joinBytes(ascii(type), four(data.length), data, data.length & 1 ? [0] : [])),
  );
  return joinBytes(ascii('RIFF'), four(body.length), body);
}

async function refuses(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => assert.unreachable('it was accepted'),
    (reason: unknown) => reason,
  );
  assert.instance(error, UserError);
  assert.match((error as UserError).message, message);
}

test('lossless, written by hand', async () => {
  assert.equal(await decode(losslessPixel(10, 200, 30, 255), 'x'), { width: 1, height: 1, data: Uint8Array.of(10, 200, 30) });
  assert.equal((await decode(losslessPixel(10, 200, 30, 77), 'x')).alpha, Uint8Array.of(77));
});

test('what is written is read: nearly the colours, exactly the alpha', async () => {
  const image = soft(67, 45);
  const files = [await encodeWebp(image, 40), await encodeWebp(image, 95)];
  const errors = await Promise.all(files.map(async (file) => psnr(await decode(file, 'x'), image)));
  assert.ok(errors[0] < errors[1] && errors[1] > 38 && files[0].length < files[1].length, String(errors));
  assert.not('alpha' in (await decode(files[0], 'x')));
  const alpha = Uint8Array.from({ length: 67 * 45 }, (_, i) => (i * 5) & 255);
  assert.equal((await decode(await encodeWebp({ ...image, alpha }, 80), 'x')).alpha, alpha);
  for (const quality of [0, 101, Number.NaN]) await refuses(encodeWebp(image, quality), /quality/);
  await refuses(encodeWebp({ width: 16384, height: 1, data: new Uint8Array(3 * 16384) }, 80), /at most 16383/);
});

test('profile and EXIF; the orientation is applied', async () => {
  const icc = new Uint8Array(201);
  icc.set(ascii('RGB '), 16);
  icc.set(ascii('acsp'), 36);
  const image: Image = { ...soft(20, 12), alpha: new Uint8Array(240).fill(9), metadata: { icc, exif: exifBlock(6, true) } };
  const file = await encodeWebp(image, 90);
  const types = readWebpChunks(file, 'x').map(({ type }) => type);
  assert.equal(types, ['VP8X', 'ICCP', 'ALPH', 'VP8 ', 'EXIF']);
  assert.equal([...file.subarray(20, 30)], [0x38, 0, 0, 0, 19, 0, 0, 11, 0, 0]);
  const read = await decode(file, 'x');
  assert.equal([read.width, read.height], [12, 20]);
  assert.equal(read.metadata, { icc, exif: exifBlock(1, true) });
  assert.equal(read.alpha, image.alpha);
  const pixel = withMetadata(losslessPixel(1, 2, 3, 4), 1, 1, { exif: exifBlock(1, false) });
  assert.is(pixel[20], 0x18);
  assert.equal((await decode(pixel, 'x')).alpha, Uint8Array.of(4));
});

const size = (side: number) => [side & 255, (side >> 8) & 255, side >> 16];

test('of an animation the first picture is read, with a word', async () => {
  const frame = (left: number, top: number, pixel: Uint8Array) => {
    const { type, data } = readWebpChunks(pixel, 'x')[0];
    const chunk = joinBytes(ascii(type), [data.length, 0, 0, 0], data, data.length & 1 ? [0] : []);
    return ['ANMF', joinBytes(size(left / 2), size(top / 2), size(0), size(0), [100, 0, 0, 0], chunk)] as [string, Uint8Array];
  };
  const canvas: [string, number[]] = ['VP8X', [2, 0, 0, 0, ...size(2), ...size(0)]];
  const file = riff(
    canvas,
    ['ANIM', [0, 0, 0, 0, 0, 0]],
    frame(2, 0, losslessPixel(7, 8, 9, 255)),
    frame(0, 0, losslessPixel(1, 1, 1, 255)),
  );
  const read = await decode(file, 'a.webp');
  assert.equal([...read.data], [0, 0, 0, 0, 0, 0, 7, 8, 9]);
  assert.equal([...read.alpha!], [0, 0, 255]);
  assert.is(read.note, 'the WebP file is animated; the first of its 2 pictures was read.');
  await refuses(decode(riff(canvas, frame(4, 0, losslessPixel(7, 8, 9, 255))), 'a.webp'), /no picture in it/);
});

test('empty, oversized and cut-off files are refused', async () => {
  await refuses(decode(riff(['VP8X', [0, 0, 0, 0, ...size(9), ...size(9)]]), 'a.webp'), /no picture in it/);
  const picture = readWebpChunks(losslessPixel(1, 2, 3, 255), 'x')[0].data;
  const huge = riff(['VP8X', [0, 0, 0, 0, ...size(99_999), ...size(9)]], ['VP8L', picture]);
  await refuses(decode(huge, 'a.webp'), /a\.webp: 100000x10 pixels is too large/);
  await refuses(decode(riff(['VP8X', [0, 0, 0, 0, ...size(9), ...size(9)]], ['VP8L', picture]), 'a.webp'), /damaged/);
  const file = await encodeWebp(soft(9, 7), 80);
  for (let length = 12; length < file.length; length += 3) await refuses(decode(file.subarray(0, length), 'a.webp'), /a\.webp: .*cut off/);
  const broken = file.slice();
  broken.fill(0xff, 30);
  const settled = await decode(broken, 'a.webp').catch((error: unknown) => error);
  assert.ok(settled instanceof UserError || (settled as Image).data.length === 9 * 7 * 3);
});

test.run();
