/** Large pictures are asked about by their headers, before pixels are decoded; small ones are read at once. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkPicture, readPicture } from '../../cli/picture-files.ts';
import { UserError } from '../../core/errors.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { encodeWebp } from '../../image/webp.ts';

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

test.run();
