/** Seams: told where there is one, not where there is none, and not confused by a JPEG's blocks. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { decode } from '../../image/decode.ts';
import { encodeJpeg } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { measureSeams, windowBorders } from '../../image/seams.ts';
import { tileWindows } from '../../sampler/tiles.ts';

const [width, height] = [160, 128];

/** A gradient with noise, and `step` levels more on the right of column 64 and below row 48. */
function picture(step: number): Image {
  const noise = new TorchRandom(3).randn(width * height * 3);
  const data = Uint8Array.from(noise, (value, i) => {
    const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
    return 60 + x / 2 + y / 4 + 3 * value + (x >= 64 ? step : 0) + (y >= 48 ? step : 0);
  });
  return { width, height, data };
}

test('a step of three levels in noise of three is told, and where', () => {
  const none = measureSeams(picture(0), [64], [48]);
  assert.ok(none.border < none.elsewhere99 && Math.abs(none.border - none.elsewhere) < 0.1, `${none.border}, ${none.elsewhere}`);
  const seam = measureSeams(picture(3), [64], [48]);
  assert.ok(seam.borders.every(({ ratio }) => ratio > 1.3 && ratio > seam.elsewhere99));
  assert.equal(
    seam.borders.map(({ across, at }) => [across, at]),
    [
      ['columns', 64],
      ['rows', 48],
    ],
  );
  const beside = measureSeams(picture(3), [63, 65], [47, 49]);
  assert.ok(beside.border < 1.1, 'not beside it');
});

test('a JPEG’s blocks are no seams, though tiles begin on them', async () => {
  const blocky = await decode(encodeJpeg(picture(0), 20), 'x.jpg');
  const { border, elsewhere } = measureSeams(blocky, [64, 96], [64]);
  assert.ok(border > 1.3, `blocks are seen: ${border}`);
  assert.ok(border < 1.25 * elsewhere, `and are everywhere: ${border}, ${elsewhere}`);
});

test('what the scene has without tiles too is no seam', () => {
  const [scene, tiled] = [picture(12), picture(15)];
  assert.ok(measureSeams(scene, [64], [48]).border > 3);
  const { border, elsewhere99 } = measureSeams(scene, [64], [48], 8, scene);
  assert.equal([border, elsewhere99], [1, 1]);
  assert.ok(measureSeams(tiled, [64], [48], 8, scene).border > 1.2);
});

test('borders of windows, without the picture’s own', () => {
  const { columns, rows } = windowBorders(tileWindows(32, 40, 16, 12), { width, height }, 4);
  assert.equal(
    [columns, rows],
    [
      [48, 64, 96, 112],
      [48, 64, 112],
    ],
  );
});

test.run();
