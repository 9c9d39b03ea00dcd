/** `supir restore` with DiffBIR and with a cleaner alone, from files to files. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport } from '../../cli/restore.ts';
import { encodePng } from '../../image/encode.ts';
import type { DiffBirChoice } from '../../restore/diffbir-options.ts';
import { TINY_RRDB, tinyDiffBirFiles } from '../support/tiny-diffbir.ts';
import { assertRefused, supir } from './run-cli.ts';

const test = suite('supir restore with DiffBIR');

const folder = mkdtempSync(join(tmpdir(), 'supir-diffbir-'));
const [model, photo] = [join(folder, 'model'), join(folder, 'photo.png')];
const SMALL = ['--min-size', '64', '--upscale', '2', '--steps', '2', '--cfg', '3'];

test.before(async () => {
  mkdirSync(model);
  for (const [name, bytes] of await tinyDiffBirFiles(TINY_RRDB)) writeFileSync(join(model, name), bytes);
  const data = Uint8Array.from({ length: 24 * 20 * 3 }, (_, i) => (i * 37) % 256);
  writeFileSync(photo, encodePng({ width: 24, height: 20, data }));
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

test('the model folder tells the method, and the recipe makes the picture again', async () => {
  const [first, again] = [join(folder, 'a.png'), join(folder, 'b.png')];
  const run = async (output: string, ...more: string[]) => {
    const { code, stdout, stderr } = await supir(['restore', photo, '-o', output, '--model', model, '--json', ...more]);
    assert.is(code, 0, stderr);
    return JSON.parse(stdout) as RestoreReport<DiffBirChoice>;
  };
  const report = await run(first, ...SMALL, '--prompt', 'a cat', '--sampler', 'edm_euler_a', '--control-scale', '0.8', '--noise-aug', '50');
  const { recipe } = report;
  assert.equal([report.width, report.height, report.working], [48, 40, { width: 128, height: 64 }]);
  assert.equal([recipe.method, recipe.options.sampler, recipe.options.controlScale], ['DiffBIR', 'edm_euler_a', 0.8]);
  assert.equal((await run(again, '--from', first)).warnings, []);
  assert.equal(readFileSync(again), readFileSync(first));
});

test('plan, drawings, inspection and conversion know the folder and the method', async () => {
  const path = (name: string) => join(folder, name);
  const done = async (...args: string[]) => {
    const { code, stdout, stderr } = await supir(args);
    assert.is(code, 0, `${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  const { sampler, steps } = JSON.parse(await done('plan', '--model', model, '--steps', '3', '--json'));
  assert.equal([sampler, steps.length, steps[0].cfg], ['spaced', 3, 4]);
  // The first level of v2.1 has no picture left: sigma is infinite.
  await done('plan', '--method', 'diffbir', '--sampler', 'spaced', '--steps', '4', '--plot', path('plan.svg'));
  assert.not.match(readFileSync(path('plan.svg'), 'utf8'), /NaN|Infinity/);
  assert.match(await done('inspect', model), /IRControlNet[\s\S]*Together they are a complete model, of the method DiffBIR\./);
  const { blocks } = JSON.parse(await done('inspect', '--graph', 'control', '--model', model, '--size', '64x64', '--json'));
  assert.ok(blocks.some((block: { path: string }) => block.path === 'control.zero_convs.3.0'));
  assert.match(await done('restore', '--model', model, '--help'), /Presets of the model .*\n {2}v2\.1 .*\n {2}v2\.1-denoise /);
  await done('convert', model, '-o', path('all.safetensors'), '--to', 'q8', '--quiet');
  assert.match(
    await done('inspect', path('all.safetensors')),
    /IRControlNet, cleaner RRDBNet.*\n.*It restores by itself, by the method DiffBIR/,
  );
  await done('convert', join(model, 'base.safetensors'), '-o', path('parts'), '--layout', 'diffusers', '--quiet');
  assert.equal(readdirSync(path('parts')).sort(), ['text_encoder', 'unet', 'vae']);
  const refused: [string[], RegExp][] = [
    [['plan', '--method', 'clean'], /no steps to plan: the method clean samples nothing/],
    [['plan', '--model', model, '--restore-cfg', '4'], /--restore-cfg is an option of SUPIR.*DiffBIR/],
    [['inspect', '--graph', 'cleaner'], /SUPIR has no network 'cleaner'; there are: .*denoiser/],
    [['convert', model, '-o', path('x'), '--layout', 'diffusers'], /no place for IRControlNet/],
  ];
  for (const [args, message] of refused) assertRefused(await supir(args), message, args.join(' '));
});

test('its parts, a forecast, several seeds and blocks of 4 bits, and what is refused', async () => {
  const cleaner = join(model, 'cleaner.safetensors');
  const cases: (() => Promise<void>)[] = [
    async () => {
      const { code, stdout, stderr } = await supir(['restore', photo, '-o', join(folder, 'c.png'), '--model', cleaner, '--json']);
      assert.is(code, 0, stderr);
      const { width, height, recipe } = JSON.parse(stdout) as RestoreReport;
      assert.equal([width, height, recipe.method], [96, 80, 'clean']);
    },
    async () => {
      const output = join(folder, 'n.png');
      const args = [
        'restore',
        photo,
        '-o',
        output,
        '--model',
        model,
        '--method',
        'clean',
        '--upscale',
        '1',
        '--compare',
        join(folder, 'n.html'),
      ];
      const { code, stderr } = await supir([...args, '--num-samples', '1']);
      assert.is(code, 0, stderr);
      assert.match(readFileSync(join(folder, 'n.html'), 'utf8'), /cleaned in one pass/);
    },
    async () => {
      const { code, stdout } = await supir([
        'restore',
        photo,
        '-o',
        join(folder, 'd.png'),
        '--model',
        model,
        ...SMALL,
        '--dry-run',
        '--weights',
        'q4',
      ]);
      assert.is(code, 0);
      for (const stage of ['clean', 'encode', 'text', 'sample', 'decode']) assert.match(stdout, new RegExp(`^${stage} `, 'm'));
    },
    async () => {
      const args = ['restore', photo, '-o', join(folder, 'e.png'), '--model', model];
      assertRefused(
        await supir([...args, '--restore-cfg', '4']),
        /--restore-cfg is an option of SUPIR.*DiffBIR/,
        'an option of another method',
      );
    },
    async () => {
      const args = ['restore', photo, '-o', join(folder, 'f.png'), '--method', 'clean'];
      assertRefused(await supir(args), /holds no cleaner/, 'a folder without a cleaner');
    },
  ];
  for (const each of cases) {
    await each();
  }
});

test.run();
