/** `supir train`: a part of the demo model by a --config file, with samples and a model folder that restores; and what is refused. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { assertRefused, startSupir, supir } from './run-cli.ts';

const test = suite('train', { folder: '', photos: '' });
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-train-'));
  context.photos = join(context.folder, 'photos');
  mkdirSync(context.photos);
  const photo: Image = { width: 72, height: 64, data: Uint8Array.from({ length: 72 * 64 * 3 }, (_, i) => 128 + 100 * Math.sin(i / 90)) };
  writeFileSync(join(context.photos, 'a.png'), encodePng(photo));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

test('the denoise encoder, two steps', async ({ folder, photos }) => {
  const [config, output, photo] = [join(folder, 'config.json'), join(folder, 'out'), join(photos, 'a.png')];
  writeFileSync(
    config,
    JSON.stringify({ steps: 9, rate: 1e-3, 'validate-every': 1, blur: [1, 2], betas: [0.8, 0.9], checkpointing: false }),
  );
  const args = ['--config', config, '--steps', '2', '--validation', photos, '--sample', photo, '--json'];
  const run = await supir(['train', 'denoise-encoder', photos, '-o', output, ...args]);
  assert.is(run.code, 0, run.stderr);
  const lines = run.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(
    lines.filter(({ loss }) => loss !== undefined).map(({ step, learningRate }) => [step, learningRate]),
    [
      [1, 1e-3],
      [2, 1e-3],
    ],
    "the command line's steps, the file's rate",
  );
  assert.equal(readdirSync(join(output, 'samples')), ['000000-a.png', '000001-a.png', '000002-a.png']);
  assert.equal(readdirSync(join(output, 'model')).sort(), ['config.json', 'sdxl.safetensors', 'supir.safetensors', 'tokenizer.json']);
  assert.ok(readdirSync(output).includes('denoise-encoder.safetensors'));
  const [before, after] = [join(folder, 'before.png'), join(folder, 'after.png')];
  const restore = ['restore', photo, '--stage1-only', '-o'];
  const [one, two] = await Promise.all([supir([...restore, before]), supir([...restore, after, '--model', join(output, 'model')])]);
  assert.equal([one.code, two.code], [0, 0], one.stderr + two.stderr);
  assert.not.equal(readFileSync(after), readFileSync(before), 'the trained model restores, otherwise than the demo');
});

test('two in one folder: the second is refused; SIGHUP saves as Ctrl-C does, and nobody is locked out then', async ({ folder, photos }) => {
  const output = join(folder, 'out');
  const args = ['train', 'vae', photos, '-o', output, '--size', '64', '--steps', '9'];
  const first = startSupir([...args, '--json']);
  while (!existsSync(join(output, '.training.lock'))) await new Promise((done) => setTimeout(done, 5));
  assertRefused(
    await supir([...args, '--json']),
    /^A training in .*out is under way by another process \(number \d+, since /,
    'the second',
  );
  first.child.kill('SIGHUP');
  const ended = await first.finished;
  assert.is(ended.code, 130, ended.stderr);
  assert.match(ended.stderr, /step \d is saved, and --resume goes on from there/);
  assert.equal(readdirSync(output).sort(), ['log.jsonl', 'loss.svg', 'state.safetensors', 'vae.safetensors']);
});

test('what is refused, before any work', async ({ folder, photos }) => {
  const config = (value: unknown) => {
    const path = join(folder, `${JSON.stringify(value).replace(/\W/g, '') || 'x'}.json`);
    writeFileSync(path, typeof value === 'string' ? value : JSON.stringify(value));
    return ['--config', path];
  };
  mkdirSync(join(folder, 'empty'));
  writeFileSync(join(folder, 'A.png'), '');
  const cases: [args: string[], message: RegExp][] = [
    [['lora', photos], /1 of 1 images have no caption: a\.png\. Write each into a \.txt file of the same name/],
    [['vae', join(folder, 'empty')], /holds no images/],
    [['vae', join(folder, 'none')], /There is no folder/],
    [['unet', photos, '--sample', join(folder, 'none.png')], /There is no photo .*none\.png/],
    [['control', photos, '--caption', 'a', '--mode', 'denoising'], /its mode must be 'restoration'/],
    [['unet', photos, ...config({ rates: 1 })], /\.json: there is no option 'rates'; there are: mode, steps.*min_snr/],
    [['unet', photos, ...config({ rate: 'fast' })], /\.json: the option 'rate' is 'fast'; it must be a number/],
    [['unet', photos, ...config({ resume: 1 })], /the option 'resume' is 1; it must be true or false/],
    [['unet', photos, ...config('{')], /\.json is not JSON/],
    [['unet', photos, '--name', '../x'], /--name, with its ending, is \.\.\/x-best\.safetensors, which leads to another folder/],
    [['unet', photos, ...config({ name: 'a/b' })], /leads to another folder/],
    [['unet', photos, '--name', 'State'], /is the name of the training's own state/],
    [['unet', photos, '--sample', join(photos, 'a.png'), join(folder, 'A.png')], /A\.png has the name of another sample/],
    [['lora', photos, '--betas', '0.9'], /It must be a list of 2 numbers from 0/],
  ];
  for (const [args, message] of cases) {
    // Of its own, for two trainings in one folder are refused.
    const output = join(folder, `out-${cases.findIndex(([each]) => each === args)}`);
    assertRefused(await supir(['train', ...args, '-o', output, '--json']), message, args.join(' '));
  }
  assert.equal(
    readdirSync(folder).filter((name) => name.startsWith('out')),
    [],
  );
});

test.run();
