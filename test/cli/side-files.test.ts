/** What `supir restore` writes beside its results: comparisons, previews, reports, several samples. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { comparePage } from '../../cli/compare-page.ts';
import type { RestoreReport } from '../../cli/restore.ts';
import { sidePaths } from '../../cli/side-files.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { psnr } from '../../image/metrics.ts';
import { RECIPE_KEYWORD } from '../../restore/recipe.ts';
import type { FidelityReport } from '../../restore/report.ts';
import { projectFile } from '../support/fixtures.ts';
import { assertRefused, supir } from './run-cli.ts';

const test = suite('side files', { folder: '', photo: '' });

test.before.each(async (context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-side-'));
  context.photo = join(context.folder, 'in.png');
  writeFileSync(context.photo, encodePng(await face()));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

async function face(): Promise<Image> {
  return crop(await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut'), 96, 48, 64, 64);
}

async function read(path: string): Promise<Image> {
  return decode(readFileSync(path), path);
}

/** The pictures inside a page, in order. */
function pictures(html: string): Promise<Image>[] {
  return [...html.matchAll(/src="data:image\/png;base64,([^"]+)"/g)].map(([, text]) => decode(Buffer.from(text, 'base64'), 'picture'));
}

test('one photo with everything', async ({ folder, photo }) => {
  const at = (name: string) => join(folder, name);
  const args = [
    '--steps',
    '2',
    '--compare',
    at('c.html'),
    '--preview',
    at('steps'),
    '--report',
    at('r.json'),
    '--stage1',
    at('s.png'),
    '--json',
  ];
  const { code, stdout, stderr } = await supir(['restore', photo, '-o', at('out.png'), ...args]);
  assert.is(code, 0, stderr);
  const told = JSON.parse(stdout) as RestoreReport;
  assert.equal([told.compare, told.preview, told.report, told.changeMap], [at('c.html'), at('steps'), at('r.json'), at('r-changes.png')]);
  assert.equal(readdirSync(folder).sort(), ['c.html', 'in.png', 'out.png', 'r-changes.png', 'r.json', 's.png', 'steps']);
  const [input, result, stage1] = [await read(photo), await read(at('out.png')), await read(at('s.png'))];

  const shown = await Promise.all(pictures(readFileSync(at('c.html'), 'utf8')));
  assert.equal(
    shown.map(({ data }) => data),
    [result.data, input.data, stage1.data],
  );

  assert.equal(readdirSync(at('steps')).sort(), ['stage1.png', 'step-01.png', 'step-02.png']);
  assert.ok(psnr(await read(join(at('steps'), 'stage1.png')), stage1) > 48);
  const last = await read(join(at('steps'), 'step-02.png'));
  assert.ok(psnr(last, result) > 18, `the last preview is ${psnr(last, result)} dB from the result`);

  const report = JSON.parse(readFileSync(at('r.json'), 'utf8')) as FidelityReport & { changeMap: string; meaning: Record<string, string> };
  assert.is(report.changeMap, at('r-changes.png'));
  assert.match(report.meaning['change.*.strong'], /Share of pixels/);
  assert.ok(report.consistency.result.psnr! >= psnr(result, input) - 1e-9, 'the best blur is no worse than none');
  assert.ok(report.change.photo.mean > 0 && report.change.photo.max <= 255);
  const map = await read(at('r-changes.png'));
  assert.equal([map.width, map.height], [3 * 64 + 8, 64 + 13]);
});

test('several samples: consecutive seeds, a contact sheet, side files of each', async ({ folder, photo }) => {
  const run = (...more: string[]) => supir(['restore', photo, '-o', join(folder, 'out.png'), '--steps', '1', '--seed', '7', ...more]);
  const many = ['--num-samples', '2', '--compare', join(folder, '{name}.compare.png'), '--json'];
  const { code, stdout, stderr } = await run(...many);
  assert.is(code, 0, stderr);
  const reports = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RestoreReport);
  assert.equal(
    reports.map(({ recipe }) => recipe.options.seed),
    [7, 8],
  );
  const files = ['in.png', 'out-1.compare.png', 'out-1.png', 'out-2.compare.png', 'out-2.png', 'out-samples.png'];
  assert.equal(readdirSync(folder).sort(), files);
  const [first, second, sheet] = [
    await read(join(folder, 'out-1.png')),
    await read(join(folder, 'out-2.png')),
    await read(join(folder, 'out-samples.png')),
  ];
  assert.not.equal(first.data, second.data);
  assert.equal(crop(sheet, 0, 13, 64, 64).data, first.data);
  assert.equal(crop(sheet, 68, 13, 64, 64).data, second.data);
  const compared = await read(join(folder, 'out-2.compare.png'));
  assert.equal(crop(compared, 2 * 68, 13, 64, 64).data, second.data);
  assert.equal(crop(compared, 0, 13, 64, 64).data, (await read(photo)).data);

  rmSync(join(folder, 'out-1.png'));
  rmSync(join(folder, 'out-samples.png'));
  const again = await run(...many, '--skip-existing');
  assert.is(again.code, 0, again.stderr);
  assert.is(again.stdout.trim().split('\n').length, 1, 'only the missing one is made again');
  assert.equal((await read(join(folder, 'out-1.png'))).data, first.data);
  assert.ok(existsSync(join(folder, 'out-samples.png')));
  assert.ok(readFileSync(join(folder, 'out-1.png')).includes(RECIPE_KEYWORD));
});

test('names without a folder of their own lie in the output folder, where it is one', () => {
  const flags = { report: '{name}.json', stage1: join('stages', '{name}.png'), preview: '{name}-steps' };
  const result = join('out', 'inner', 'b.png');
  const several = sidePaths(flags, result, 'out');
  assert.equal(
    [several.report, several.changeMap, several.stage1, several.preview],
    [
      join('out', 'inner', 'b.json'),
      join('out', 'inner', 'b-changes.png'),
      join('stages', 'inner', 'b.png'),
      join('out', 'inner', 'b-steps'),
    ],
  );
  assert.is(sidePaths(flags, result, null).report, 'b.json', 'of one photo they are as they were given');
});

test('refuses files that would overwrite each other or cannot be', async ({ folder, photo }) => {
  const at = (name: string) => join(folder, name);
  const cases: [args: string[], message: RegExp][] = [
    [['--compare', at('c.gif')], /Cannot write .*c\.gif: the name must end in \.html or \.png\./],
    [['--report', at('r.txt')], /Cannot write .*r\.txt: the name must end in \.json\./],
    [['--compare', at('out.png')], /Two files would be written to .*out\.png/],
    [['--compare', photo], /it is the photo itself/],
    [['--num-samples', '2', '--report', at('r.json')], /Two files would be written to .*r\.json.*\{name\}/],
    [['--num-samples', '2', '--stage1', at('s.png')], /Two files would be written to .*s\.png.*\{name\}/],
    [['--num-samples', '0'], /'--num-samples <n>' argument '0' is invalid/],
    [['--preview', photo], /Cannot write/],
  ];
  for (const [args, message] of cases) {
    assertRefused(await supir(['restore', photo, '-o', at('out.png'), ...args]), message, args.join(' '));
  }
  assert.equal(readdirSync(folder), ['in.png']);
});

test('a page asks nothing of the network, and names in it are text', async () => {
  const image = await face();
  const page = comparePage({
    title: '<b>&"x".jpg',
    caption: 'a < b',
    photo: image,
    stage1: image,
    restored: { ...image, alpha: new Uint8Array(64 * 64) },
  });
  assert.not.match(page, /https?:|<b>|src="(?!data:)/);
  assert.match(page, /<title>&#60;b&#62;&#38;&#34;x&#34;\.jpg/);
  assert.match(page, /aria-label="[^"]+"/);
  assert.is(pictures(page).length, 3);
  for (const each of await Promise.all(pictures(page))) assert.equal([each.data, each.alpha], [image.data, undefined]);
});

test.run();
