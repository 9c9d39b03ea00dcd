import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convertCommand } from '../../cli/convert.ts';
import { UserError } from '../../core/errors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';

const test = suite('convert', { folder: '' });

test.before(async (context) => {
  context.folder = await mkdtemp(join(tmpdir(), 'supir-convert-'));
});

test.after((context) => rm(context.folder, { recursive: true }));

const run = (...args: string[]) => convertCommand().parseAsync([...args, '--quiet'], { from: 'user' });

const values = (n: number, value: number) => ({ dtype: 'F32' as const, shape: [n], data: new Float32Array(n).fill(value) });
const NAMES = ['a', 'b', 'c'].map((letter) => `first_stage_model.decoder.${letter}`);

test('what an interrupted run wrote is kept, if it is of the same files, and the result is the same', async ({ folder }) => {
  const [input, output] = [join(folder, 'in.safetensors'), join(folder, 'out.safetensors')];
  await writeFile(input, encodeSafetensors(NAMES.map((name, i) => [name, values(100, i + 1)])));
  await run(input, '-o', output);
  const whole = await readFile(output);
  assert.equal((await readdir(folder)).sort(), ['in.safetensors', 'out.safetensors']);
  const data = whole.length - 600;
  for (const length of [0, 5, data, data + 1, data + 200, data + 599, whole.length]) {
    await rm(output);
    const part = Buffer.from(whole.subarray(0, length));
    // A mark in a tensor that is whole shows whether it was kept.
    if (length >= data + 200) part[data] ^= 1;
    await writeFile(`${output}.part`, part);
    await run(input, '-o', output);
    const result = await readFile(output);
    if (length >= data + 200) result[data] ^= 1;
    assert.ok(result.equals(whole), `after ${length} bytes`);
  }
  await writeFile(`${output}.part`, whole.subarray(0, data + 200));
  await writeFile(input, encodeSafetensors(NAMES.map((name, i) => [name, values(100, i + 7)])));
  await run(input, '-o', output);
  assert.is((await readFile(output)).readUInt16LE(data), 0x4700, 'another source begins again');
  assert.not((await readdir(folder)).includes('out.safetensors.part'));
});

async function fails(action: () => Promise<unknown>, expected: RegExp): Promise<void> {
  const error = await action().catch((e: unknown) => e);
  assert.instance(error, UserError);
  assert.match((error as Error).message, expected);
}

test('nothing is left of a conversion that cannot succeed, and the old file stays', async ({ folder }) => {
  const [input, output] = [join(folder, 'big.safetensors'), join(folder, 'big16.safetensors')];
  await writeFile(input, encodeSafetensors([[NAMES[0], values(10, 1e6)]]));
  await writeFile(output, 'old');
  await fails(() => run(input, '-o', output), /element 0 of tensor "first_stage_model\.decoder\.a" is 1000000/);
  assert.is(String(await readFile(output)), 'old');
  assert.not((await readdir(folder)).includes('big16.safetensors.part'));
  await run(input, '-o', output, '--to', 'bf16');
  await fails(() => run(input, '-o', input), /is read and cannot be written at once/);
  await fails(() => run(join(folder, 'absent.ckpt'), '-o', output), /absent\.ckpt/);
  await fails(() => run(input, '-o', join(input, 'x.safetensors')), /big\.safetensors/);
});

test.run();
