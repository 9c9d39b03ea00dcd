/** Measures of pictures against an independent program in Python (numpy's sliding windows, f64), whose values are kept here. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Image } from '../../image/image.ts';
import { msSsim } from '../../image/metrics.ts';
import { gmsd, noiseLevel, sharpness } from '../../image/sharpness.ts';

/** A slope with texture; above 0, the `worse` it is, the fainter the texture and the more a stripe lies over it. */
function picture(width: number, height: number, worse: number): Image {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++, i++) {
        const texture = Math.floor((x * x * 7 + y * y * 13 + x * y * 5 + c * 29) / 3) % 41;
        const value = (Math.floor((x * (3 + c) + y * 2) / 4) % 200) + texture;
        const stripe = worse === 0 ? 0 : (x * 31 + y * 17 + c * 7) % (3 * worse + 1);
        data[i] = Math.min(255, value - Math.floor((texture * worse) / 4) + stripe);
      }
    }
  }
  return { width, height, data };
}

/** width, height, worse; then what the other program found. */
const FOUND = [
  [37, 29, 1, 0.003103650267229477, 0.7526767358194375, 5.243563521538966, null],
  [37, 29, 3, 0.026717454759005315, 0.32770437245954714, 1.9227293329739616, null],
  [181, 195, 1, 0.00308434582461463, 0.8309896899608815, 5.660742907768274, 0.9964256185110988],
  [181, 195, 3, 0.02272935437859696, 0.5932915521007727, 2.431603623767125, 0.9635841828737813],
] as const;

const close = (value: number, expected: number, name: string) =>
  assert.ok(Math.abs(value - expected) < 1e-9 * Math.max(1, Math.abs(expected)), `${name}: ${value} instead of ${expected}`);

test('sharpness, noise, GMSD and MS-SSIM are those of an independent program', () => {
  for (const [width, height, worse, deviation, sharp, noise, structure] of FOUND) {
    const [truth, result] = [picture(width, height, 0), picture(width, height, worse)];
    const name = `${width}x${height}, ${worse}`;
    close(gmsd(truth, result), deviation, `gmsd ${name}`);
    close(sharpness(truth, result), sharp, `sharpness ${name}`);
    close(noiseLevel(result), noise, `noise ${name}`);
    if (structure === null) assert.is(msSsim(truth, result), null, 'too small for five scales');
    else close(msSsim(truth, result)!, structure, `msSsim ${name}`);
  }
});

test('equal pictures are perfect, also flat ones', () => {
  for (const image of [picture(177, 176, 2), { width: 176, height: 176, data: new Uint8Array(176 * 176 * 3).fill(9) }]) {
    assert.is(gmsd(image, image), 0);
    assert.is(sharpness(image, image), 1);
    close(msSsim(image, image)!, 1, 'msSsim');
  }
  const flat = { width: 8, height: 8, data: new Uint8Array(192).fill(9) };
  assert.is(noiseLevel(flat), 0);
  assert.is(sharpness(flat, picture(8, 8, 0)), Number.POSITIVE_INFINITY);
});

test('pictures of different or too small sizes are refused by name', () => {
  const [a, b] = [picture(20, 20, 0), picture(20, 21, 0)];
  for (const measure of [gmsd, sharpness, msSsim]) assert.throws(() => measure(a, b), new RegExp(`${measure.name}: .* 20x20 and 20x21`));
  assert.throws(() => noiseLevel(picture(2, 9, 0)), /noiseLevel: the image is 2x9/);
  assert.throws(() => gmsd(picture(3, 9, 0), picture(3, 9, 0)), /gmsd: the image is 3x9/);
});

test.run();
