/** Every golden case of colour fix, pre- and post-processing and metrics, at its stated tolerance. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { gaussianBlur } from '../../image/blur.ts';
import { adainColorFix, waveletBlur, waveletColorFix, waveletDecomposition } from '../../image/color-fix.ts';
import { type FloatImage, type Image, toUnit } from '../../image/image.ts';
import { psnr, ssim } from '../../image/metrics.ts';
import { finish, fixResize, prepare, upscaleImage } from '../../image/prepare.ts';
import { resize, resizeBicubic } from '../../image/resize.ts';
import { type GoldenCase, goldenCases, goldenFile } from '../support/golden.ts';

/** A stored (H, W, 3) u8 tensor. */
async function storedImage(c: GoldenCase, input: string): Promise<Image> {
  const file = await goldenFile(c.file);
  const [height, width] = file.info(c.inputs[input]).shape;
  return { width, height, data: await file.bytes(c.inputs[input]) };
}

/** A stored (B, C, H, W) or (C, H, W) f32 tensor as B channels-last images. */
async function storedFloats(c: GoldenCase, input: string): Promise<FloatImage[]> {
  const file = await goldenFile(c.file);
  const values = await file.f32(c.inputs[input]);
  const [channels, height, width] = file.info(c.inputs[input]).shape.slice(-3);
  const [pixels, size] = [width * height, width * height * channels];
  return Array.from({ length: values.length / size }, (_, b) => {
    const data = Float32Array.from({ length: size }, (_, i) => values[b * size + (i % channels) * pixels + Math.floor(i / channels)]);
    return { width, height, channels, data };
  });
}

/** Channels-last images as one (B, C, H, W) array; the first `keep` channels only. */
function planes(images: FloatImage[], keep = images[0].channels): Float32Array {
  const { width, height, channels } = images[0];
  const pixels = width * height;
  return Float32Array.from({ length: images.length * keep * pixels }, (_, i) => {
    const [plane, pixel] = [Math.floor(i / pixels), i % pixels];
    return images[Math.floor(plane / keep)].data[pixel * channels + (plane % keep)];
  });
}

/** Compares every element with the stored output. A selection here is always the first of three channels: the caller passes that plane. */
async function check(c: GoldenCase, output: string, actual: ArrayLike<number>): Promise<void> {
  const { tensor, abs, rel } = c.outputs[output];
  const expected = await (await goldenFile(c.file)).f64(tensor);
  assert.is(actual.length, expected.length, `${c.id} ${output}: length`);
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    if (!(difference <= abs + rel * Math.abs(expected[i]))) {
      throw new Error(`${c.id} ${output}: element ${i} is ${actual[i]}, expected ${expected[i]} (abs ${abs}, rel ${rel})`);
    }
  }
}

/** Bytes must agree exactly: tighter than the case's level or two. `levels` allows more where the reference's own rounding is not reproduced. */
async function checkBytes(c: GoldenCase, output: string, actual: Uint8Array, levels = 0): Promise<void> {
  await check({ ...c, outputs: { [output]: { ...c.outputs[output], abs: levels, rel: 0 } } }, output, actual);
}

const fraction = ({ width, height, data }: Image): FloatImage => ({
  width,
  height,
  channels: 3,
  data: Float32Array.from(data, (v) => v / 255),
});

const operations: Record<string, (c: GoldenCase) => Promise<void>> = {
  async wavelet_reconstruction(c) {
    const [contents, styles] = [await storedFloats(c, 'content'), await storedFloats(c, 'style')];
    await check(c, 'out', planes(contents.map((content, b) => waveletColorFix(content, styles[b], c.config.levels))));
  },
  async adain(c) {
    const [contents, styles] = [await storedFloats(c, 'content'), await storedFloats(c, 'style')];
    await check(c, 'out', planes(contents.map((content, b) => adainColorFix(content, styles[b]))));
  },
  async wavelet_decomposition(c) {
    const parts = (await storedFloats(c, 'x')).map((x) => waveletDecomposition(x));
    if (c.outputs.high) await check(c, 'high', planes(parts.map((p) => p.high)));
    await check(c, 'low', planes(parts.map((p) => p.low)));
  },
  async wavelet_blur(c) {
    const blurred = (await storedFloats(c, 'x')).map((x) => waveletBlur(x, c.config.radius));
    await check(c, 'out', planes(blurred, 1));
  },
  async pil2tensor(c) {
    const { upscale, min_size: minSize, fix_resize: shortSide } = c.config;
    const prepared = prepare(await storedImage(c, 'image'), { upscale, minSize, shortSide });
    await check(c, 'h0_w0', [prepared.height0, prepared.width0]);
    const [height, width] = (await goldenFile(c.file)).info(c.outputs.x_u8.tensor).shape;
    assert.equal([prepared.width, prepared.height, prepared.image.width, prepared.image.height], [width, height, width, height]);
    await checkBytes(c, 'x_u8', prepared.image.data);
    assert.is(toUnit(prepared.image).data[0], Math.fround((prepared.image.data[0] / 255) * 2 - 1));
  },
  async tensor2pil(c) {
    const [x] = await storedFloats(c, 'x');
    await check(c, 'resized', planes([resizeBicubic(x, c.config.w0, c.config.h0)], 1));
    await check(c, 'u8', finish(x, c.config.w0, c.config.h0).data); // truncation may fall either way on a whole number
  },
  async upscale_image(c) {
    const { upscale, min_size: minSize, unit_resolution: multiple } = c.config;
    await checkBytes(c, 'u8', upscaleImage(await storedImage(c, 'image'), { upscale, minSize, multiple }).data, 1);
  },
  async fix_resize(c) {
    await checkBytes(c, 'u8', fixResize(await storedImage(c, 'image'), c.config.size, c.config.unit_resolution).data, 1);
  },
  async pil_resize(c) {
    await checkBytes(c, 'u8', resize(await storedImage(c, 'image'), c.config.w, c.config.h, c.config.filter).data);
  },
  async torch_bicubic(c) {
    const x = fraction(await storedImage(c, 'image'));
    await check(c, 'out', planes([resizeBicubic(x, c.config.w, c.config.h, { antialias: c.config.antialias })], 1));
  },
  async gaussian_blur(c) {
    const x = fraction(await storedImage(c, 'image'));
    const { sigma, kernel_size: kernelSize, padding } = c.config;
    const border = padding.startsWith('symmetric') ? 'symmetric' : 'reflect';
    await check(c, 'out', planes([gaussianBlur(x, sigma, { kernelSize, border })], 1));
    if (kernelSize === 17) assert.equal(gaussianBlur(x, sigma, { border }), gaussianBlur(x, sigma, { kernelSize, border }), 'default size');
  },
  async psnr(c) {
    await check(c, 'value', [psnr(await storedImage(c, 'a'), await storedImage(c, 'b'), c.config.channels)]);
  },
  async ssim(c) {
    const { channels, gaussian_weights: gaussian } = c.config;
    const window = gaussian ? 'gaussian' : 'uniform';
    await check(c, 'value', [ssim(await storedImage(c, 'a'), await storedImage(c, 'b'), { channels, window })]);
  },
};

for (const component of ['colorfix', 'prepost', 'metrics']) {
  for (const c of await goldenCases(component)) {
    test(`golden ${c.id}`, async () => {
      assert.ok(operations[c.op], `operation ${c.op}`);
      await operations[c.op](c);
    });
  }
}

test.run();
