/** Large pictures are asked about by their headers, before pixels are decoded; small ones are read at once. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canBeDeep, checkPicture, readPicture, writePicture } from '../../cli/picture-files.ts';
import { UserError } from '../../core/errors.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import { powerCurve, rgbProfile, SRGB_COLOURS } from '../../image/icc.ts';
import type { Image } from '../../image/image.ts';
import { encodeWebp } from '../../image/webp.ts';
import { exifBlock } from '../image/make-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'picture-files-'));
test.after(() => rmSync(folder, { recursive: true }));

const grey = (width: number, height: number): Image => ({ width, height, data: new Uint8Array(3 * width * height).fill(128) });

function write(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    (error) => error,
  );

test('of a large picture the header is enough to check it, and to refuse it', async () => {
  const large = grey(2300, 2000);
  // Of the PNG no pixel could be decoded.
  for (const path of [
    write('large.png', encodePng(large).subarray(0, 60)),
    write('large.jpg', encodeJpeg(large, 50)),
    write('large.webp', await encodeWebp(large, 50)),
  ]) {
    await checkPicture(path);
    const error = await failure(
      readPicture(path, ({ width, height }) => {
        throw new UserError(`${width} x ${height} do not fit`);
      }),
    );
    assert.is(error?.message, '2300 x 2000 do not fit');
  }
  assert.is((await readPicture(join(folder, 'large.jpg'), () => undefined)).width, 2300);
});

test('small pictures are read whole, and damage is told', async () => {
  const cut = write('cut.png', encodePng(grey(30, 20)).subarray(0, 60));
  const asked = () => assert.unreachable('a small picture is asked about');
  for (const error of [await failure(checkPicture(cut)), await failure(readPicture(cut, asked))]) {
    assert.instance(error, UserError);
    assert.is(error.file, cut);
  }
});

test('TIFF and AVIF are written by the ending, of 16 and 12 bits where the picture has them', async () => {
  const deep = { width: 9, height: 6, data: Uint16Array.from({ length: 162 }, (_, i) => 20_000 + 150 * i) };
  for (const [name, most] of [
    ['a.tif', 0],
    ['a.avif', 300],
  ] as const) {
    const path = join(folder, name);
    await writePicture(path, deep, 100);
    const read = await readPicture(path);
    const differences = [...read.deep!].map((value, i) => Math.abs(value - deep.data[i]));
    assert.ok(Math.max(...differences) <= most, `${name}: ${Math.max(...differences)}`);
  }
  const icc = rgbProfile(SRGB_COLOURS, powerCurve(2.2))!;
  const exif = exifBlock(1, true);
  const image = { ...grey(8, 8), alpha: new Uint8Array(64).fill(77), metadata: { icc, exif } };
  await writePicture(join(folder, 'b.avif'), image, 90);
  const read = await readPicture(join(folder, 'b.avif'));
  assert.equal(read.metadata?.icc, Uint8Array.from(icc));
  assert.ok(read.metadata?.exif);
  assert.ok(Math.abs(read.data[0] - 128) <= 2 && Math.abs(read.alpha![0] - 77) <= 2);
  assert.equal([canBeDeep('x.TIF'), canBeDeep('x.avif'), canBeDeep('x.jpg'), canBeDeep('x')], [true, true, false, false]);
});

test.run();
