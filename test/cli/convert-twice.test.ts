/** `supir convert` killed at any time, and twice at once to one name: the result is whole, and of one source. */
import { createHash } from 'node:crypto';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCommand } from '../../cli/convert.ts';
import { TorchRandom } from '../../core/random.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { refused } from '../support/refused.ts';
import { assertRefused, startSupir, supir } from './run-cli.ts';

const test = suite('convert, killed and twice', { folder: '', input: '' });

/** Many tensors, some 10 MB. */
const values = new TorchRandom(3).randn(2 ** 14);
const tensor = (length: number) => ({ dtype: 'F32' as const, shape: [length], data: values.subarray(0, length) });

test.before((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-twice-'));
  context.input = join(context.folder, 'in', 'in.safetensors');
  mkdirSync(join(context.folder, 'in'));
  const names = Array.from({ length: 160 }, (_, i) => `first_stage_model.decoder.${i}`);
  writeFileSync(context.input, encodeSafetensors(names.map((name, i) => [name, tensor(2 ** 14 - i)])));
});
test.after(({ folder }) => rmSync(folder, { recursive: true, force: true }));

const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const partSize = (path: string) => statSync(`${path}.part`, { throwIfNoEntry: false })?.size ?? -1;

test('killed at several sizes, the same command ends in the same bytes and leaves nothing else', async ({ folder, input }) => {
  const whole = join(folder, 'whole.safetensors');
  assert.is((await supir(['convert', input, '-o', whole])).code, 0);
  for (const [i, least] of [0, 3e6].entries()) {
    const output = join(folder, `killed${i}`, 'o.safetensors');
    const run = startSupir(['convert', input, '-o', output, '--quiet']);
    while (partSize(output) < least) await new Promise((done) => setTimeout(done, 1));
    run.child.kill('SIGKILL');
    const { code } = await run.finished;
    if (code === 'SIGKILL') assert.equal(readdirSync(join(folder, `killed${i}`)).sort(), ['o.safetensors.lock', 'o.safetensors.part']);
    assert.is((await supir(['convert', input, '-o', output])).code, 0);
    assert.equal(readdirSync(join(folder, `killed${i}`)), ['o.safetensors']);
    assert.is(digest(output), digest(whole), `killed at ${least} bytes`);
  }
});

test('twice at once: the one that comes second is told so, and the result is whole', async ({ folder, input }) => {
  const output = join(folder, 'twice', 'o.safetensors');
  const runs = [0, 1, 2].map(() => startSupir(['convert', input, '-o', output, '--quiet']));
  const ended = await Promise.all(runs.map(({ finished }) => finished));
  const winners = ended.filter(({ code }) => code === 0);
  assert.ok(winners.length >= 1, JSON.stringify(ended));
  for (const each of ended)
    if (each.code !== 0)
      assertRefused(each, /o\.safetensors is being written by another process \(number \d+, since .*\)\. Wait until/, 'the second');
  assert.equal(readdirSync(join(folder, 'twice')), ['o.safetensors']);
  assert.is(digest(output), digest(join(folder, 'whole.safetensors')));
});

test('no input is written over, by whatever name; names of full length serve', async ({ folder, input }) => {
  const convert = (from: string, to: string) => convertCommand().parseAsync([from, '-o', to, '--quiet'], { from: 'user' });
  const before = digest(input);
  const links = ['link.safetensors', 'hard.safetensors'].map((name) => join(folder, name));
  symlinkSync(input, links[0]);
  linkSync(input, links[1]);
  for (const output of [input, ...links, join(folder, 'in', '..', 'in', 'in.safetensors')])
    await refused(convert(join(folder, 'in'), output), /is read and cannot be written at once/);
  await refused(convert(input, folder), /Cannot write .*: it is a folder\./);
  const tooLong = join(folder, `${'n'.repeat(250)}.safetensors`);
  await refused(convert(input, tooLong), /^Cannot write .*: the name is longer than the file system allows\./);
  assert.is(digest(input), before);
  const long = join(folder, 'long', `${'n'.repeat(243)}.safetensors`);
  await convert(input, long);
  assert.equal(readdirSync(join(folder, 'long')), [`${'n'.repeat(243)}.safetensors`]);
});

test.run();
