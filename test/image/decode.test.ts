/** Image files in: every kind of PNG, JPEG colours and orientations, refusals. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { decode } from '../../image/decode.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import { type Image, SIZE_LIMITS } from '../../image/image.ts';
import { orient } from '../../image/orientation.ts';
import { encodeWebp } from '../../image/webp.ts';
import { fixture } from '../support/fixtures.ts';
import { ascii, exifBlock, joinBytes, makeCmykJpeg, makePng, type RawPng, withSegment } from './make-files.ts';

const decodePng = (png: RawPng): Promise<Image> => decode(makePng(png), 'test.png');
const grey = (...values: number[]): number[] => values.flatMap((value) => [value, value, value]);

/** A smooth colour image, so that JPEG keeps it nearly. */
function gradient(width: number, height: number): Image {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++)
      data.set([(255 * x) / width, (255 * y) / height, (128 * (x + y)) / (width + height)], (y * width + x) * 3);
  }
  return { width, height, data };
}

function largestDifference(a: Image, b: Image): number {
  assert.equal([a.width, a.height], [b.width, b.height]);
  return a.data.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b.data[i])), 0);
}

async function refuses(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => assert.unreachable('it was accepted'),
    (reason: unknown) => reason,
  );
  assert.instance(error, UserError);
  assert.match((error as UserError).message, message);
}

test('8-bit RGB', async () => {
  const image = await decodePng({ width: 2, height: 2, depth: 8, color: 2, rows: [0, 1, 2, 3, 4, 5, 6, 0, 7, 8, 9, 10, 11, 12] });
  assert.equal(image, { width: 2, height: 2, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12) });
});

test('row filters: left, up, mean and Paeth', async () => {
  const rows = [1, 10, 10, 10, 5, 5, 5, 2, 1, 1, 1, 1, 1, 1, 3, 10, 10, 10, 10, 10, 10, 4, 3, 3, 3, 3, 3, 3];
  const { data } = await decodePng({ width: 2, height: 4, depth: 8, color: 2, rows });
  assert.equal([...data], [...grey(10, 15), ...grey(11, 16), ...grey(15, 25), ...grey(18, 28)]);
});

test('16 bits are rounded to v / 257', async () => {
  const rows = [0, 0, 0, 0, 128, 0, 129, 0x12, 0x34]; // 0, 128 (0.498), 129 (0.502), 4660 (18.13)
  assert.equal([...(await decodePng({ width: 4, height: 1, depth: 16, color: 0, rows })).data], grey(0, 0, 1, 18));
});

test('16-bit RGB with alpha', async () => {
  const rows = [0, 0x80, 0x80, 0x40, 0x40, 0xff, 0xff, 0x7f, 0x7f];
  const image = await decodePng({ width: 1, height: 1, depth: 16, color: 6, rows });
  assert.equal([...image.data], [0x80, 0x40, 0xff]);
  assert.equal(image.alpha, Uint8Array.of(0x7f));
});

test('1, 2 and 4-bit grey reach the whole range', async () => {
  assert.equal([...(await decodePng({ width: 3, height: 1, depth: 1, color: 0, rows: [0, 0b10100000] })).data], grey(255, 0, 255));
  assert.equal([...(await decodePng({ width: 4, height: 1, depth: 2, color: 0, rows: [0, 0b00011011] })).data], grey(0, 85, 170, 255));
  assert.equal([...(await decodePng({ width: 3, height: 1, depth: 4, color: 0, rows: [0, 0x07, 0xf0] })).data], grey(0, 119, 255));
});

test('grey with alpha', async () => {
  const image = await decodePng({ width: 2, height: 1, depth: 8, color: 4, rows: [0, 9, 255, 7, 3] });
  assert.equal([...image.data], grey(9, 7));
  assert.equal(image.alpha, Uint8Array.of(255, 3));
});

test('an opaque alpha channel is dropped', async () => {
  const image = await decodePng({ width: 1, height: 1, depth: 8, color: 6, rows: [0, 1, 2, 3, 255] });
  assert.equal(image, { width: 1, height: 1, data: Uint8Array.of(1, 2, 3) });
});

test('palette, with and without transparency', async () => {
  const palette = { type: 'PLTE', data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9) };
  const png: RawPng = { width: 3, height: 1, depth: 2, color: 3, rows: [0, 0b10010000], chunks: [palette] };
  assert.equal(await decodePng(png), { width: 3, height: 1, data: Uint8Array.of(7, 8, 9, 4, 5, 6, 1, 2, 3) });
  const seen = await decodePng({ ...png, chunks: [palette, { type: 'tRNS', data: Uint8Array.of(40, 255) }] });
  assert.equal(seen.alpha, Uint8Array.of(255, 255, 40));
  const beyond = await decodePng({ ...png, rows: [0, 0b11010000] });
  assert.equal([...beyond.data], [0, 0, 0, 4, 5, 6, 1, 2, 3]);
  assert.match(beyond.note!, /not in its palette; they are black/);
  await refuses(decodePng({ ...png, chunks: [] }), /test\.png: the PNG file is damaged \(no palette\)/);
});

test('a transparent colour', async () => {
  const chunks = [{ type: 'tRNS', data: Uint8Array.of(0, 4, 0, 5, 0, 6) }];
  const image = await decodePng({ width: 2, height: 1, depth: 8, color: 2, rows: [0, 1, 2, 3, 4, 5, 6], chunks });
  assert.equal(image.alpha, Uint8Array.of(255, 0));
});

test('interlaced', async () => {
  // 2x2: pass 1 has the pixel (0,0), pass 6 (1,0), pass 7 the second row
  const png: RawPng = { width: 2, height: 2, depth: 8, color: 0, interlaced: true, rows: [0, 1, 0, 2, 0, 3, 4] };
  assert.equal([...(await decodePng(png)).data], grey(1, 2, 3, 4));
  const more = await decodePng({ ...png, rows: [...(png.rows as number[]), 0, 0] });
  assert.equal([...more.data], grey(1, 2, 3, 4));
  assert.match(more.note!, /data beyond its pixels/);
  await refuses(decodePng({ ...png, rows: [0, 1, 0, 2] }), /fewer pixels than its header says/);
});

test('bytes after the end of a PNG are ignored', async () => {
  const file = makePng({ width: 1, height: 1, depth: 8, color: 0, rows: [0, 77] });
  assert.equal([...(await decode(joinBytes(file, [1, 2, 3]), 'x')).data], grey(77));
});

test('a view into a larger buffer', async () => {
  const file = makePng({ width: 1, height: 1, depth: 8, color: 0, rows: [0, 77] });
  const inside = joinBytes([9, 9, 9], file, [9]).subarray(3, 3 + file.length);
  assert.equal([...(await decode(inside, 'x')).data], grey(77));
});

test('JPEG: colour', async () => {
  const image = gradient(40, 24);
  assert.ok(largestDifference(await decode(encodeJpeg(image, 100), 'x.jpg'), image) <= 4);
});

test('JPEG: grey', async () => {
  const quantisation = [0xff, 0xdb, 0, 67, 0, ...new Array(64).fill(16)];
  const frame = [0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0];
  const codes = (table: number, symbol: number) => [0xff, 0xc4, 0, 20, table, 1, ...new Array(15).fill(0), symbol]; // one code, the bit 0
  const scan = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0b0_111_0_111]; // mean: 3 bits, 7 * 16 / 8 above 128; end of block; padding
  const file = joinBytes([0xff, 0xd8], quantisation, frame, codes(0x00, 3), codes(0x10, 0), scan, [0xff, 0xd9]);
  assert.equal(await decode(file, 'x'), { width: 8, height: 8, data: new Uint8Array(192).fill(142) });
});

test('JPEG: halved colour planes are enlarged as libjpeg does', async () => {
  const decoded = await decode(await fixture('image/chroma-420.jpg'), 'chroma-420.jpg');
  const reference = await decode(await fixture('image/chroma-420.png'), 'chroma-420.png'); // Chromium's decoder, libjpeg-turbo
  assert.is(largestDifference(decoded, reference), 0);
});

test('JPEG: Adobe marker 0 and components R, G, B mean RGB', async () => {
  const file = encodeJpeg(gradient(16, 16), 95);
  const afterJfif = joinBytes(file.subarray(0, 2), file.subarray(2 + 2 + 16)); // without its JFIF segment
  assert.equal([file[2], file[3], file[5]], [0xff, 0xe0, 16]);
  const stored = await decode(withSegment(afterJfif, 0xee, [...ascii('Adobe'), 0, 100, 0, 0, 0, 0, 0]), 'x');
  const transformed = await decode(withSegment(afterJfif, 0xee, [...ascii('Adobe'), 0, 100, 0, 0, 0, 0, 1]), 'x');
  assert.equal(transformed, await decode(file, 'x'));
  assert.equal(await decode(afterJfif, 'x'), transformed);
  const [y, cb, cr] = stored.data;
  assert.ok(Math.abs(transformed.data[0] - (y + 1.402 * (cr - 128))) <= 1 || transformed.data[0] === 0);
  assert.ok(Math.abs(transformed.data[2] - (y + 1.772 * (cb - 128))) <= 1 || transformed.data[2] === 0);
});

for (const orientation of [1, 2, 3, 4, 5, 6, 7, 8]) {
  test(`EXIF orientation ${orientation}`, async () => {
    const file = encodeJpeg(gradient(24, 16), 95);
    const upright = await decode(file, 'x');
    for (const bigEndian of [true, false]) {
      const block = exifBlock(orientation, bigEndian);
      const turned = await decode(withSegment(file, 0xe1, [...ascii('Exif\0\0'), ...block]), 'x');
      const { metadata, ...pixels } = turned;
      assert.equal(pixels, orient(upright, orientation));
      assert.equal(metadata, { exif: exifBlock(1, bigEndian) });
      const swapped = orientation > 4;
      assert.equal([turned.width, turned.height], swapped ? [16, 24] : [24, 16]);
    }
    const rows = [0, 1, 2, 0, 3, 4, 0, 5, 6];
    const chunks = [{ type: 'eXIf', data: exifBlock(orientation, true) }];
    const { data } = await decodePng({ width: 2, height: 3, depth: 8, color: 0, rows, chunks });
    // the stored image is 12 / 34 / 56; how it stands upright, from the standard's words on row 0 and column 0
    const upright3x2 = { 1: '123456', 2: '214365', 3: '654321', 4: '563412', 5: '135246', 6: '531642', 7: '642531', 8: '246135' };
    assert.equal([...data], grey(...Array.from(upright3x2[orientation as 1], Number)));
  });
}

test('orientation turns alpha too', () => {
  const image: Image = { width: 2, height: 1, data: Uint8Array.of(1, 2, 3, 4, 5, 6), alpha: Uint8Array.of(7, 8) };
  assert.equal(orient(image, 6), { width: 1, height: 2, data: Uint8Array.of(1, 2, 3, 4, 5, 6), alpha: Uint8Array.of(7, 8) });
  assert.equal(orient(image, 8), { width: 1, height: 2, data: Uint8Array.of(4, 5, 6, 1, 2, 3), alpha: Uint8Array.of(8, 7) });
});

test('damaged EXIF and orientations out of range leave the image as stored', async () => {
  const file = encodeJpeg(gradient(16, 8), 90);
  const plain = await decode(file, 'x');
  for (const block of [[], [1, 2, 3], exifBlock(9, true), exifBlock(0, false), exifBlock(6, true).subarray(0, 15)]) {
    const { metadata: _, ...pixels } = await decode(withSegment(file, 0xe1, [...ascii('Exif\0\0'), ...block]), 'x');
    assert.equal(pixels, plain);
  }
});

test('other formats are refused by name', async () => {
  for (const [start, format] of [
    ['GIF89a', 'GIF'],
    ['BM\0\0\0\0', 'BMP'],
    ['\xff\x0a', 'JPEG XL'],
    ['8BPS', 'Photoshop'],
    ['MM\0+\0\x08', 'BigTIFF'],
  ]) {
    await refuses(
      decode(ascii(start), 'photo.png'),
      new RegExp(`photo.png: ${format} files are not read; convert it to PNG, JPEG or WebP`),
    );
  }
  await refuses(decode(ascii('hello'), 'a.jpg'), /a\.jpg: this is not an image file/);
  await refuses(decode(new Uint8Array(), 'a.jpg'), /a\.jpg: the file is empty/);
});

test('CMYK JPEGs become RGB, with a note', async () => {
  // Adobe stores paper minus ink: 255 is none.
  const inks = [
    [255, 255, 255, 255],
    [0, 255, 255, 255],
    [255, 255, 255, 0],
    [200, 100, 50, 255],
    [200, 100, 50, 128],
  ];
  const expected = inks.map(([c, m, y, k]) => [c, m, y].map((paper) => (paper * k) / 255));
  // YCCK: ink as if it were RGB, in YCbCr. (JFIF 1.02, page 3; libjpeg's jdcolor.c says so of Adobe's files)
  const ycck = inks.map(([c, m, y, k]) => {
    const [r, g, b] = [255 - c, 255 - m, 255 - y];
    return [0.299 * r + 0.587 * g + 0.114 * b, 128 - 0.168736 * r - 0.331264 * g + 0.5 * b, 128 + 0.5 * r - 0.418688 * g - 0.081312 * b, k];
  });
  const files: [blocks: number[][], adobe: number | null, off: number][] = [
    [inks, 0, 1.01],
    [inks, null, 1.01],
    [ycck.map((colour) => colour.map((level) => Math.min(255, Math.round(level)))), 2, 2.5],
  ];
  for (const [blocks, adobe, off] of files) {
    const image = await decode(makeCmykJpeg(blocks, adobe), 'x.jpg');
    assert.equal([image.width, image.height], [8 * inks.length, 8]);
    assert.match(image.note!, /CMYK/);
    image.data.forEach((value, i) => {
      const wanted = expected[Math.floor(i / 24) % inks.length][i % 3];
      assert.ok(Math.abs(value - wanted) <= off, `transform ${adobe}, ${i}: ${value}, not ${wanted}`);
    });
  }
  assert.is((await decode(encodeJpeg(gradient(8, 8), 90), 'x.jpg')).note, undefined);
});

test('JPEG kinds that are not supported are named', async () => {
  const frame = (marker: number, precision: number, components: number) =>
    joinBytes(
      [0xff, 0xd8, 0xff, marker, 0, 8 + 3 * components, precision, 0, 8, 0, 8, components],
      new Uint8Array(3 * components).fill(0x11),
      [0xff, 0xd9],
    );
  await refuses(decode(frame(0xc0, 8, 5), 'x'), /5 components/);
  await refuses(decode(frame(0xc1, 12, 3), 'x'), /12 bits/);
  await refuses(decode(frame(0xc3, 8, 3), 'x'), /lossless/);
  await refuses(decode(frame(0xc9, 8, 3), 'x'), /arithmetic/);
});

test('sizes are refused before any pixel is decoded', async () => {
  const start = performance.now();
  const png = (width: number, height: number) => decodePng({ width, height, depth: 8, color: 2, rows: [0] });
  await refuses(png(50000, 50000), /test\.png: 50000x50000 pixels is too large, a side may have at most 16384/);
  await refuses(png(0, 5), /no pixels \(0x5/);
  await refuses(png(16000, 16000), /256\.0 megapixels\), at most 100\.0/);
  const jpeg = (width: number, height: number) => {
    const file = encodeJpeg(gradient(8, 8), 90).slice();
    const at = file.findIndex((byte, i) => byte === 0xff && file[i + 1] === 0xc0);
    file.set([height >> 8, height & 255, width >> 8, width & 255], at + 5);
    return decode(file, 'test.jpg');
  };
  await refuses(jpeg(50000, 50000), /test\.jpg: 50000x50000 pixels is too large/);
  await refuses(jpeg(8, 0), /no pixels/);
  await refuses(jpeg(10000, 10000), /damaged or cut off \(\d+ bytes for 10000x10000 pixels\)/);
  assert.ok(performance.now() - start < 2000);
  const small = encodePng(gradient(20, 10));
  await refuses(decode(small, 'x', { maxSide: 19, maxPixels: 1e6 }), /at most 19/);
  await refuses(decode(small, 'x', { maxSide: 20, maxPixels: 199 }), /megapixels/);
  assert.is((await decode(small, 'x', { maxSide: 20, maxPixels: 200 })).width, 20);
});

test('a size that is of no use is refused before pixels are decoded', async () => {
  const asked: string[] = [];
  const limits = {
    ...SIZE_LIMITS,
    allows: ({ width, height }: { width: number; height: number }) => {
      asked.push(`${width}x${height}`);
      throw new UserError('too large for this adapter');
    },
  };
  // Of these no pixel could be decoded.
  const [png, jpeg, webp] = [encodePng(gradient(9, 7)), encodeJpeg(gradient(9, 7), 80), await encodeWebp(gradient(9, 7), 80)];
  for (const bytes of [png.subarray(0, 60), jpeg, webp]) await refuses(decode(bytes, 'x', limits), /too large for this adapter/);
  assert.equal(new Set(asked), new Set(['9x7']));
});

test('every cut-off file is refused', async () => {
  const png = encodePng(gradient(9, 7));
  for (let length = 8; length < png.length; length++)
    await refuses(decode(png.subarray(0, length), 'cut.png'), /cut\.png: .*(cut off|no header)/);
  const jpeg = encodeJpeg(gradient(9, 7), 80);
  for (let length = 3; length < jpeg.length - 2; length++)
    await refuses(decode(jpeg.subarray(0, length), 'cut.jpg'), /cut\.jpg: .*(cut off|damaged)/);
});

test('a PNG whose pixels are too few, or whose zlib stream is broken', async () => {
  const png: RawPng = { width: 3, height: 3, depth: 8, color: 0, rows: [0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9] };
  await refuses(decodePng({ ...png, rows: (png.rows as number[]).slice(0, 8) }), /fewer pixels than its header says/);
  await refuses(decodePng({ ...png, rows: [9, ...(png.rows as number[]).slice(1)] }), /damaged .*filter/);
  await refuses(decodePng({ ...png, depth: 3 }), /header is damaged \(depth 3/);
  const flipped = makePng(png);
  flipped[flipped.length - 20] ^= 1;
  await refuses(decode(flipped, 'x'), /damaged in chunk "IDAT"/);
});

test.run();
