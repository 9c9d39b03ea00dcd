/** --memory and --dry-run: what is foretold, and that nothing is written. */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { assertRefused, supir } from './run-cli.ts';

const photo = new URL('../../demo/photos/cat-noisy.jpg', import.meta.url).pathname;
const output = join(tmpdir(), 'supir-dry-run', 'never.png');
const dryRun = (...args: string[]) => supir(['restore', photo, '-o', output, '--min-size', '64', '--dry-run', ...args]);

test('a dry run tells memory, reading and time, and restores nothing', async () => {
  const [text, json] = await Promise.all([dryRun(), dryRun('--json', '--memory', '0.05')]);
  assert.is(text.code, 0, text.stderr);
  assert.match(text.stdout, /256x256 pixels at work\nAll weights stay: .*\n/);
  assert.match(text.stdout, /\nGPU memory [\d.]+ GB at most.*\nWeights read: .*\nAbout /);
  assert.match(text.stdout, /\nsample +whole +10 /);
  const { input, forecast } = JSON.parse(json.stdout);
  assert.is(input, photo);
  assert.equal([forecast.budget, forecast.budgetFrom], [50e6, 'given']);
  assert.ok(forecast.peakGpuBytes <= 50e6 && forecast.seconds > 0);
  assert.not(existsSync(output));
});

test('memory that does not suffice is refused with the numbers, in a dry run and without', async () => {
  const message = /does not fit: 5 MB of GPU memory are allowed, and this needs \d+ MB at least/;
  assertRefused(await dryRun('--memory', '0.005'), message, 'a dry run');
  assertRefused(await supir(['restore', photo, '-o', output, '--quiet', '--memory', '0.005']), message, 'restoring');
  assertRefused(await dryRun('--memory', 'much'), /--memory.*must be a number above 0/, 'no number');
});

test.run();
