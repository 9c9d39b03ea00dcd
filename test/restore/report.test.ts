/** The fidelity report on pictures whose damage and change are known. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { degrade } from '../../image/degrade.ts';
import type { Image } from '../../image/image.ts';
import { resize } from '../../image/resize.ts';
import { changeMap, consistency, fidelity } from '../../restore/report.ts';
import { projectFile } from '../support/fixtures.ts';

const test = suite('fidelity report', { sharp: {} as Image });

test.before(async (context) => {
  context.sharp = crop(await decode(await projectFile('demo/photos/astronaut-small.jpg'), 'astronaut'), 8, 8, 96, 80);
});

test('an image against itself', ({ sharp }) => {
  assert.equal(consistency(sharp, sharp), { blur: 0, psnr: null, ssim: 1 });
  const { change } = fidelity(sharp, sharp, sharp);
  assert.equal([change.photo.mean, change.photo.p95, change.photo.max, change.photo.strong], [0, 0, 0, 0]);
});

test('finds the blur that was put on a photo', ({ sharp }) => {
  for (const blur of [0.75, 1.5, 2]) {
    const found = consistency(degrade(sharp, { blur }), sharp);
    assert.ok(Math.abs(found.blur - blur) <= 0.125, `${found.blur} for ${blur}`);
    assert.ok(found.psnr === null || found.psnr > 40, `${found.psnr} dB`);
    assert.ok(found.ssim! > 0.99, `${found.ssim}`);
  }
});

test('compares a larger result at the size of the photo, and one of another photo as bad', ({ sharp }) => {
  const photo = resize(sharp, 48, 40, 'bicubic');
  assert.equal(consistency(photo, sharp), { blur: 0, psnr: null, ssim: 1 });
  const other: Image = { ...sharp, data: sharp.data.map((value) => 255 - value) };
  const bad = consistency(photo, other);
  assert.ok(bad.psnr! < 12 && bad.ssim! < 0.5, `${bad.psnr} dB, ${bad.ssim}`);
});

test('says where the result was changed, in numbers and as a picture', ({ sharp }) => {
  const result: Image = { ...sharp, data: sharp.data.slice() };
  // one cell of the 8 by 8 grid: columns 24 to 35, rows 50 to 59
  for (let y = 50; y < 60; y++) {
    for (let x = 24; x < 36; x++) {
      for (let c = 0; c < 3; c++) result.data[(y * 96 + x) * 3 + c] = (sharp.data[(y * 96 + x) * 3 + c] + 32) & 255;
    }
  }
  const { change, photo } = fidelity(sharp, sharp, result);
  assert.equal(photo, { width: 96, height: 80 });
  const [{ mean, ...first }, second] = change.stage1.regions;
  assert.equal(first, { x: 24, y: 50, width: 12, height: 10 });
  assert.ok(mean >= 32 && second.mean === 0, `${mean}, ${second.mean}`);
  assert.is(change.stage1.strong, 120 / (96 * 80));
  assert.is(change.stage1.regions.length, 5);

  const map = changeMap(sharp, sharp, result);
  assert.equal([map.width, map.height], [3 * 96 + 8, 80 + 13]);
  const pixel = (x: number, y: number) => [...map.data.subarray((y * map.width + x) * 3, (y * map.width + x) * 3 + 3)];
  assert.equal(pixel(2 * 100 + 5, 13 + 5), [0, 0, 0]);
  const [red, green, blue] = pixel(2 * 100 + 30, 13 + 55);
  assert.ok(red === 255 && green >= 127 && blue < 255, `${red} ${green} ${blue}`);
});

test.run();
