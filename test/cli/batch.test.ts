/** `supir restore` on several photos: one model, one set of options, failures told and passed over, nothing left half-written. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { RestoreReport } from '../../cli/restore.ts';
import { host } from '../../host/node.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import { type Faults, FaultyGpu } from '../support/faulty-gpu.ts';
import { projectFile } from '../support/fixtures.ts';
import { assertRefused, startSupir, supir } from './run-cli.ts';

const test = suite('supir restore, several photos', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-batch-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

const quick = ['--steps', '1', '--min-size', '64'];

/** An album: two photos and their kind of trouble, one of them a folder deeper and with a caption. */
async function album(folder: string): Promise<string> {
  const path = join(folder, 'album');
  mkdirSync(join(path, 'inner'), { recursive: true });
  const photo = await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut');
  writeFileSync(join(path, 'a.png'), encodePng(crop(photo, 96, 48, 64, 48)));
  writeFileSync(join(path, 'inner', 'b.jpg'), encodeJpeg(crop(photo, 32, 64, 48, 64), 90));
  writeFileSync(join(path, 'inner', 'b.txt'), 'a woman. \n');
  writeFileSync(join(path, 'cut.png'), encodePng(photo).subarray(0, 3000));
  writeFileSync(join(path, 'no.jpg'), 'not a photo');
  writeFileSync(join(path, 'notes.md'), 'passed over');
  return path;
}

test('a folder: good photos are restored, bad ones told, the summary says how many', async ({ folder }) => {
  const [photos, results, stages, log] = [await album(folder), join(folder, 'out'), join(folder, 'stages'), join(folder, 'log.jsonl')];
  const { code, stdout, stderr } = await supir([
    'restore',
    photos,
    '--recursive',
    '-o',
    results,
    '--stage1',
    join(stages, '{name}.png'),
    '--log',
    log,
    ...quick,
  ]);
  assert.is(code, 1, stderr);
  assert.match(stdout, /^2 restored, 2 failed, 0 skipped$/m);
  assert.match(stderr, /2 of 4 photos could not be restored: .*cut\.png, .*no\.jpg\n$/);
  assert.not.match(stderr, /\n\s+at /);
  assert.equal(readdirSync(results, { recursive: true }).sort(), ['a.png', 'inner', join('inner', 'b.png')]);
  const lines = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RestoreReport & { error?: string });
  assert.equal(lines.map(({ error }) => error !== undefined).sort(), [false, false, true, true]);
  const prompts = lines.flatMap(({ recipe }) => (recipe ? [[recipe.photo.name.slice(-5), recipe.options.prompt]] : [])).sort();
  assert.equal(prompts, [
    ['a.png', ''],
    ['b.jpg', 'a woman. '],
  ]);

  assert.equal(readdirSync(stages, { recursive: true }).sort(), ['a.png', 'inner', join('inner', 'b.png')]);
  const alone = await supir(['restore', join(photos, 'inner', 'b.jpg'), '-o', join(folder, 'b.png'), '--stage1-only', '--json']);
  assert.is(
    (JSON.parse(alone.stdout) as RestoreReport).recipe.options.prompt,
    'a woman. ',
    'a single photo has its caption too, with a blank before the quality words',
  );

  const again = await supir(['restore', photos, '--recursive', '-o', results, '--skip-existing', ...quick]);
  assert.match(again.stdout, /^0 restored, 2 failed, 2 skipped$/m);
});

test('results that are there are neither replaced nor left without being asked', async ({ folder }) => {
  const [photos, results] = [await album(folder), join(folder, 'out')];
  mkdirSync(results);
  writeFileSync(join(results, 'a.png'), 'mine');
  const given = ['restore', join(photos, 'a.png'), join(photos, 'inner', 'b.jpg'), '-o', results, ...quick];
  assertRefused(await supir(given), /a\.png is there already\. --skip-existing leaves such results, --overwrite replaces them/, 'neither');
  assertRefused(await supir([...given, '--overwrite', '--skip-existing']), /give one/, 'both');
  assert.is(readFileSync(join(results, 'a.png'), 'utf8'), 'mine');
  assert.equal(readdirSync(results), ['a.png']);
  const { code, stdout } = await supir([...given, '--overwrite', '--stage1-only']);
  assert.is(code, 0);
  assert.match(stdout, /^2 restored, 0 failed, 0 skipped$/m);
  assert.is((await decode(readFileSync(join(results, 'a.png')), 'a.png')).width, 64);
});

test('killed twice in the middle, a run goes on from its last step to the same bytes, and no preview is missing', async ({ folder }) => {
  const photo = join(await album(folder), 'a.png');
  const [whole, output, state, all, previews] = ['whole.png', 'out.png', 'state', 'all', 'previews'].map((name) => join(folder, name));
  const settings = ['--steps', '30', '--min-size', '64', '--cfg', '2'];
  assert.is((await supir(['restore', photo, '-o', whole, ...settings, '--preview', all, '--quiet'])).code, 0);
  const given = ['restore', photo, '-o', output, ...settings, '--state', state, '--preview', previews];
  for (const step of [3, 14]) {
    const killed = await startSupir(given, { interrupt: (text) => (text.includes(`step ${step} of 30`) ? 'SIGKILL' : null) }).finished;
    assert.is(killed.code, 'SIGKILL', killed.stderr);
    assert.not(existsSync(output));
    assert.is(readdirSync(state).filter((name) => name.endsWith('.state.safetensors')).length, 1);
  }
  const { code, stdout, stderr } = await supir(given);
  assert.is(code, 0, stderr);
  const [, from] = /from step (\d+) on/.exec(stdout) ?? [];
  assert.ok(Number(from) >= 13 && Number(from) < 30, stdout); // the step that is told is under way
  assert.equal(readFileSync(output), readFileSync(whole));
  assert.equal(readdirSync(state), [], 'neither states nor temporary files');
  assert.equal(readdirSync(previews), readdirSync(all));
  for (const name of readdirSync(all)) assert.equal(readFileSync(join(previews, name)), readFileSync(join(all, name)), name);
});

test('shards part the photos among them; patterns and templates name files', async ({ folder }) => {
  const photos = await album(folder);
  const names = async (i: number) => {
    const results = join(folder, `out${i}`);
    const { code } = await supir([
      'restore',
      join(photos, '{a.png,inner/*.jpg}'),
      '-o',
      results,
      '--shard',
      `${i}/2`,
      '--name-template',
      'new-{name}',
      '--format',
      'jpg',
      ...quick,
    ]);
    assert.is(code, 0);
    return readdirSync(results);
  };
  assert.equal([...(await names(1)), ...(await names(2))].sort(), ['new-a.jpg', 'new-b.jpg']);
});

test('a recipe makes the same file again, and refuses another photo', async ({ folder }) => {
  const photos = await album(folder);
  const [photo, first, again] = [join(photos, 'a.png'), join(folder, 'first.png'), join(folder, 'again.png')];
  assert.is((await supir(['restore', photo, '-o', first, '--seed', '5', '--cfg', '1.5', ...quick])).code, 0);
  assert.is((await supir(['restore', photo, '-o', again, '--from', first])).code, 0);
  assert.equal(readFileSync(again), readFileSync(first));
  assertRefused(
    await supir(['restore', join(photos, 'inner', 'b.jpg'), '-o', again, '--from', first, '--quiet']),
    /other pixels/,
    'another photo',
  );
  assertRefused(await supir(['restore', photo, '-o', again, '--from', photo]), /carries no recipe/, 'no recipe');
});

/** Restores two photos, the first stage alone, on a driver with faults. */
async function onFaulty(folder: string, photos: string, faults: Faults) {
  const { gpu } = host;
  const faulty = new FaultyGpu(await gpu(), faults);
  host.gpu = async () => faulty.gpu;
  const out = join(folder, 'out');
  try {
    const result = await supir(['restore', join(photos, 'a.png'), join(photos, 'inner', 'b.jpg'), '-o', out, '--stage1-only']);
    const files = existsSync(out) ? readdirSync(out).map((name) => readFileSync(join(out, name))) : [];
    return { ...result, faulty, files };
  } finally {
    host.gpu = gpu;
    rmSync(out, { recursive: true, force: true });
  }
}

test('a GPU that is lost again and again ends the batch with a plain word', async ({ folder }) => {
  const { code, stdout, stderr, faulty, files } = await onFaulty(folder, await album(folder), { loseAt: () => true });
  assert.is(code, 3, stderr);
  assert.match(stdout, /^0 restored, 1 failed, 0 skipped$/m);
  assert.match(stderr, /The batch was stopped, because the GPU is lost again and again\. 1 photo was not begun; the same command/);
  assert.is(faulty.losses, 3);
  assert.equal(files, []);
});

test('other faults of a driver, in a batch: the same pictures, or the right words for every photo', async ({ folder }) => {
  const photos = await album(folder);
  const whole = await onFaulty(folder, photos, {});
  assert.is(whole.files.length, 2, whole.stderr);
  // Lost once, and no adapter for a while.
  const lost = await onFaulty(folder, photos, { loseAt: (submit) => submit === 5, nullFor: 1500 });
  assert.is(lost.code, 0, lost.stderr);
  assert.equal([lost.faulty.losses, lost.faulty.refusedAdapters], [1, 1]);
  assert.match(lost.stderr, /The GPU device was lost .*\. Trying once more on a new device\./);
  assert.equal(lost.files, whole.files);

  const dropped = await onFaulty(folder, photos, { dropAt: () => true });
  assert.is(dropped.code, 1, dropped.stderr);
  assert.match(dropped.stdout, /^0 restored, 2 failed, 0 skipped$/m);
  assert.is(dropped.stderr.match(/are 0\. Probably the driver dropped/g)?.length, 4);

  const refused = await onFaulty(folder, photos, { memory: 5e5 });
  assert.is(refused.code, 1, refused.stderr);
  assert.match(refused.stderr, /Out of GPU memory while placing .*smaller image or tiles/);
  assert.equal([...dropped.files, ...refused.files], []);
});

test('what cannot be is refused before the work', async ({ folder }) => {
  const photos = await album(folder);
  const out = join(folder, 'out');
  writeFileSync(join(photos, 'a.jpg'), 'x');
  assertRefused(await supir(['restore', photos, '-o', out]), /would both become/, 'one result for two');
  assertRefused(await supir(['restore', join(folder, 'nothing*.png'), '-o', out]), /No photo \(PNG, JPEG/, 'an empty pattern');
  assertRefused(
    await supir(['restore', photos, '-o', out, '--stage1', join(folder, 's.png'), '--name-template', '{name}']),
    /would both become/,
    'stage 1 of many',
  );
  assert.is((await supir(['restore', photos, '-o', out, '--shard', '3/2'])).code, 2);
  assertRefused(
    await supir(['restore', join(photos, 'a.png'), '-o', join(folder, 'r.png'), '--log', join(out, 'log.jsonl')]),
    /Cannot write the log .*log\.jsonl: /,
    'a log that cannot be',
  );
  assert.not(readdirSync(folder).includes('out'));
});

test.run();
