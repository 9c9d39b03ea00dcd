import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeF16, encodeF16 } from '../../core/half.ts';
import { type SyntheticManifest, type SyntheticSpec, syntheticCheckpoint, syntheticTensor } from '../../weights/synthetic.ts';
import { jsonFixture } from '../support/fixtures.ts';

const manifest = await jsonFixture<SyntheticManifest>('golden/manifest_tiny.json');

/** SHA-256 of all tensors' bytes in order, of the files that the reference results were computed with. */
const PARTS: Record<string, string> = {
  sdxl: '80d2c88072fec7d06f6b94b63713766646b35ca7c4cf3fd64489eba22235f255',
  supir: '943f9fee6a67b15ec27cdc55982aa79fe33ce6886f6fddf2502e5589602215c2',
  lora_kohya: '94e967bc5122f7452e54e4be932462f4fefc1aa1bccc77f3912cf97118a7a14b',
  lora_peft: 'd54798124e82cbabca3e28ebb3c1ed554c91f7f1d49a94f7b0af162db701045a',
  lora_train_init: '3a71142f70dfa52f8a4748703a3a572dc6aafaec667370ce92d1faf7c0b22d7d',
};

for (const [part, hash] of Object.entries(PARTS)) {
  test(`every byte of ${part}`, async () => {
    const weights = syntheticCheckpoint(manifest, [part]);
    const all = await new Blob(await Promise.all(weights.keys().map((name) => weights.bytes(name)))).arrayBuffer();
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', all));
    assert.is(Array.from(digest, (b) => b.toString(16).padStart(2, '0')).join(''), hash);
  });
}

test('values fit f16 exactly, in every form of reading', async () => {
  const weights = syntheticCheckpoint(manifest, ['sdxl', 'supir']);
  const name = 'model.diffusion_model.time_embed.0.weight';
  const f32 = await weights.f32(name);
  const bits = await weights.f16bits(name);
  assert.equal(decodeF16(bits), f32);
  assert.equal(encodeF16(f32), bits);
  assert.equal(new Uint16Array((await weights.bytes(name, 20, 6)).buffer), bits.slice(10, 13));
  assert.equal(weights.info(name).shape, [256, 64]);
});

test('the spread is the kind’s', () => {
  const spread = (spec: Omit<SyntheticSpec, 'shape'>, gains = {}) => {
    const values = syntheticTensor('w', { shape: [100, 20, 5], ...spec }, 1, gains);
    const mean = values.reduce((a, b) => a + b) / values.length;
    return [mean, Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length)];
  };
  const near = (actual: number[], mean: number, std: number) => {
    assert.ok(Math.abs(actual[0] - mean) < 0.05 * (std || 1) && Math.abs(actual[1] - std) < 0.03 * (std || 1), `${actual}`);
  };
  near(spread({ kind: 'matrix' }), 0, 0.1);
  near(spread({ kind: 'matrix', gain: 0.5 }, { matrix: 3 }), 0, 0.15);
  near(spread({ kind: 'matrix_in_first' }), 0, 0.1);
  near(spread({ kind: 'embedding' }), 0, 0.25);
  near(spread({ kind: 'norm_bias' }), 0, 0.05);
  near(spread({ kind: 'norm_weight' }), 1, 0.1);
  near(spread({ kind: 'normal', base: 2, std: 0.5 }), 2, 0.5);
  assert.equal([...syntheticTensor('w', { shape: [], kind: 'constant', value: 4 })], [4]);
  assert.equal([...syntheticTensor('w', { shape: [1, 3], kind: 'position_ids' })], [0, 1, 2]);
});

test('names and salts make different values', () => {
  const values = (name: string, salt: number) => String(syntheticTensor(name, { shape: [8], kind: 'normal' }, salt));
  assert.is(new Set([values('a', 0), values('b', 0), values('a', 1), values('ä', 0)]).size, 4);
});

test('unknown parts and kinds are errors', () => {
  assert.throws(() => syntheticCheckpoint(manifest, ['sd15']), /no part "sd15"/);
  assert.throws(() => syntheticTensor('w', { shape: [1], kind: 'odd' as 'bias' }), /"w".*"odd"/);
});

test.run();
