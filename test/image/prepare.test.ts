import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { gaussianBlur } from '../../image/blur.ts';
import { type FloatImage, toUnit } from '../../image/image.ts';
import { gammaCorrected, prepare, prepareDeep } from '../../image/prepare.ts';
import { sampler } from '../../verify/sample.ts';

test('a prepared image has the size it says, in multiples, and its result the size that was asked for', () => {
  const photo = { width: 70, height: 101, data: new Uint8Array(70 * 101 * 3) };
  const { image, width, height, width0, height0 } = prepare(photo, { upscale: 2, minSize: 160, multiple: 64 });
  assert.equal([width, height, width0, height0], [128, 256, 140, 202]); // 160 is half way between 128 and 192: to the even multiple; 230.9 to 256
  assert.equal([image.width, image.height, image.data.length], [width, height, width * height * 3]);
});

test('bytes become f32 of -1 to 1', () => {
  const data = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
  toUnit({ width: 256, height: 1, data }).data.forEach((value, i) => {
    assert.is(value, Math.fround((data[i] / 255) * 2 - 1));
  });
});

test("the blur's default size is eight sigma and one", () => {
  const { data } = sampler(3)([24, 20, 3]);
  const x: FloatImage = { width: 20, height: 24, channels: 3, data: Float32Array.from(data) };
  assert.equal(gaussianBlur(x, 2), gaussianBlur(x, 2, { kernelSize: 17 }));
  assert.not.equal(gaussianBlur(x, 2), gaussianBlur(x, 2, { kernelSize: 13 }));
});

test('of a photo of 16 bits all count: what is between two bytes stays between them, and bytes give what they gave', () => {
  const deep = Uint16Array.from({ length: 7 * 5 * 3 }, (_, i) => 30_000 + 37 * i);
  const photo = { width: 7, height: 5, data: Uint8Array.from(deep, (value) => Math.round(value / 257)), deep };
  const same = prepareDeep(photo, 7, 5)!;
  same.data.forEach((value, i) => {
    assert.ok(Math.abs(value - deep[i] / 65535) < 1e-6);
  });
  const large = prepareDeep(photo, 14, 9)!;
  const bytes = prepare(photo, { shortSide: 9, multiple: 1 }).image;
  assert.equal([large.width, large.height], [14, 9]);
  assert.is(bytes.height, 9);
  const ofBytes = prepareDeep({ ...photo, deep: Uint16Array.from(photo.data, (value) => 257 * value) }, bytes.width, 9)!;
  ofBytes.data.forEach((value, i) => {
    assert.ok(Math.abs(255 * value - bytes.data[i]) <= 1); // two roundings of bytes
  });
  assert.is(prepareDeep({ ...photo, deep: undefined }, 7, 5), null);
  const hidden = { ...photo, alpha: new Uint8Array(35).fill(255) };
  assert.equal(prepareDeep(hidden, 7, 5), same);
});

test("gamma is the demo's: a power of the byte's share, rounded half to even", () => {
  const image = { width: 3, height: 1, data: Uint8Array.of(0, 1, 64, 128, 191, 255, 10, 20, 30) };
  assert.equal([...gammaCorrected(image, 2).data], [0, 0, 16, 64, 143, 255, 0, 2, 4]);
  assert.equal([...gammaCorrected(image, 0.5).data], [0, 16, 128, 181, 221, 255, 50, 71, 87]);
});

test.run();
