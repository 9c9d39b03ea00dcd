/** Image files out, and damage on purpose. */
import { PNG } from 'pngjs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { degrade } from '../../image/degrade.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import { deepFromUnit, fromUnit, type Image, toUnit } from '../../image/image.ts';
import { psnr, ssim } from '../../image/metrics.ts';
import { crc32, readPngText } from '../../image/png-chunks.ts';
import { preparedSizes, roundHalfEven } from '../../image/prepare.ts';
import { ascii } from './make-files.ts';

/** Every byte value in a pattern without symmetry. */
function pattern(width: number, height: number): Image {
  return { width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 37 + (i >> 4) * 11) & 255) };
}

/** Soft shapes, as photographs have. */
function soft(width: number, height: number): Image {
  const value = (i: number) => 128 + 60 * Math.sin((i % (3 * width)) / 17) + 50 * Math.cos(i / (3 * width) / 5);
  return { width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, i) => value(i)) };
}

test('PNG: what is written is read', async () => {
  const image = pattern(13, 7);
  assert.equal(await decode(encodePng(image), 'x'), image);
  const withAlpha = { ...image, alpha: Uint8Array.from({ length: 13 * 7 }, (_, i) => i * 2) };
  assert.equal(await decode(encodePng(withAlpha), 'x'), withAlpha);
});

test('PNG: texts', async () => {
  const text = { Software: 'supir-webgpu', recipe: JSON.stringify({ seed: 1, prompt: 'caf\u00e9 \u2014 \u5bfa' }), empty: '' };
  const file = encodePng(pattern(5, 4), { text });
  assert.equal(readPngText(file, 'x'), text);
  assert.equal(await decode(file, 'x'), pattern(5, 4));
  assert.equal(readPngText(encodePng(pattern(5, 4)), 'x'), {});
  for (const keyword of ['', ' a', 'a ', 'x'.repeat(80), 'caf\u00e9', 'a\0b']) {
    assert.throws(() => encodePng(pattern(1, 1), { text: { [keyword]: 'a' } }), /PNG text: the keyword/);
  }
  assert.throws(() => encodePng(pattern(1, 1), { text: { a: 'b\0' } }), /NUL/);
});

test('PNG of 16 bits: every bit is written', async () => {
  const data = Uint16Array.from({ length: 9 * 5 * 3 }, (_, i) => (i * 481 + 7) & 65535);
  const alpha = Uint8Array.from({ length: 9 * 5 }, (_, i) => 5 * i);
  for (const image of [
    { width: 9, height: 5, data },
    { width: 9, height: 5, data, alpha },
  ]) {
    const file = encodePng(image);
    assert.equal([...file.subarray(24, 26)], [16, 'alpha' in image ? 6 : 2]);
    const stored = PNG.sync.read(pngjsBytes(file), { skipRescale: true } as object).data as unknown as Uint16Array;
    assert.equal(
      data.map((_, i) => stored[4 * Math.floor(i / 3) + (i % 3)]),
      data,
    );
    const rounded = await decode(file, 'x');
    assert.equal(
      [...rounded.data],
      [...data].map((value) => Math.round(value / 257)),
    );
    assert.equal(rounded.alpha, 'alpha' in image ? alpha : undefined);
  }
});

/** Bytes as pngjs reads them: in Node's Buffer, or the one bundled with it. */
function pngjsBytes(file: Uint8Array): Buffer {
  const buffer = new PNG({ width: file.length, height: 1 }).data.subarray(0, file.length);
  buffer.set(file);
  return buffer;
}

test('unit range to 16 bits', () => {
  const x = { width: 2, height: 1, channels: 3, data: Float32Array.of(-2, -1, -1 + 2 / 65535, 0, 1 - 2 / 65535, 2) };
  assert.equal([...deepFromUnit(x).data], [0, 0, 1, 32768, 65534, 65535]);
  x.data[3] = Number.NaN;
  assert.throws(() => deepFromUnit(x), /deepFromUnit: the value at x 1, y 0, channel 0 is not a number/);
});

test('CRC-32 check value', () => {
  assert.is(crc32(ascii('123456789')), 0xcbf43926);
});

test('JPEG: quality orders size and error', async () => {
  const image = soft(64, 48);
  const files = [30, 70, 95].map((quality) => encodeJpeg(image, quality));
  const errors = await Promise.all(files.map(async (file) => psnr(await decode(file, 'x'), image)));
  assert.ok(files[0].length < files[1].length && files[1].length < files[2].length);
  assert.ok(errors[0] < errors[1] && errors[1] < errors[2] && errors[2] > 40, String(errors));
  for (const quality of [0, 101, Number.NaN]) assert.throws(() => encodeJpeg(image, quality), /quality/);
});

test('JPEG: where there is no Buffer, as in browsers', () => {
  const image = soft(16, 16);
  const expected = encodeJpeg(image, 80);
  const host = globalThis as { Buffer?: unknown };
  const kept = Object.getOwnPropertyDescriptor(host, 'Buffer');
  delete host.Buffer;
  try {
    assert.equal(encodeJpeg(image, 80), expected);
    assert.not('Buffer' in host);
  } finally {
    if (kept) Object.defineProperty(host, 'Buffer', kept);
  }
});

test('bytes to unit range and back', () => {
  const image = pattern(16, 16);
  assert.equal(fromUnit(toUnit(image), 'round'), image);
  const x = { width: 2, height: 1, channels: 3, data: Float32Array.of(-2, -1, -0.999, 0, 0.999, 2) };
  assert.equal([...fromUnit(x, 'truncate').data], [0, 0, 0, 127, 254, 255]);
  assert.equal([...fromUnit(x, 'round').data], [0, 0, 0, 128, 255, 255]); // 127.5 goes to the even 128
  x.data[4] = Number.NaN;
  assert.throws(() => fromUnit(x, 'round'), /x 1, y 0, channel 1 is not a number/);
  assert.throws(() => fromUnit({ ...x, channels: 2 }, 'round'), /3 channels/);
});

test('rounding half to even', () => {
  assert.equal([0.5, 1.5, 2.5, 2.4999, -0.5, 7].map(roundHalfEven), [0, 2, 2, 2, -0, 7]);
});

test('sizes of the network image', () => {
  assert.equal(preparedSizes(1024, 1024), { width: 1024, height: 1024, width0: 1024, height0: 1024 });
  assert.equal(preparedSizes(512, 800), { width: 1024, height: 1600, width0: 512, height0: 800 });
  assert.equal(preparedSizes(50, 3, { minSize: 3, multiple: 64 }), { width: 64, height: 64, width0: 50, height0: 3 });
  assert.throws(
    () => preparedSizes(3000, 10, { name: 'thin.png' }),
    /thin\.png: 3000x10 pixels, .* 307200x1024.* Crop it, or set minSize \(--min-size\) to 54 or less/,
  );
  assert.is(preparedSizes(3000, 10, { minSize: 54 }).width, 16192);
  assert.throws(() => preparedSizes(1, 300), /to 54 or less/);
  assert.throws(() => preparedSizes(10, 10, { upscale: 0 }), /upscale is 0/);
  assert.throws(() => preparedSizes(10, 10, { upscale: Number.NaN }), /upscale is NaN/);
  assert.throws(() => preparedSizes(10, 10, { upscale: 1e9 }), /too large/);
  assert.throws(() => preparedSizes(10, 10, { upscale: 0.01 }), /no pixels/);
});

test('degrade: nothing asked for changes nothing, everything is repeatable', () => {
  const image = soft(48, 40);
  assert.equal(degrade(image, {}), image);
  const all = { blur: 1.5, scale: 4, noise: 8, jpeg: 60, seed: 3 };
  assert.equal(degrade(image, all), degrade(image, all));
  assert.not.equal(degrade(image, all), degrade(image, { ...all, seed: 4 }));
});

test('degrade: each kind of damage does what it says', () => {
  const image = soft(64, 64);
  const noisy = degrade(image, { noise: 10, seed: 1 });
  const error = 255 / 10 ** (psnr(noisy, image) / 20); // root mean square
  assert.ok(Math.abs(error - 10) < 0.3, `noise of ${error} levels`);
  const sharp = pattern(64, 64);
  for (const damage of [{ blur: 2 }, { scale: 3 }, { jpeg: 10 }]) {
    const damaged = degrade(sharp, damage);
    assert.equal([damaged.width, damaged.height], [64, 64]);
    assert.ok(ssim(damaged, sharp) < 0.9, JSON.stringify(damage));
  }
  assert.ok(psnr(degrade(sharp, { blur: 0.6 }), sharp) > psnr(degrade(sharp, { blur: 2 }), sharp));
  assert.throws(() => degrade(image, { scale: 0.5 }), /'scale' is 0.5/);
});

test('metrics: equal images, and sizes that do not fit', () => {
  const image = pattern(12, 12);
  assert.is(psnr(image, image), Number.POSITIVE_INFINITY);
  assert.ok(Math.abs(ssim(image, image) - 1) < 1e-12);
  assert.throws(() => psnr(image, pattern(12, 11)), /12x12 and 12x11/);
  assert.throws(() => ssim(pattern(8, 12), pattern(8, 12)), /at least 11/);
});

test.run();
