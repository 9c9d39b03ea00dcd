/** `supir evaluate` on the demo model: files and tables that agree, and what is refused. */
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { TINY_RRDB, tinyDiffBirFiles } from '../support/tiny-diffbir.ts';
import { assertRefused, supir } from './run-cli.ts';

const test = suite('evaluate', { folder: '' });
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-evaluate-'));
  mkdirSync(join(context.folder, 'in'));
  const photo: Image = { width: 72, height: 64, data: Uint8Array.from({ length: 72 * 64 * 3 }, (_, i) => 128 + 100 * Math.sin(i / 90)) };
  for (const name of ['a', 'b']) writeFileSync(join(context.folder, 'in', `${name}.png`), encodePng(photo));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

test('bicubic, stage 1, SUPIR, another setting and another program', async ({ folder }) => {
  const [input, output, methods] = [join(folder, 'in'), join(folder, 'out'), join(folder, 'methods.json')];
  const rival = join(folder, 'diffbir');
  mkdirSync(rival);
  for (const [name, bytes] of await tinyDiffBirFiles(TINY_RRDB)) writeFileSync(join(rival, name), bytes);
  writeFileSync(
    methods,
    JSON.stringify([
      { name: 'one step', options: { steps: 1 } },
      { name: 'DiffBIR', model: rival, options: { preset: 'v2', steps: 1, cfg: 1, min_size: 64 } },
      { name: 'cleaner', model: rival, method: 'clean' },
    ]),
  );
  const results = `same=${input}`;
  const args = ['--steps', '2', '--crop', '64', '--methods', methods, '--results', results, '--baseline', 'bicubic', '--json'];
  const run = await supir(['evaluate', input, '-o', output, ...args]);
  assert.match(run.stderr, /same: the result for a is 72x64, and the photo 64x64/, 'photos were cropped, these results not');
  assert.is(run.code, 2);
  const { rows, summaries } = JSON.parse(run.stdout);
  assert.equal(
    rows.map(({ method, photo }: { method: string; photo: string }) => `${method} ${photo}`),
    ['bicubic', 'stage1', 'supir', 'one step', 'DiffBIR', 'cleaner'].flatMap((method) => [`${method} a`, `${method} b`]),
    'what was there before the error is kept',
  );
  assert.equal(summaries[0].photos, ['a', 'b']);
  assert.ok(new Set(rows.map(({ psnr }: { psnr: number }) => psnr)).size >= 6, 'every method has its own result');
  assert.equal(readdirSync(output).sort(), [
    'DiffBIR',
    'bicubic',
    'cleaner',
    'damaged',
    'figure.png',
    'one-step',
    'results.csv',
    'results.json',
    'stage1',
    'supir',
    'tables.md',
    'truth',
  ]);
  const memory = new Map(rows.map(({ method, gpuMb }: { method: string; gpuMb: number | null }) => [method, gpuMb]));
  assert.is(memory.get('bicubic'), null);
  for (const method of ['supir', 'DiffBIR', 'cleaner']) assert.ok((memory.get(method) as number) > 0.1, method);
  assert.is(readFileSync(join(output, 'results.json'), 'utf8'), run.stdout.trimEnd());

  const again = await supir(['evaluate', input, '-o', output, ...args.slice(0, 6), '--baseline', 'bicubic', '--resume', '--json']);
  assert.is(again.code, 0, again.stderr);
  assert.equal(JSON.parse(again.stdout).rows.slice(2), rows.slice(2), 'taken over with their times; bicubic is done again');
  const rowsNow = () => JSON.parse(readFileSync(join(output, 'results.json'), 'utf8')).rows;
  assert.equal(rowsNow(), JSON.parse(again.stdout).rows, 'and all of them are kept');
  // Without the method of the file, whose rows are kept for the next time.
  const less = await supir(['evaluate', input, '-o', output, ...args.slice(0, 4), '--baseline', 'bicubic', '--resume', '--json']);
  assert.is(less.code, 0, less.stderr);
  assert.is(rowsNow().length, 6);
  const more = await supir(['evaluate', input, '-o', output, ...args.slice(0, 6), '--baseline', 'bicubic', '--resume', '--json']);
  assert.equal(JSON.parse(more.stdout).rows.slice(2), rows.slice(2), 'nothing was computed again');
  assert.not(readdirSync(output).includes('.evaluation.lock'));
  const photo = readFileSync(join(input, 'a.png'));
  writeFileSync(join(input, 'a.png'), encodePng({ width: 72, height: 64, data: new Uint8Array(72 * 64 * 3) }));
  const stale = await supir(['evaluate', input, '-o', output, ...args.slice(0, 6), '--resume']);
  assertRefused(stale, /results\.json is of other photos or other damage/, 'another photo under the same name');
  writeFileSync(join(input, 'a.png'), photo);
  const other = await supir(['evaluate', input, '-o', output, ...args.slice(0, 6), '--blur', '1', '--resume']);
  assertRefused(other, /results\.json is of other photos or other damage/, 'another degradation');
});

test('what is refused, before any work', async ({ folder }) => {
  const [input, output, bad] = [join(folder, 'in'), join(folder, 'out'), join(folder, 'bad.json')];
  writeFileSync(bad, '[{"lora": "a"}]');
  const method = (name: string, value: object) => {
    writeFileSync(join(folder, name), JSON.stringify([{ name: 'm', ...value }]));
    return ['--methods', join(folder, name)];
  };
  mkdirSync(join(folder, 'empty'));
  mkdirSync(join(folder, 'A'));
  copyFileSync(join(input, 'a.png'), join(folder, 'A', 'A.png'));
  const cases: [args: string[], message: RegExp][] = [
    [[join(folder, 'empty')], /No photo \(.*\) was found/],
    [[input, '--baseline', 'best'], /no method 'best' to compare with; there are: bicubic, stage1, supir/],
    [[input, '--group', 'g=a,z'], /--group names photos that are not there: z/],
    [[input, '--methods', bad], /bad\.json: the name of method 1 is undefined; it must be a text/],
    [[input, ...method('a.json', { options: { step: 3 } })], /a\.json, method 'm': there is no option 'step'; there are: sampler/],
    [
      [input, ...method('b.json', { options: { steps: 0 } })],
      /b\.json, method 'm': the option 'steps' is 0; it must be an integer from 1 to 1000/,
    ],
    [[input, ...method('c.json', { lora: ['x:high'] })], /'x:high' in 'lora' is wrong/],
    [[input, ...method('d.json', { lora: [join(folder, 'x')] })], /Cannot open .*x: it does not exist/],
    [[input, ...method('e.json', { name: '..' })], /the name of method 1, '\.\.', means a folder/],
    [[input, ...method('f.json', { name: 'a/b' })], /leads to another folder/],
    [[input, ...method('g.json', { name: 'supir ' })], /ends with a blank/],
    [[input, ...method('h.json', { name: 'Supir' })], /name 'Supir' is taken, by 'supir'/],
    [[input, ...method('i.json', { name: 'TRUTH' })], /name 'TRUTH' is taken, by 'truth'/],
    [[input, '--results', `stage 1=${input}`, '--results', `stage*1=${input}`], /name 'stage\*1' is taken, by 'stage 1'/],
    [[input, '--results', `..=${input}`], /name '\.\.' means a folder/],
    [[input, join(folder, 'A')], /a\.png and .*A\.png have one name/],
    [[input, '--results', `supir=${input}`], /name 'supir' is taken/],
    [[input, '--lpips', join(input, 'a.png')], /a\.png/],
    [[input, '--scale', '0'], /'--scale <factor\.\.\.>' argument '0' is invalid\. It must be a number from 1 to 1000/],
  ];
  for (const [args, message] of cases) {
    assertRefused(await supir(['evaluate', ...args, '-o', output]), message, args.join(' '));
  }
  assert.not.ok(readdirSync(folder).includes('out'));
});

test('no photo, and no other result, is written over', async ({ folder }) => {
  const photos = join(folder, 'set', 'truth');
  mkdirSync(photos, { recursive: true });
  copyFileSync(join(folder, 'in', 'a.png'), join(photos, 'a.png'));
  const before = readFileSync(join(photos, 'a.png'));
  assertRefused(await supir(['evaluate', photos, '-o', join(folder, 'set')]), /truth\/a\.png would be written over .*a\.png/, 'a photo');
  const others = ['evaluate', join(folder, 'in'), '-o', join(folder, 'set'), '--results', `other=${photos}`];
  assertRefused(await supir(others), /Pictures of truth would be written into .*truth/, 'results of another program');
  assert.equal(readFileSync(join(photos, 'a.png')), before);
  assert.equal(readdirSync(join(folder, 'set')), ['truth']);
});

test.run();
