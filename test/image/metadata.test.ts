/** Colour profiles and EXIF from file to file, and what exifr, another program's reader, finds in the files written. */
import exifr from 'exifr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { type ImageMetadata, sizedExif } from '../../image/metadata.ts';
import { ascii, joinBytes, makePng, withSegment } from './make-files.ts';

const image = (metadata?: ImageMetadata): Image => ({
  width: 6,
  height: 4,
  data: Uint8Array.from({ length: 72 }, (_, i) => 3 * i),
  ...(metadata ? { metadata } : {}),
});

/** A profile of `length` bytes with its header, one tag and a pattern. */
function profile(length: number, space = 'RGB '): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 255);
  bytes.fill(0, 0, 128);
  new DataView(bytes.buffer).setUint32(0, length);
  for (const [at, text] of [
    [12, 'mntr'],
    [16, space],
    [20, 'XYZ '],
    [36, 'acsp'],
  ] as const)
    bytes.set(ascii(text), at);
  bytes[8] = 4; // version
  bytes.set([0, 0, 0, 1, ...ascii('cprt'), 0, 0, 0, 144, 0, 0, 0, 18, ...ascii('text'), 0, 0, 0, 0, ...ascii('free of it')], 128);
  return bytes;
}

const THUMBNAIL = [0xff, 0xd8, 1, 2, 3, 0xff, 0xd9];

/** A camera's EXIF block: maker, orientation 6, sizes in the list of EXIF tags, and a thumbnail in the second list, with `rest` after it. */
function cameraExif(little: boolean, rest: number[] = []): Uint8Array {
  const bytes = new Uint8Array(140 + THUMBNAIL.length + rest.length);
  const view = new DataView(bytes.buffer);
  const tag = (at: number, id: number, type: number, count: number, value: number) => {
    view.setUint16(at, id, little);
    view.setUint16(at + 2, type, little);
    view.setUint32(at + 4, count, little);
    if (type === 3) view.setUint16(at + 8, value, little);
    else view.setUint32(at + 8, value, little);
  };
  bytes.set(ascii(little ? 'II' : 'MM'));
  view.setUint16(2, 42, little);
  view.setUint32(4, 8, little);
  view.setUint16(8, 3, little);
  tag(10, 0x010f, 2, 6, 50);
  tag(22, 0x0112, 3, 1, 6);
  tag(34, 0x8769, 4, 1, 56);
  view.setUint32(46, 110, little);
  bytes.set(ascii('Leica\0'), 50);
  view.setUint16(56, 2, little);
  tag(58, 0xa002, 3, 1, 6);
  tag(70, 0xa003, 3, 1, 4);
  view.setUint16(110, 2, little);
  tag(112, 0x0201, 4, 1, 140);
  tag(124, 0x0202, 4, 1, THUMBNAIL.length);
  bytes.set([...THUMBNAIL, ...rest], 140);
  return bytes;
}

/** The same without its second list, upright. */
function upright(): Uint8Array {
  const exif = cameraExif(true).slice(0, 110);
  [exif[30], exif[46]] = [1, 0];
  return exif;
}

test('profiles and EXIF pass through PNG and JPEG', async () => {
  for (const length of [200, 65_535, 150_000]) {
    const written = image({ icc: profile(length), exif: sizedExif(upright(), 6, 4) });
    for (const file of [encodePng(written), encodeJpeg(written, 90)]) {
      assert.equal((await decode(file, 'x')).metadata, written.metadata, `${length} bytes`);
    }
    assert.equal((await decode(encodePng(written), 'x')).data, image().data);
  }
  assert.not('metadata' in (await decode(encodePng(image()), 'x')));
  assert.not('metadata' in (await decode(encodeJpeg(image(), 90), 'x')));
});

for (const little of [true, false]) {
  test(`a camera's EXIF says upright, has the new size and no thumbnail; ${little ? 'little' : 'big'} endian`, async () => {
    const camera = withSegment(encodeJpeg(image(), 90), 0xe1, [...ascii('Exif\0\0'), ...cameraExif(little)]);
    assert.equal(await exifr.thumbnail(camera).then((found) => [...(found ?? [])]), THUMBNAIL);
    const photo = await decode(camera, 'x');
    assert.equal([photo.width, photo.height], [4, 6]);
    const enlarged: Image = { width: 8, height: 12, data: new Uint8Array(8 * 12 * 3), metadata: { ...photo.metadata, icc: profile(300) } };
    const png = encodePng(enlarged);
    for (const file of [encodeJpeg(enlarged, 90), png]) {
      const found = await exifr.parse(file, { tiff: true, exif: true, icc: true, mergeOutput: false, translateValues: false });
      assert.is(found.ifd0.Make, 'Leica');
      assert.is(found.ifd0.Orientation, 1);
      assert.equal([found.exif.ExifImageWidth, found.exif.ExifImageHeight], [8, 12]);
      // exifr inflates a PNG's profile with Node's zlib, which browsers do not have.
      if (file !== png || typeof document === 'undefined')
        assert.equal([found.icc.ColorSpaceData, found.icc.ProfileCopyright], ['RGB', 'free of it']);
      assert.is((await decode(file, 'x')).width, 8, 'not turned twice');
    }
    assert.is(await exifr.thumbnail(encodeJpeg(enlarged, 90)), undefined);
    assert.is(photo.metadata!.exif!.length, 140);
  });
}

test('the bytes of the file are left alone, also where slice gives a view, as in Node', async () => {
  class View extends Uint8Array<ArrayBuffer> {
    override slice(begin?: number, end?: number): Uint8Array<ArrayBuffer> {
      return this.subarray(begin, end);
    }
  }
  const adobe = withSegment(encodeJpeg(image(), 90), 0xee, [...ascii('Adobe'), 0, 100, 0, 0, 0, 0, 1]);
  const file = withSegment(adobe, 0xe1, [...ascii('Exif\0\0'), ...cameraExif(true)]);
  const view = new View(file.slice().buffer);
  const { width, height } = await decode(view, 'x');
  assert.equal([width, height], [4, 6]);
  assert.equal(Uint8Array.from(view), file);
});

test('a thumbnail amid other data is blanked, and nothing moves', async () => {
  const file = withSegment(encodeJpeg(image(), 90), 0xe1, [...ascii('Exif\0\0'), ...cameraExif(true, [9, 8, 7])]);
  const { exif } = (await decode(file, 'x')).metadata!;
  assert.equal([...exif!.subarray(140)], [...THUMBNAIL.map(() => 0), 9, 8, 7]);
});

test('profiles of other spaces, in pieces that are missing, or damaged are left out', async () => {
  const piece = (index: number, count: number, data: Uint8Array) => [...ascii('ICC_PROFILE\0'), index, count, ...data];
  const jpeg = encodeJpeg(image(), 90);
  const whole = profile(300);
  const [head, tail] = [whole.subarray(0, 200), whole.subarray(200)];
  const has = async (file: Uint8Array) => (await decode(file, 'x')).metadata?.icc;
  assert.equal(await has(withSegment(withSegment(jpeg, 0xe2, piece(1, 2, head)), 0xe2, piece(2, 2, tail))), whole, 'in any order');
  assert.is(await has(withSegment(jpeg, 0xe2, piece(1, 2, head))), undefined);
  assert.is(await has(withSegment(jpeg, 0xe2, piece(1, 1, profile(300, 'CMYK')))), undefined);
  assert.is(await has(withSegment(jpeg, 0xe2, piece(1, 1, profile(300, 'GRAY')))), undefined);
  const png = (data: ArrayLike<number>) =>
    makePng({ width: 1, height: 1, depth: 8, color: 0, rows: [0, 7], chunks: [{ type: 'iCCP', data: Uint8Array.from(data) }] });
  for (const data of [[], [65], [65, 0], [65, 0, 0, 1, 2, 3], [65, 0, 1, 0x78, 1]]) assert.is(await has(png(data)), undefined);
});

test('EXIF too long for JPEG is left out of it', async () => {
  const exif = joinBytes(upright(), new Uint8Array(70_000));
  assert.is((await decode(encodeJpeg(image({ exif }), 90), 'x')).metadata, undefined);
  assert.is((await decode(encodePng(image({ exif }), {}), 'x')).metadata!.exif!.length, exif.length);
});

test.run();
