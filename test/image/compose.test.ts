/** Cutting, pasting, labels and side-by-side pictures. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { crop, paste, sideBySide, write } from '../../image/compose.ts';
import { createImage, type Image } from '../../image/image.ts';

/** Pixel (x, y) is (10 x, 10 y, 7). */
function ramp(width: number, height: number): Image {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const pixel = Math.floor(i / 3);
    return [10 * (pixel % width), 10 * Math.floor(pixel / width), 7][i % 3];
  });
  return { width, height, data };
}

test('crop takes the part asked for', () => {
  const part = crop(ramp(7, 5), 2, 1, 3, 2);
  assert.equal([part.width, part.height], [3, 2]);
  assert.equal([...part.data], [20, 10, 7, 30, 10, 7, 40, 10, 7, 20, 20, 7, 30, 20, 7, 40, 20, 7]);
  for (const [x, y, width, height] of [
    [5, 0, 3, 1],
    [0, 4, 1, 2],
    [-1, 0, 2, 2],
    [0, 0, 0, 1],
    [Number.NaN, 0, 1, 1],
  ]) {
    assert.throws(() => crop(ramp(7, 5), x, y, width, height), /crop|no pixels/);
  }
});

test('paste undoes crop', () => {
  const whole = ramp(7, 5);
  const copy = createImage(7, 5);
  paste(copy, crop(whole, 0, 0, 7, 2), 0, 0);
  paste(copy, crop(whole, 0, 2, 4, 3), 0, 2);
  paste(copy, crop(whole, 4, 2, 3, 3), 4, 2);
  assert.equal(copy, whole);
  assert.throws(() => paste(copy, whole, 1, 0), /do not fit/);
});

test('write draws letters, and only as many as fit', () => {
  const image = createImage(13, 7);
  write(image, 'tTT', 0, 0);
  const rows = Array.from({ length: 7 }, (_, y) =>
    Array.from({ length: 13 }, (_, x) => (image.data[(y * 13 + x) * 3] ? '#' : ' ')).join(''),
  );
  assert.equal(
    rows,
    ['##### ##### ', ...Array(6).fill('  #     #   ')].map((row) => row.padEnd(13)),
  );
  assert.ok(image.data.every((value, i) => value === image.data[i - (i % 3)]));
  const narrow = createImage(10, 7);
  write(narrow, 'HH', 0, 0);
  assert.ok(
    narrow.data.every((value, i) => Math.floor(i / 3) % 10 < 5 || value === 0),
    'half a letter was drawn',
  );
});

test('sideBySide puts images beside each other below their labels', () => {
  const [left, right] = [ramp(8, 5), ramp(6, 5)];
  const whole = sideBySide(
    [
      { image: left, label: 'I' },
      { image: right, label: '' },
    ],
    2,
  );
  assert.equal([whole.width, whole.height], [16, 18]);
  assert.equal(crop(whole, 0, 13, 8, 5), left);
  assert.equal(crop(whole, 10, 13, 6, 5), right);
  assert.ok(crop(whole, 8, 0, 8, 13).data.every((value) => value === 0));
  assert.ok(crop(whole, 0, 0, 8, 13).data.some((value) => value === 255));
  assert.throws(
    () =>
      sideBySide([
        { image: left, label: '' },
        { image: ramp(6, 4), label: '' },
      ]),
    /same height/,
  );
});

test.run();
