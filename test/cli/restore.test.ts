/** `supir restore` from file to file, with the demo model on pictures of a few pixels. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PNG } from 'pngjs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport } from '../../cli/restore.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { psnr } from '../../image/metrics.ts';
import { exifBlock, joinBytes, makePng, withSegment } from '../image/make-files.ts';
import { projectFile } from '../support/fixtures.ts';
import { startSupir, supir } from './run-cli.ts';

const test = suite('supir restore', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-cli-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

/** A piece of the demo's astronaut. */
async function face(width: number, height: number): Promise<Image> {
  return crop(await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut'), 96, 48, width, height);
}

async function read(path: string): Promise<Image> {
  return decode(readFileSync(path), path);
}

test('writes the result and reports on it; the same seed gives the same bytes, another seed others', async ({ folder }) => {
  const [photo, first, second, third, stage1] = ['in.png', 'a.png', 'b.png', 'c.png', 's.png'].map((name) => join(folder, name));
  writeFileSync(photo, encodePng(await face(64, 64)));
  const run = async (output: string, ...more: string[]) => {
    const args = ['restore', photo, '-o', output, '--steps', '2', '--seed', '7', '--json', ...more];
    // The first as a process of its own, whose bytes are the same.
    const { code, stdout, stderr } = await (output === first ? startSupir(args).finished : supir(args));
    assert.is(code, 0, stderr);
    assert.is(stderr, '');
    return JSON.parse(stdout) as RestoreReport;
  };

  const report = await run(first, '--stage1', stage1, '--prompt', 'a face. ');
  assert.is(report.output, first);
  assert.is(report.stage1, stage1);
  assert.equal([report.width, report.height], [64, 64]);
  assert.equal(report.working, { width: 64, height: 64 });
  assert.ok(report.seconds > 0 && report.pipelines > 0 && report.adapter.length > 0);
  assert.ok(report.peakGpuBytes > 13e6, `${report.peakGpuBytes} bytes; the weights alone are more`);
  assert.equal(report.warnings, []);
  const { options } = report.recipe;
  assert.equal([options.steps, options.seed, options.prompt, options.stage1Only, options.colorFix], [2, 7, 'a face. ', false, 'wavelet']);
  assert.not('output' in options || 'json' in options || 'model' in options);
  assert.not('kernels' in report);
  const [input, result, clean] = [await read(photo), await read(first), await read(stage1)];
  assert.equal([result.width, result.height, result.alpha], [64, 64, undefined]);
  assert.ok(psnr(result, clean) > 18 && psnr(result, clean) < 60, `${psnr(result, clean)} dB to the stage-1 image`);
  assert.ok(psnr(result, input) > 16, `${psnr(result, input)} dB to the photo`);

  await run(second, '--prompt', 'a face. ');
  assert.equal(readFileSync(second), readFileSync(first));
  await run(third, '--prompt', 'a face. ', '--seed', '8');
  assert.not.equal(readFileSync(third), readFileSync(first));
  assert.equal(readdirSync(folder).sort(), ['a.png', 'b.png', 'c.png', 'in.png', 's.png']);
});

test('tells a person what it does; --quiet does not; --profile writes a trace of every dispatch', async ({ folder }) => {
  const photo = join(folder, 'in.jpg');
  writeFileSync(photo, encodeJpeg(await face(64, 64), 90));
  const output = join(folder, 'new', 'folder', 'out.jpg');
  const trace = join(folder, 'trace.json');
  const told = await supir(['restore', photo, '-o', output, '--steps', '2', '--profile', trace]);
  assert.is(told.code, 0, told.stderr);
  assert.match(told.stderr, /sampling/);
  assert.match(told.stderr, /step 2 of 2/);
  assert.match(told.stdout, /^kernel +dispatches/);
  const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8')) as {
    traceEvents: { ph: string; name: string; dur: number; args: object }[];
  };
  const matmuls = traceEvents.filter(({ ph, name }) => ph === 'X' && name.startsWith('matmul'));
  assert.ok(matmuls.length > 100 && matmuls.some(({ dur, args }) => dur > 0 && 'GFLOP/s' in args && 'GB/s' in args));
  assert.match(told.stdout, /out\.jpg: 64x64, .* s, \d+ MB of GPU memory at most\n$/);
  assert.equal([...readFileSync(output).subarray(0, 3)], [0xff, 0xd8, 0xff]);

  const quiet = await supir(['restore', photo, '-o', output, '--quiet', '--stage1-only']);
  assert.equal(quiet, { code: 0, stdout: '', stderr: '' });
});

test('reads every kind of PNG and turned JPEGs; sizes are kept, alpha too', async ({ folder }) => {
  const [width, height] = [37, 70];
  const pixels = (await face(width, height)).data;
  const rows = (samples: number, value: (pixel: number, sample: number) => number) =>
    Array.from({ length: height }, (_, y) => [
      0,
      ...Array.from({ length: width * samples }, (_, i) => value(y * width + Math.floor(i / samples), i % samples)),
    ]).flat();
  const palette = { type: 'PLTE', data: Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3)) };
  const alpha = (pixel: number) => (pixel * 3) & 255;
  const cases: Record<string, Uint8Array> = {
    'grey.png': makePng({ width, height, depth: 8, color: 0, rows: rows(1, (p) => pixels[3 * p]) }),
    'palette.png': makePng({ width, height, depth: 8, color: 3, rows: rows(1, (p) => pixels[3 * p]), chunks: [palette] }),
    'deep.png': makePng({ width, height, depth: 16, color: 2, rows: rows(6, (p, i) => (i % 2 ? 77 : pixels[3 * p + i / 2])) }),
    'alpha.png': makePng({ width, height, depth: 8, color: 6, rows: rows(4, (p, i) => (i < 3 ? pixels[3 * p + i] : alpha(p))) }),
    'turned.jpg': withSegment(
      encodeJpeg(await face(height, width), 95),
      0xe1,
      joinBytes([0x45, 0x78, 0x69, 0x66, 0, 0], exifBlock(6, true)),
    ),
  };
  for (const [name, bytes] of Object.entries(cases)) {
    const [photo, output] = [join(folder, name), join(folder, `${name}.out.png`)];
    writeFileSync(photo, bytes);
    const { code, stderr } = await supir(['restore', photo, '-o', output, '--stage1-only', '--quiet']);
    assert.is(code, 0, `${name}: ${stderr}`);
    const result = await read(output);
    assert.equal([result.width, result.height], [width, height], name);
    assert.equal(result.alpha, name === 'alpha.png' ? Uint8Array.from({ length: width * height }, (_, i) => alpha(i)) : undefined, name);
    const quality = psnr(result, await read(photo));
    assert.ok(quality > 15, `${name}: ${quality} dB to the photo; is it turned, or its colours wrong?`);
  }
});

test('enlarges the photo and its alpha', async ({ folder }) => {
  const [photo, output] = [join(folder, 'in.png'), join(folder, 'out.png')];
  const image = { ...(await face(40, 64)), alpha: new Uint8Array(40 * 64).fill(100) };
  writeFileSync(photo, encodePng(image));
  const { code, stdout, stderr } = await supir(['restore', photo, '-o', output, '--upscale', '1.5', '--stage1-only', '--json']);
  assert.is(code, 0, stderr);
  const report = JSON.parse(stdout) as RestoreReport;
  assert.equal([report.width, report.height, report.working], [60, 96, { width: 64, height: 96 }]);
  const result = await read(output);
  assert.equal([result.width, result.height], [60, 96]);
  assert.ok(result.alpha?.every((value) => value === 100));
});

test("16 bits, WebP, and the photo's profile and EXIF", async ({ folder }) => {
  const [photo, shallow, deep] = ['in.jpg', 'out.png', 'deep.png'].map((name) => join(folder, name));
  const icc = new Uint8Array(200);
  icc[3] = icc.length; // the size that a profile begins with
  icc.set(
    [...'RGB '].map((letter) => letter.charCodeAt(0)),
    16,
  );
  icc.set(
    [...'acsp'].map((letter) => letter.charCodeAt(0)),
    36,
  );
  writeFileSync(photo, encodeJpeg({ ...(await face(64, 64)), metadata: { icc, exif: exifBlock(6, true) } }, 95));
  for (const [output, bits] of [
    [shallow, '8'],
    [deep, '16'],
  ]) {
    const { code, stderr } = await supir(['restore', photo, '-o', output, '--bits', bits, '--stage1-only', '--quiet']);
    assert.is(code, 0, stderr);
    assert.is(readFileSync(output)[24], Number(bits));
    assert.equal((await read(output)).metadata, { icc, exif: exifBlock(1, true) });
  }
  const web = join(folder, 'out.webp');
  assert.is((await supir(['restore', shallow, '-o', web, '--stage1-only', '--quiet'])).code, 0);
  assert.equal([...readFileSync(web).subarray(8, 12)].map((byte) => String.fromCharCode(byte)).join(''), 'WEBP');
  assert.equal((await read(web)).metadata, { icc, exif: exifBlock(1, true) });
  const [a, b] = [await read(shallow), await read(deep)];
  const differences = a.data.filter((value, i) => Math.abs(value - b.data[i]) > 1); // v / 255 and v / 257 round alike but for halves
  assert.is(differences.length, 0);
  const low = PNG.sync.read(readFileSync(deep), { skipRescale: true } as object).data as unknown as Uint16Array;
  assert.ok(low.filter((value) => value % 257 !== 0).length > low.length / 2, 'more than bytes');
});

test('an interrupted run ends with 130 and leaves nothing behind', async ({ folder }) => {
  const [photo, output] = [join(folder, 'in.png'), join(folder, 'out.png')];
  writeFileSync(photo, encodePng(await face(64, 64)));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const { code, stdout, stderr } = await startSupir(['restore', photo, '-o', output, '--steps', '500'], {
      interrupt: (text) => (text.includes('step 2 of 500') ? signal : null),
    }).finished;
    assert.is(code, 130, stderr);
    assert.is(stdout, '');
    assert.match(stderr, /\nInterrupted; no unfinished result was written\. With --state <folder> it could go on from the last step\.\n$/);
    assert.not(existsSync(output));
    assert.equal(readdirSync(folder), ['in.png']);
  }
});

test('help shows the commands and examples', async () => {
  const all = await supir(['--help']);
  assert.is(all.code, 0);
  assert.match(all.stdout, /restore/);
  const restore = await supir(['restore', '--help']);
  assert.is(restore.code, 0);
  assert.match(restore.stdout, /Examples:\n {2}\$ .* restore old\.jpg -o new\.png/);
  assert.match(restore.stdout, /--color-fix <how>[\s\S]{0,160}\(SUPIR:\s+wavelet/);
});

test.run();
