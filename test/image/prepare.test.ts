import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { gaussianBlur } from '../../image/blur.ts';
import { type FloatImage, toUnit } from '../../image/image.ts';
import { prepare } from '../../image/prepare.ts';
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

test.run();
