/** `supir restore` on a folder as people have them: thirty files good, odd and broken. What can be restored is; the rest is told; nothing is left half-written. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, parse } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { encodeWebp } from '../../image/webp.ts';
import { ascii, exifBlock, joinBytes, makeCmykJpeg, makePng, type RawPng, withSegment } from '../image/make-files.ts';
import { projectFile } from '../support/fixtures.ts';
import { supir } from './run-cli.ts';

const test = suite('a folder of mixed files', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-mixed-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

type Files = Record<string, Uint8Array>;
/** Files to restore with the size of the result, and files to refuse with the reason. */
type Expected = { good: Record<string, [width: number, height: number]>; bad: Record<string, RegExp> };

/** Rows of a PNG, each behind its filter byte; a sample is told by its place in the row. */
function png(width: number, height: number, depth: number, color: number, bytes: number, more: Partial<RawPng> = {}): Uint8Array {
  const rows = Array.from({ length: height }, (_, y) => [0, ...Array.from({ length: bytes }, (_, i) => (37 * i + 11 * y) & 255)]).flat();
  return makePng({ width, height, depth, color, rows, ...more });
}

async function mixedFiles(photo: Image): Promise<Files> {
  const part = (width: number, height: number) => crop(photo, 96, 48, width, height);
  const jpeg = encodeJpeg(part(64, 48), 90);
  const good = encodePng(part(64, 48));
  const palette = { type: 'PLTE', data: Uint8Array.from({ length: 768 }, (_, i) => i & 255) };
  const animation = joinBytes(ascii('RIFF'), [22, 0, 0, 0], ascii('WEBPVP8X'), [10, 0, 0, 0, 2, 0, 0, 0, 63, 0, 0, 63, 0, 0]);
  const turned = withSegment(encodeJpeg(part(64, 48), 90), 0xe1, joinBytes(ascii('Exif\0\0'), exifBlock(6, true)));
  const alpha = new Uint8Array(64 * 48).map((_, i) => i & 255);
  return {
    '01 good.png': good,
    '02 good.jpg': jpeg,
    '03 good.webp': await encodeWebp(part(64, 48), 90),
    '04 UPPER CASE.PNG': encodePng(part(48, 64)),
    '05 ein schönes Foto, 日本.jpeg': jpeg,
    '06 16 bits.png': png(40, 30, 16, 2, 240),
    '07 alpha.png': encodePng({ ...part(64, 48), alpha }),
    '08 alpha.webp': await encodeWebp({ ...part(64, 48), alpha }, 90),
    '09 palette.png': png(40, 30, 8, 3, 40, { chunks: [palette] }),
    '10 two colours.png': png(40, 30, 1, 0, 5),
    '11 grey with alpha.png': png(40, 30, 8, 4, 80),
    '12 interlaced.png': makePng({ width: 2, height: 2, depth: 8, color: 0, interlaced: true, rows: [0, 1, 0, 2, 0, 3, 4] }),
    '13 turned.jpg': turned,
    '14 cmyk.jpg': makeCmykJpeg([[200, 100, 50, 255], [0, 90, 180, 128]], 0), // biome-ignore format: a colour a block
    '15 ycck.jpg': makeCmykJpeg([[200, 100, 50, 255], [0, 90, 180, 128]], 2), // biome-ignore format: a colour a block
    '16 one pixel.png': png(1, 1, 8, 2, 3),
    '17 tiny.jpg': encodeJpeg(part(3, 2), 90),
    '18 panorama.png': encodePng(part(150, 16)),
    '19 a png.jpg': good,
    '20 a jpeg.png': jpeg,
    '21 profile.jpg': withSegment(jpeg, 0xe2, joinBytes(ascii('ICC_PROFILE\0'), [1, 1], new Uint8Array(200))),
    '22 empty.png': new Uint8Array(),
    '23 text.jpg': ascii('This is no picture.'),
    '24 cut.png': good.subarray(0, good.length / 2),
    '25 cut.jpg': jpeg.subarray(0, 200),
    '26 damaged.png': good.map((byte, i) => (i > 200 && i < 240 ? byte ^ 0x55 : byte)),
    '27 huge.png': makePng({ width: 50_000, height: 50_000, depth: 8, color: 2, rows: [] }),
    '28 animation of nothing.webp': animation,
    '29 a gif.png': ascii('GIF89a'),
    '30 zeros.jpg': new Uint8Array(5000),
  };
}

const EXPECTED: Expected = {
  good: {
    '01 good.png': [64, 48],
    '02 good.jpg': [64, 48],
    '03 good.webp': [64, 48],
    '04 UPPER CASE.PNG': [48, 64],
    '05 ein schönes Foto, 日本.jpeg': [64, 48],
    '06 16 bits.png': [40, 30],
    '07 alpha.png': [64, 48],
    '08 alpha.webp': [64, 48],
    '09 palette.png': [40, 30],
    '10 two colours.png': [40, 30],
    '11 grey with alpha.png': [40, 30],
    '12 interlaced.png': [2, 2],
    '13 turned.jpg': [48, 64],
    '14 cmyk.jpg': [16, 8],
    '15 ycck.jpg': [16, 8],
    '16 one pixel.png': [1, 1],
    '17 tiny.jpg': [3, 2],
    '18 panorama.png': [150, 16],
    '19 a png.jpg': [64, 48],
    '20 a jpeg.png': [64, 48],
    '21 profile.jpg': [64, 48],
  },
  bad: {
    '22 empty.png': /the file is empty/,
    '23 text.jpg': /not an image file that is known/,
    '24 cut.png': /damaged|cut off/,
    '25 cut.jpg': /damaged|cut off/,
    '26 damaged.png': /damaged/,
    '27 huge.png': /50000x50000 pixels is too large/,
    '28 animation of nothing.webp': /the WebP file is damaged \(no picture in it\)|the WebP file is cut off/,
    '29 a gif.png': /GIF files are not read/,
    '30 zeros.jpg': /not an image file that is known/,
  },
};

test('good files are restored to their own sizes, bad ones told, and nothing else is there', async ({ folder }) => {
  const [album, results, log] = ['album', 'results', 'log.jsonl'].map((name) => join(folder, name));
  mkdirSync(join(album, 'a folder.png'), { recursive: true });
  const files = await mixedFiles(await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut'));
  for (const [name, bytes] of Object.entries({ ...files, 'notes.txt': ascii('passed over'), '.hidden.png': ascii('too') })) {
    writeFileSync(join(album, name), bytes);
  }
  const { good, bad } = EXPECTED;
  assert.equal(Object.keys(files).sort(), [...Object.keys(good), ...Object.keys(bad)].sort());

  const { code, stdout, stderr } = await supir(['restore', album, '-o', results, '--stage1-only', '--log', log]);
  assert.is(code, 1, stderr);
  assert.match(stdout, /^21 restored, 9 failed, 0 skipped$/m);
  assert.match(stderr, /9 of 30 photos could not be restored: /);
  assert.not.match(stderr, /\n\s+at /, 'no stack');
  assert.is(stderr.match(/Warning: .*CMYK/g)?.length, 2);

  const lines = readFileSync(log, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as { input: string; error?: string }); // biome-ignore format: short
  assert.is(lines.length, 30);
  for (const { input, error } of lines) {
    const { base } = parse(input);
    if (bad[base]) assert.match(error ?? 'none', bad[base], base);
    else assert.is(error, undefined, base);
  }
  assert.equal(readdirSync(results).sort(), Object.keys(good).map((name) => `${parse(name).name}.png`).sort()); // biome-ignore format: short
  for (const [name, size] of Object.entries(good)) {
    const result = await decode(readFileSync(join(results, `${parse(name).name}.png`)), name);
    assert.equal([result.width, result.height], size, name);
    assert.is(result.alpha !== undefined, /alpha/.test(name), `${name}: alpha`);
  }
  assert.equal(readdirSync(folder).sort(), ['album', 'log.jsonl', 'results']);
});

test.run();
