/** States of runs: what was kept comes back, and everything else is told. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { DEFAULTS } from '../../restore/options.ts';
import type { Recipe } from '../../restore/recipe.ts';
import { RunState } from '../../restore/run-state.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { checkSeal, encodeSealed } from '../../weights/seal.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refused } from '../support/refused.ts';

const recipe: Recipe = {
  version: '0',
  model: { name: 'm', fingerprint: 'f1' },
  loras: [],
  adapter: 'a',
  photo: { name: 'p', width: 1, height: 1, sha256: 's' },
  options: { ...DEFAULTS, steps: 9 },
};
const latent = Float32Array.from([0, 1.5, -2, 3e-20]);
const step = { step: 2, steps: 9, latent, denoised: latent.map((value) => -value) };

async function kept(): Promise<{ files: MemoryFiles; path: string; bytes: Uint8Array<ArrayBuffer> }> {
  const files = new MemoryFiles();
  await (await RunState.open(files, 'states', recipe)).save(step as never);
  const [[path, bytes]] = files.files;
  files.exists = async () => true;
  return { files, path, bytes };
}

test('a state comes back as it was', async () => {
  const { files } = await kept();
  const { saved, others } = await RunState.open(files, 'states', recipe);
  assert.equal(saved, { startStep: 2, latent, denoised: step.denoised });
  assert.is(others, 0);
});

test('a bit changed anywhere is told, or changes nothing', async () => {
  const { files, path, bytes } = await kept();
  let told = 0;
  for (let at = 0; at < bytes.length; at++) {
    const changed = bytes.slice();
    changed[at] ^= 1 << ((at * 5) % 8);
    files.files.set(path, changed);
    const opened = await RunState.open(files, 'states', recipe).catch((error) => error);
    if (opened instanceof UserError) {
      told++;
      assert.match(opened.message, /^The state states\/\w+\.state\.safetensors is damaged\. Remove it, and the run starts again\.$/);
    } else assert.equal(opened.saved, { startStep: 2, latent, denoised: step.denoised }, `byte ${at}`);
  }
  assert.ok(told > bytes.length - 16, `${told} of ${bytes.length} bytes`);
});

test('zeros, another step, another run under this name, and a state without a seal are refused', async () => {
  const { files, path, bytes } = await kept();
  const damaged = /^The state .* is damaged\. Remove it/;
  const tensors = (done: number, values = latent) =>
    [
      ['latent', { dtype: 'F32', shape: [values.length], data: values }],
      ['denoised', { dtype: 'F32', shape: [latent.length], data: latent }],
      ['step', { dtype: 'I32', shape: [1], data: Int32Array.of(done) }],
    ] as const;
  const metadata = { recipe: JSON.stringify(recipe) };
  const seal = (await openSafetensors(bytesSource('x', bytes))).metadata.get('sha256')!;
  const cases: [what: string, bytes: Uint8Array<ArrayBuffer>][] = [
    ['zeros', new Uint8Array(bytes.length)],
    ['zeros at the end', bytes.map((byte, i) => (i < bytes.length - 20 ? byte : 0))],
    ['cut off', bytes.slice(0, -1)],
    ['empty', new Uint8Array()],
    ['no seal', encodeSafetensors(tensors(2), metadata)],
    ['another step under its seal', encodeSafetensors(tensors(7), { ...metadata, sha256: seal })],
    ['step 0', await encodeSealed(tensors(0), metadata)],
    ['sizes that differ', await encodeSealed(tensors(2, latent.subarray(1)), metadata)],
    [
      'weights that changed',
      await encodeSealed(tensors(2), { recipe: JSON.stringify({ ...recipe, model: { name: 'm', fingerprint: 'f2' } }) }),
    ],
    ['no recipe', await encodeSealed(tensors(2), {})],
  ];
  for (const [what, each] of cases) {
    files.files.set(path, each);
    await refused(RunState.open(files, 'states', recipe), damaged).catch((error) => assert.unreachable(`${what}: ${error.message}`));
  }
  files.files.set(path, await encodeSealed(tensors(2), metadata));
  assert.is((await RunState.open(files, 'states', recipe)).saved!.startStep, 2);
});

test('another model has another state; what lies there of others is told with what to do', async () => {
  const { files } = await kept();
  const state = await RunState.open(files, 'states', { ...recipe, model: { name: 'm', fingerprint: 'f2' } });
  assert.is(state.saved, null);
  assert.is(state.others, 1);
  assert.match(state.othersInWords(), /^states holds the state of another run: .*starts again.*remove states\/\*\.state\.safetensors\.$/);
});

test('a seal holds names, shapes, types, values and metadata', async () => {
  const one = { dtype: 'F32' as const, shape: [4], data: latent };
  const sealed = await encodeSealed([['a', one]], { x: '1' });
  const { metadata } = await openSafetensors(bytesSource('a', sealed));
  const meta = Object.fromEntries(metadata);
  await checkSeal(await openSafetensors(bytesSource('a', sealed)));
  const ints = { dtype: 'I32' as const, shape: [4], data: new Int32Array(latent.buffer) };
  for (const other of [
    encodeSafetensors([['b', one]], meta),
    encodeSafetensors([['a', { ...one, shape: [2, 2] }]], meta),
    encodeSafetensors([['a', ints]], meta),
    encodeSafetensors([['a', one]], { ...meta, x: '2' }),
    encodeSafetensors([['a', one]], { ...meta, y: '1' }),
    encodeSafetensors(
      [
        ['a', one],
        ['b', one],
      ],
      meta,
    ),
  ])
    await refused(checkSeal(await openSafetensors(bytesSource('a', other))), /^a does not agree with its checksum/);
});

test.run();
