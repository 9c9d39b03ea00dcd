/** Pictures of the page have the colours of the files that they come from. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { bitmapOf } from '../../web/pictures.ts';
import { ascii, makePng } from '../image/make-files.ts';
import { skip } from '../support/skip.ts';

/** A pixel's red, green, blue and alpha as a canvas of sRGB has them. */
function pixelOf(bitmap: ImageBitmap): number[] {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d')!;
  context.drawImage(bitmap, 0, 0);
  return [...context.getImageData(0, 0, 1, 1).data];
}

test('a wide gamut and a curve of another kind look as in the file', async () => {
  if (typeof OffscreenCanvas === 'undefined') return skip('this host has no canvas');
  const rows = [0, 180, 90, 70];
  for (const chunk of [
    { type: 'cICP', data: Uint8Array.of(12, 13, 0, 1) }, // Display P3
    { type: 'gAMA', data: Uint8Array.of(0, 1, 0x86, 0xa0) }, // linear light
    { type: 'tEXt', data: ascii('a\0b') },
  ]) {
    const file = makePng({ width: 1, height: 1, depth: 8, color: 2, rows, chunks: [chunk] });
    const image = await decode(file, 'x.png');
    const { icc } = image.metadata ?? {};
    const shown = pixelOf(await bitmapOf(image));
    const byProfile = pixelOf(
      await createImageBitmap(new Blob([encodePng({ ...image, metadata: { icc } } as Image)], { type: 'image/png' })),
    );
    const byFile = pixelOf(await createImageBitmap(new Blob([file], { type: 'image/png' })));
    for (let c = 0; c < 4; c++) {
      assert.ok(Math.abs(shown[c] - byFile[c]) <= 1, `${chunk.type}: ${shown}, the file ${byFile}`);
      assert.ok(Math.abs(shown[c] - byProfile[c]) <= 2, `${chunk.type}: ${shown}, its profile ${byProfile}`);
    }
    assert.is(Math.max(...shown.slice(0, 3).map((value, c) => Math.abs(value - rows[c + 1]))) > 5, chunk.type !== 'tEXt');
  }
});

test.run();
