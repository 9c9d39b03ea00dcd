/** What looks the same gives the same: colours under transparent pixels. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { degrade } from '../../image/degrade.ts';
import { encodeJpeg } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { opaque } from '../../image/opaque.ts';
import { prepare } from '../../image/prepare.ts';
import { cutsOf } from '../../train/data.ts';

/** Two visible spots with soft rims on nothing, whose hidden colour is `hidden`. */
function spots(hidden: (i: number) => number, width = 37, height = 29): Image {
  const image: Image = { width, height, data: new Uint8Array(width * height * 3), alpha: new Uint8Array(width * height) };
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    const red = Math.hypot(x - 9, y - 11);
    const blue = Math.hypot(x - 28, y - 15);
    image.alpha![i] = Math.max(0, Math.min(255, 255 * (8.5 - Math.min(red, blue))));
    const colour = red < blue ? [210, 60, 40] : [30, 80, 220];
    image.data.set(image.alpha![i] > 0 ? colour : [hidden(3 * i), hidden(3 * i + 1), hidden(3 * i + 2)], 3 * i);
  }
  return image;
}

const variants = [() => 0, () => 255, (i: number) => (i * 97) & 255].map((hidden) => spots(hidden));

test('hidden colours become those of what is near', () => {
  const results = variants.map((image) => opaque(image));
  for (const result of results) assert.equal(result, results[0]);
  const at = (x: number, y: number) => [...results[0].data.subarray(3 * (y * 37 + x), 3 * (y * 37 + x) + 3)];
  assert.equal(at(9, 11), [210, 60, 40], 'seen');
  assert.equal(at(9, 1), [210, 60, 40], 'near the red spot');
  assert.equal(at(28, 5), [30, 80, 220], 'near the blue one');
  assert.not(results[0].alpha);
});

test('a pixel of which hardly anything is seen hardly counts, and one that is seen keeps its colour', () => {
  const image = variants[0];
  for (const alpha of [1, 2]) {
    const faint = { ...image, data: image.data.slice(), alpha: image.alpha!.slice() };
    const i = 4 * 37 + 36;
    faint.alpha[i] = alpha;
    faint.data.set([0, 255, 0], 3 * i);
    const [without, having] = [opaque(image).data, opaque(faint).data];
    const difference = having.reduce((most, value, k) => Math.max(most, Math.abs(value - without[k])), 0);
    assert.ok(difference > 0 && difference <= 40, `alpha ${alpha}: ${difference} levels`);
  }
  const half = { ...image, alpha: image.alpha!.map((value) => (value === 255 ? 128 : value)) };
  assert.equal([...opaque(half).data.subarray(3 * (11 * 37 + 9), 3 * (11 * 37 + 9) + 3)], [210, 60, 40]);
});

test('nothing at all is seen', () => {
  for (const [width, height] of [
    [1, 1],
    [7, 1],
    [64, 33],
  ]) {
    const image = { width, height, data: new Uint8Array(width * height * 3).fill(9), alpha: new Uint8Array(width * height) };
    assert.equal(opaque(image).data, new Uint8Array(width * height * 3));
  }
  const image: Image = { width: 2, height: 1, data: Uint8Array.of(1, 2, 3, 4, 5, 6) };
  assert.is(opaque(image).data, image.data);
});

test('so it is in every role', () => {
  for (const of of [
    (image: Image) => prepare(image, { minSize: 64, upscale: 2 }).image,
    (image: Image) => degrade(image, { blur: 1, scale: 2 }),
    (image: Image) => cutsOf(image, new TorchRandom(1), { size: 32, multiple: 8, seed: 1, crops: 2 }),
    (image: Image) => encodeJpeg(image, 90),
  ])
    for (const image of variants) assert.equal(of(image), of(variants[0]));
});

test.run();
