/**
 * TIFF against libtiff. The files in fixtures/image/tiff are its own (`vips tiffsave`) of w8.png and w16.png, which are waves of colour; kinds that it does not
 * write are made here from tags.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { powerCurve, rgbProfile, SRGB_COLOURS } from '../../image/icc.ts';
import { encodeTiff } from '../../image/tiff.ts';
import { ASCII, LONG, numberTag, SHORT, type TiffTag, tiffBytes } from '../../image/tiff-tags.ts';
import { fixture } from '../support/fixtures.ts';
import { refused } from '../support/refused.ts';
import { ascii, exifBlock } from './make-files.ts';

const read = async (name: string) => decode(await fixture(`image/tiff/${name}`), name);

type Numbers = Record<number, readonly number[]>;

/** A file of these tags with its pixels in one strip at byte 8. */
function made(numbers: Numbers, pixels: ArrayLike<number>, { little = true, more = [] as [number, TiffTag][] } = {}): Uint8Array {
  const all: Numbers = { 273: [8], 279: [pixels.length], ...numbers };
  const tags = Object.entries(all).map(
    ([tag, values]) => [Number(tag), numberTag([273, 279].includes(Number(tag)) ? LONG : SHORT, values, little)] as const,
  );
  return tiffBytes({ tags: new Map([...tags, ...more]), lists: new Map() }, little, [Uint8Array.from(pixels)]);
}

test("libtiff's files have libtiff's pixels: LZW, PackBits, Deflate in tiles, predictors, 8 and 16 bits", async () => {
  const [w8, w16] = [await read('w8.png'), await read('w16.png')];
  assert.is(w8.deep, undefined);
  for (const name of ['lzw.tif', 'packbits.tif']) {
    const image = await read(name);
    assert.equal([image.width, image.height, image.deep], [46, 35, undefined]);
    assert.equal(image.data, w8.data, name);
  }
  for (const name of ['deep-tiles.tif', 'deep-lzw.tif']) {
    const image = await read(name);
    assert.equal(image.deep, w16.deep, name);
    assert.equal(image.data, w16.data, name);
  }
  assert.ok(w16.deep!.some((value) => value % 257 !== 0));
});

test('kinds that libtiff seldom writes: planes, palettes, white as zero, fewer bits, alpha, highest byte first', async () => {
  const size = { 256: [2], 257: [2] };
  const planar = await decode(
    made(
      { ...size, 258: [8, 8, 8], 262: [2], 277: [3], 284: [2], 278: [2], 273: [8, 12, 16], 279: [4, 4, 4] },
      [1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24],
    ),
    'x',
  );
  assert.equal([...planar.data], [1, 11, 21, 2, 12, 22, 3, 13, 23, 4, 14, 24]);
  const colours = [0, 65535, 0, 0, 0, 0, 65535, 0, 0, 0, 257, 514];
  const palette = await decode(made({ ...size, 258: [2], 262: [3], 277: [1], 320: colours }, [0b00011011 & 0xf0, 0b10110000]), 'x');
  assert.equal([...palette.data], [0, 0, 0, 255, 0, 0, 0, 255, 1, 0, 0, 2]);
  const inverted = await decode(made({ ...size, 258: [1], 262: [0], 277: [1] }, [0b10000000, 0b01000000]), 'x');
  assert.equal([...inverted.data], [0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0]);
  const deep = await decode(
    made({ 256: [1], 257: [1], 258: [16, 16, 16, 16], 262: [2], 277: [4], 338: [2] }, [1, 0, 2, 0, 3, 0, 128, 128], { little: false }),
    'x',
  );
  assert.equal([[...deep.deep!], [...deep.data], [...deep.alpha!]], [[256, 512, 768], [1, 2, 3], [128]]);
  const associated = await decode(made({ 256: [1], 257: [1], 258: [8, 8, 8, 8], 262: [2], 277: [4], 338: [1] }, [32, 64, 128, 128]), 'x');
  assert.equal([[...associated.data], [...associated.alpha!]], [[64, 128, 255], [128]]);
});

test('what is written is read again, with alpha, profile and EXIF, and turned as it says', async () => {
  const { width, height, data, deep } = await read('w16.png');
  const alpha = Uint8Array.from({ length: width * height }, (_, i) => i % 256);
  const exif = exifBlock(1, true);
  const icc = rgbProfile(SRGB_COLOURS, powerCurve(2.2))!;
  const metadata = { exif, icc };
  const whole = await decode(await encodeTiff({ width, height, data: deep!, alpha, metadata }), 'x');
  assert.equal([whole.deep, whole.alpha, whole.metadata?.icc], [deep, alpha, Uint8Array.from(icc)]);
  const bytes = await decode(await encodeTiff({ width, height, data }), 'x');
  assert.equal([bytes.data, bytes.deep, bytes.alpha], [data, undefined, undefined]);
  const upright = await decode(
    made({ 256: [2], 257: [1], 258: [8], 262: [1], 277: [1], 274: [6] }, [10, 20], {
      more: [[271, { type: ASCII, count: 4, bytes: ascii('Cam\0') }]],
    }),
    'x',
  );
  assert.equal([upright.width, upright.height, [...upright.data]], [1, 2, [10, 10, 10, 20, 20, 20]]);
  assert.ok(new TextDecoder('latin1').decode(await encodeTiff(upright)).includes('Cam\0'));
});

test('10 gigapixels are refused by the header alone, and so is what is damaged or of another kind', async () => {
  const refuses = (file: Uint8Array, says: RegExp) => refused(decode(file, 'a.tif'), says);
  const size = { 256: [2], 257: [2] };
  const huge = { 258: [8, 8, 8], 262: [2], 277: [3] };
  const begun = performance.now();
  await refuses(
    tiffBytes(
      {
        tags: new Map(
          Object.entries({ 256: [100_000], 257: [100_000], 273: [8], 279: [9], ...huge }).map(([tag, values]) => [
            Number(tag),
            numberTag(LONG, values, true),
          ]),
        ),
        lists: new Map(),
      },
      true,
    ),
    /a\.tif: 100000x100000 pixels is too large/,
  );
  assert.ok(performance.now() - begun < 1000);
  await refuses(
    made({ ...size, 258: [8], 262: [1], 277: [1], 322: [60_000], 323: [60_000], 324: [8], 325: [1] }, [1]),
    /its blocks have no possible size/,
  );
  await refuses(made({ ...size, 258: [8], 262: [1], 277: [1] }, [1, 2, 3]), /it holds fewer pixels than its header says/);
  await refuses(made({ ...size, ...huge, 259: [7] }, [1]), /TIFF files with JPEG compression \(7\) are not read; save it as TIFF/);
  await refuses(made({ ...size, 258: [8, 8, 8, 8], 262: [5], 277: [4] }, [1]), /TIFF files of CMYK are not read/);
  await refuses(made({ ...size, 258: [32], 262: [1], 277: [1], 339: [3] }, [1]), /of signed or floating-point numbers are not read/);
  await refuses(ascii('II+\0\x08\0\0\0'), /BigTIFF files are not read/);
  await refuses(ascii('II*\0\x08\0\0\0'), /the image has no pixels/);
  const file = new Uint8Array(await fixture('image/tiff/lzw.tif'));
  for (let length = 8; length < file.length; length += 97) await refuses(file.subarray(0, length), /a\.tif: .+/);
});

test.run();
