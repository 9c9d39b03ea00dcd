/** `supir degrade`: the library's pixels, the same every time, and no half results. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { degrade } from '../../image/degrade.ts';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { assertRefused, startSupir, supir } from './run-cli.ts';

const test = suite('degrade', { folder: '' });
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-degrade-'));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

const photo: Image = { width: 40, height: 24, data: Uint8Array.from({ length: 40 * 24 * 3 }, (_, i) => (i * 37 + (i >> 4) * 11) & 255) };

test('a reader that goes away does not end the work', async ({ folder }) => {
  mkdirSync(join(folder, 'in'));
  for (let i = 0; i < 20; i++) writeFileSync(join(folder, 'in', `${i}.png`), encodePng(photo));
  const run = startSupir(['degrade', join(folder, 'in'), '-o', join(folder, 'out'), '--json']);
  run.child.stdout!.destroy();
  const { code, stderr } = await run.finished;
  assert.equal([code, stderr], [0, '']);
  assert.is(readdirSync(join(folder, 'out')).length, 20);
});

test('a folder, with what was drawn for each photo; a damaged file among them', async ({ folder }) => {
  mkdirSync(join(folder, 'in'));
  for (const name of ['a.png', 'b.png']) writeFileSync(join(folder, 'in', name), encodePng(photo));
  writeFileSync(join(folder, 'in', 'c.png'), 'no picture');
  const run = await supir(['degrade', join(folder, 'in'), '-o', join(folder, 'out'), '--blur', '1', '3', '--noise', '9', '--json']);
  assert.is(run.code, 1, run.stderr);
  assert.match(run.stderr, /1 of 3 photos could not be damaged: .*c\.png/);
  const lines = run.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.is(lines.length, 3);
  assert.match(lines[2].error, /c\.png: this is not an image file/);
  const [a, b] = lines;
  assert.ok(a.degradation.blur >= 1 && a.degradation.blur <= 3 && a.degradation.blur !== b.degradation.blur);
  for (const { output, degradation } of [a, b]) {
    assert.is(degradation.noise, 9);
    assert.equal(await decode(readFileSync(output), output), degrade(photo, degradation));
  }
  assert.equal(readdirSync(join(folder, 'out')).sort(), ['a.png', 'b.png']);
});

test("the paper's damage by itself, small; and what is refused", async ({ folder }) => {
  const [input, output] = [join(folder, 'a.png'), join(folder, 'b.png')];
  writeFileSync(input, encodePng(photo));
  const [small, ...refused] = await Promise.all([
    supir(['degrade', input, '-o', output, '--keep-small']),
    supir(['degrade', input, '-o', join(folder, 'c.png'), '--scale', '0.5']),
    supir(['degrade', input, '-o', input]),
  ]);
  assert.is(small.code, 0, small.stderr);
  const image = await decode(readFileSync(output), output);
  assert.equal(image, degrade(photo, { blur: 2, scale: 4, enlarge: false }));
  assert.equal([image.width, image.height], [10, 6]);
  assertRefused(refused[0], /argument '0\.5' is invalid\. It must be a number from 1 to 1000/, 'scale');
  assertRefused(refused[1], /it is the photo itself/, 'itself');
  assert.equal(readdirSync(folder).sort(), ['a.png', 'b.png']);
});

test.run();
