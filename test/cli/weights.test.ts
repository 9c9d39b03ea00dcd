/** Files of weights on the command line: into 4 bits and back, compared, and used. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { supir } from './run-cli.ts';

const SUPIR = fileURLToPath(new URL('../../demo/supir.safetensors', import.meta.url));
let folder: string;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'supir-weights-'));
});

test.after(() => rm(folder, { recursive: true }));

async function done(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await supir(args);
  assert.is(code, 0, stderr);
  return stdout;
}

test('convert --to q4, inspect, inspect --compare, and back to f16', async () => {
  const [q4, f16] = [join(folder, 'q4.safetensors'), join(folder, 'f16.safetensors')];
  await done('convert', SUPIR, '-o', q4, '--to', 'q4', '--quiet');
  assert.ok((await stat(q4)).size < 0.5 * (await stat(SUPIR)).size);
  const [report] = JSON.parse(await done('inspect', q4, '--json')).files;
  assert.is(report.title, 'SUPIR checkpoint');
  const control = report.parts.find(({ component }: { component: string }) => component === 'control_model');
  assert.ok(control.dtypes.includes('Q4') && control.dtypes.includes('F16'));

  const compared = JSON.parse(await done('inspect', SUPIR, '--compare', q4, '--json'));
  const errors = compared.tensors.map(({ relative }: { relative: number }) => relative);
  assert.equal(
    errors,
    [...errors].sort((a, b) => b - a),
  );
  assert.ok(errors[0] > 0.05 && errors[0] < 0.2, `${errors[0]}`);
  assert.ok(compared.relative > 0.01 && compared.relative < 0.09, `${compared.relative}`);
  assert.equal([compared.onlyFirst, compared.onlySecond, compared.otherShapes], [[], [], []]);

  await done('convert', q4, '-o', f16, '--quiet');
  const back = JSON.parse(await done('inspect', q4, '--compare', f16, '--json'));
  assert.ok(back.relative < 3e-4, `rounding to f16: ${back.relative}`);
  const text = await done('inspect', SUPIR, '--compare', q4);
  assert.match(text, /F16 Q4 .*\.weight/);
  assert.match(text, /of them equal; relative error over all/);
});

test('what cannot be in blocks is refused, and nothing is written', async () => {
  const out = join(folder, 'none.safetensors');
  for (const [args, expected] of [
    [['convert', SUPIR, '-o', out, '--to', 'q4', '--layout', 'diffusers'], /q4 is a form of this program's own/],
    [['convert', SUPIR, '-o', out, '--to', 'q5'], /Allowed choices are f16, bf16, f32, q8, q4/],
    [['inspect', SUPIR, '--compare', join(folder, 'absent')], /absent/],
  ] as const) {
    const { code, stderr } = await supir([...args]);
    assert.is(code, 2, stderr);
    assert.match(stderr, expected);
  }
  assert.is(await stat(out).catch(() => null), null);
});

test.run();
