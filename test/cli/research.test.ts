/** The research switches from the command line: schedules as a table and a plot, project modules switched off. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { schedulePlot } from '../../cli/plan.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { chooseOptions } from '../../restore/choose-options.ts';
import { plannedSteps } from '../../restore/sampling.ts';
import type { PlannedStep } from '../../sampler/planned.ts';
import { projectFile } from '../support/fixtures.ts';
import { assertRefused, supir } from './run-cli.ts';

const test = suite('research switches', { folder: '', photo: '' });

test.before.each(async (context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-research-'));
  context.photo = join(context.folder, 'in.png');
  const astronaut = await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut');
  writeFileSync(context.photo, encodePng(crop(astronaut, 96, 48, 64, 64)));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

test('the plan is what the samplers do', async () => {
  const steps = (given: object) => plannedSteps(chooseOptions({ sChurn: 5, ...given }, SUPIR_SDXL));
  const edm = await steps({ steps: 10, cfg: 4, cfgStart: 1, controlScale: 1, controlLinear: true, controlStart: 0.5 });
  assert.is(edm.length, 10);
  assert.ok(Math.abs(edm[0].sigma - 14.6146) < 1e-3, `${edm[0].sigma}`);
  assert.ok(Math.abs(edm[0].sigmaHat / edm[0].sigma - Math.SQRT2) < 1e-9, 'churn of 5 in 10 steps is at its limit');
  assert.ok(Math.abs(edm[0].controlScale - 0.5) < 1e-4 && edm[9].controlScale > 0.95);
  assert.ok(edm[0].cfg < 1 && edm[9].cfg > 3.5, 'guidance is measured at the noise with churn');
  const euler = await steps({ sampler: 'euler', steps: 4, cfg: 1, cfgStart: 1 });
  assert.ok(euler.every(({ sigma, sigmaHat, cfg, controlScale }) => sigma === sigmaHat && cfg === 1 && controlScale === 1));
  // No step of a scale that changes could leave the negative branch out: none is exactly 1 (methods.md).
  for (const sampler of ['edm', 'euler', 'dpmpp2m'])
    for (const scales of [
      { cfg: 4, cfgStart: 1 },
      { cfg: 1, cfgStart: 4 },
    ])
      assert.not.ok(
        (await steps({ sampler, steps: 8, sChurn: 0, ...scales })).some(({ cfg }) => cfg === 1),
        `${sampler} ${scales.cfg}`,
      );
});

test('plan prints a table and draws', async ({ folder }) => {
  const plot = join(folder, 'new', 'schedule.svg');
  const { code, stdout, stderr } = await supir(['plan', '--steps', '6', '--cfg', '3', '--plot', plot]);
  assert.is(code, 0, stderr);
  assert.match(stdout, /^step +sigma with churn +guidance +control\n +1 +14\.6146 /);
  assert.is(stdout.trim().split('\n').length, 8);
  assert.ok(stdout.endsWith(`Drawn in ${plot}\n`));
  const svg = readFileSync(plot, 'utf8');
  assert.is(svg.match(/<polyline/g)?.length, 4);
  const cached = await supir(['plan', '--steps', '6', '--cache', '0.5', '--plot', plot]);
  assert.equal(cached.stdout.match(/(whole|reused)$/gm), ['whole', 'reused', 'reused', 'whole', 'reused', 'whole']);
  assert.is(readFileSync(plot, 'utf8').match(/<polyline/g)?.length, 5);
  const json = await supir(['plan', '--steps', '6', '--cfg', '3', '--json']);
  const { steps } = JSON.parse(json.stdout) as { steps: PlannedStep[] };
  assert.equal([steps.length, steps[0].step], [6, 1]);

  for (const [args, message] of [
    [['--plot', join(folder, 'a.png')], /the name must end in \.svg/],
    [['--steps', '0'], /'--steps <n>' argument '0' is invalid/],
    [['--cache', '0.91'], /'--cache <share>' argument '0.91' is invalid/],
    [['--model', join(folder, 'none')], /There is no model folder/],
  ] as [string[], RegExp][]) {
    assertRefused(await supir(['plan', ...args]), message, args.join(' '));
  }
});

test('the plot is well-formed for one step and for many', async () => {
  for (const steps of [1, 2, 50, 1000]) {
    const options = chooseOptions({ steps, cfg: 0, cfgStart: 0, controlScale: 0 }, SUPIR_SDXL);
    const svg = schedulePlot(options.sampler, await plannedSteps(options));
    assert.not.match(svg, /NaN|Infinity|undefined/, `${steps} steps`);
    assert.is(svg.match(/<text/g)?.length, svg.match(/<\/text>/g)?.length);
    const labels = [...svg.matchAll(/text-anchor="middle"[^>]*>(\d+)</g)].map(([, label]) => Number(label));
    assert.equal([labels[0], labels[labels.length - 1]], [1, steps]);
    assert.ok(labels.length <= 11 && labels.every((label, i) => i === 0 || label > labels[i - 1]), labels.join());
  }
});

test('inspect draws a network', async ({ folder }) => {
  const [drawing, demo] = [join(folder, 'decoder.svg'), join(import.meta.dirname, '..', '..', 'demo')];
  const drawn = await supir(['inspect', '--graph', 'decoder', '--model', demo, '--size', '64x48', '-o', drawing]);
  assert.equal([drawn.code, drawn.stdout], [0, `Drawn in ${drawing}\n`], drawn.stderr);
  assert.match(readFileSync(drawing, 'utf8'), /decoder of supir-demo-2 at 64 × 48 pixels/);
  const { stdout } = await supir(['inspect', '--graph', 'decoder', '--model', demo, '--size', '64x48', '--json']);
  const { blocks } = JSON.parse(stdout) as { blocks: { path: string; shape: number[] }[] };
  const last = blocks[blocks.length - 1];
  assert.equal([last.path, last.shape], ['first_stage_model.decoder.conv_out', [1, 48, 64, 3]]);
  for (const [args, message] of [
    [['--graph', 'decoder', '--size', '64x40', '--model', demo], /multiples of 16 for supir-demo-2/],
    [['--graph', 'decoder', '--size', 'big'], /width x height/],
    [['--graph', 'none'], /Allowed choices are .*denoiser, unet/],
    [['--graph', 'decoder', '-o', join(folder, 'a.png')], /the name must end in \.svg/],
    [[], /Name files of weights, or draw a network/],
  ] as [string[], RegExp][]) {
    assertRefused(await supir(['inspect', ...args]), message, args.join(' '));
  }
});

test('without any project module the photo does not steer; one that is not there is refused', async ({ folder, photo }) => {
  const pixels = async (name: string, ...more: string[]) => {
    const { code, stderr } = await supir(['restore', photo, '-o', join(folder, name), '--steps', '1', '--quiet', ...more]);
    assert.is(code, 0, stderr);
    return (await decode(readFileSync(join(folder, name)), name)).data;
  };
  const without = await pixels('plain.png', '--control', '0'); // the former name of --control-scale
  assert.equal(await pixels('off.png', '--ablate', '0-11'), without);
  assert.not.equal(await pixels('one.png', '--ablate', '11'), without);
  const before = readdirSync(folder);
  const cases: [string[], RegExp][] = [
    [['--ablate', '12'], /'ablate' names project module 12; this model has those from 0 to 11/],
    [['--ablate', '5-3'], /It must be a list of integers from 0 to 999, such as 0,3-5/],
    [['--control-scale-per-module', '1,1'], /has 2 factors; this model has 12/],
    [['--control-scale-per-module', '1,x'], /It must be a list of numbers from 0 to 2/],
  ];
  for (const [args, message] of cases) {
    assertRefused(await supir(['restore', photo, '-o', join(folder, 'out.png'), '--quiet', ...args]), message, args.join(' '));
  }
  assert.equal(readdirSync(folder), before);
});

test('activations on the way, as files and pictures', async ({ folder, photo }) => {
  const restore = (...more: string[]) => supir(['restore', photo, '-o', join(folder, 'out.png'), '--steps', '2', '--quiet', ...more]);
  const { code, stderr } = await restore(
    '--trace',
    '*.diffusion_model.middle_block,*.project_modules.11',
    '--trace-to',
    join(folder, '{name}'),
  );
  assert.is(code, 0, stderr);
  const names = ['middle_block', 'project_modules.11'].map((name) => `model.diffusion_model.${name}.png`);
  const files = ['001', '002'].flatMap((step) => [`evaluation-${step}.safetensors`, ...names.map((name) => `evaluation-${step}.${name}`)]);
  assert.equal(readdirSync(join(folder, 'out')).sort(), files.sort());
  // 64 pixels are 16 of the latent's and 4 in the middle; of its 64 channels 8 stand in a row.
  const picture = await decode(readFileSync(join(folder, 'out', `evaluation-001.${names[0]}`)), 'picture');
  assert.equal([picture.width, picture.height], [8 * 5 - 1, 8 * 5 - 1]);

  assertRefused(await restore('--trace', 'x'), /--trace-to/, 'no folder');
  assertRefused(
    await restore('--trace', 'nothing', '--trace-to', join(folder, 'none')),
    /None of the activations.*There are: model\./,
    'no name',
  );
});

test.run();
