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

/** A TIFF block whose one tag is the orientation 6, of this type and count. */
function oriented(type: number, count: number, little: boolean, inside = true): Uint8Array {
  const bytes = new Uint8Array(40);
  const view = new DataView(bytes.buffer);
  bytes.set(ascii(little ? 'II' : 'MM'));
  view.setUint16(2, 42, little);
  view.setUint32(4, 8, little);
  view.setUint16(8, 1, little);
  view.setUint16(10, 0x0112, little);
  view.setUint16(12, type, little);
  view.setUint32(14, count, little);
  const at = inside ? 18 : 28;
  if (!inside) view.setUint32(18, at, little);
  if ([1, 6, 7].includes(type)) bytes[at] = 6;
  else if (type === 2) bytes[at] = 0x36;
  else if (type === 3 || type === 8) view.setUint16(at, 6, little);
  else if (type === 11) view.setFloat32(at, 6, little);
  else if (type === 12) view.setFloat64(at, 6, little);
  else view.setUint32(at, 6, little);
  if (type === 5 || type === 10) view.setUint32(at + 4, 1, little);
  return bytes;
}

const inJpeg = (...blocks: ArrayLike<number>[]) =>
  blocks.reduceRight<Uint8Array>((jpeg, block) => withSegment(jpeg, 0xe1, Uint8Array.from(block)), encodeJpeg(image(), 90));
const EXIF = [...ascii('Exif\0\0')];
const inPng = (...chunks: { type: string; data: Uint8Array }[]) =>
  makePng({ width: 6, height: 4, depth: 8, color: 0, rows: new Uint8Array(28), chunks });

/** What a file's orientation and EXIF come to: the size of the picture, and the orientation that exifr finds in the result. */
async function turned(file: Uint8Array): Promise<[width: number, orientation: unknown]> {
  const read = await decode(file, 'x');
  const found = await exifr.parse(encodePng(read), { tiff: true, mergeOutput: false, translateValues: false }).catch(() => undefined);
  return [read.width, found?.ifd0?.Orientation];
}

test('the orientation in whichever type', async () => {
  for (const little of [true, false]) {
    for (const [type, count, inside] of [
      ...[1, 2, 3, 4, 6, 7, 8, 9, 11, 13].map((each) => [each, 1, true] as const),
      ...[5, 10, 12].map((each) => [each, 1, false] as const),
      [3, 2, true],
      [1, 4, true],
      [3, 3, false],
      [4, 2, false],
      [3, 0, true],
    ] as const)
      assert.equal(await turned(inJpeg([...EXIF, ...oriented(type, count, little, inside)])), [4, 1], `type ${type}, ${count} values`);
  }
});

test('EXIF behind an identifier, an empty segment or a list that says it is longer', async () => {
  const block = oriented(3, 1, true);
  const long = block.slice();
  long[8] = 99;
  for (const file of [
    inJpeg([...EXIF, ...EXIF, ...block]),
    inJpeg(EXIF, [...EXIF, ...block]),
    inJpeg([...EXIF, ...ascii('II*\0\x08\0\0\0\0\0\0\0\0\0')], [...EXIF, ...block]),
    inJpeg([...EXIF, ...ascii('no TIFF at all')], [...EXIF, ...block]),
    inJpeg([...EXIF, ...long]),
    inPng({ type: 'eXIf', data: joinBytes(EXIF, block) }),
    inPng({ type: 'eXIf', data: block }),
  ])
    assert.is((await turned(file))[0], 4);
  assert.equal(await turned(inPng({ type: 'eXIf', data: joinBytes(EXIF, block) })), [4, 1]);
});

test("EXIF in a PNG's text", async () => {
  const hex = (block: Uint8Array) => Array.from(block, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const raw = (name: string, block: Uint8Array) =>
    `\n${name}\n${String(block.length).padStart(8)}\n${hex(block).replace(/(.{72})/g, '$1\n')}\n`;
  const deflated = async (text: string) =>
    new Uint8Array(await new Response(new Blob([text]).stream().pipeThrough(new CompressionStream('deflate'))).arrayBuffer());
  for (const [keyword, name] of [
    ['exif', 'exif'],
    ['APP1', 'generic profile'],
    ['app1', 'APP1'],
  ]) {
    const text = raw(name, joinBytes(EXIF, oriented(3, 1, false)));
    const key = ascii(`Raw profile type ${keyword}\0`);
    for (const chunk of [
      { type: 'tEXt', data: joinBytes(key, ascii(text)) },
      { type: 'zTXt', data: joinBytes(key, [0], await deflated(text)) },
      { type: 'iTXt', data: joinBytes(key, [0, 0, 0, 0], ascii(text)) },
      { type: 'iTXt', data: joinBytes(key, [1, 0, 0, 0], await deflated(text)) },
    ])
      assert.equal(await turned(inPng(chunk)), [4, 1], `${chunk.type} ${keyword}`);
  }
  const both = [{ type: 'tEXt', data: joinBytes(ascii('Raw profile type exif\0'), ascii(raw('exif', oriented(3, 1, true)))) }];
  assert.is((await turned(inPng(...both, { type: 'eXIf', data: Uint8Array.of(1, 2, 3) })))[0], 4, 'what can be read counts');
  for (const text of ['', '\nexif\n 10\n', '\nexif\n10\nxyz', '12', `\nexif\n 4\n${hex(Uint8Array.of(1, 2, 3, 4))}`])
    assert.equal(await turned(inPng({ type: 'tEXt', data: joinBytes(ascii('Raw profile type exif\0'), ascii(text)) })), [6, undefined]);
  const bomb = await deflated(`\nexif\n 9\n${'0'.repeat(2e7)}`);
  assert.equal(await turned(inPng({ type: 'zTXt', data: joinBytes(ascii('Raw profile type exif\0\0'), bomb) })), [6, undefined]);
});

test('what was not understood is left as it is', async () => {
  const nine = oriented(3, 1, true);
  nine[18] = 9;
  const odd = oriented(3, 1, true);
  odd[12] = 77; // a type that there is not
  const beyond = oriented(5, 1, true, false);
  new DataView(beyond.buffer).setUint32(18, 1e6, true);
  for (const block of [nine, odd, beyond]) {
    const read = await decode(inJpeg([...EXIF, ...block]), 'x');
    assert.is(read.width, 6);
    assert.equal(read.metadata!.exif, block);
  }
  const camera = cameraExif(true);
  camera[8] = 30; // tags that are none, and a link to nowhere
  const { metadata } = await decode(inJpeg([...EXIF, ...camera]), 'x');
  const upright = camera.slice();
  upright[30] = 1;
  assert.equal(metadata!.exif, upright);
});

test('EXIF too long for JPEG is left out of it', async () => {
  const exif = joinBytes(upright(), new Uint8Array(70_000));
  assert.is((await decode(encodeJpeg(image({ exif }), 90), 'x')).metadata, undefined);
  assert.is((await decode(encodePng(image({ exif }), {}), 'x')).metadata!.exif!.length, exif.length);
});

test.run();
