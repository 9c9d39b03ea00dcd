import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { decodeF16, encodeF16 } from '../../core/half.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { convert } from '../../weights/convert.ts';
import { encode, type StoredDType } from '../../weights/dtype.ts';
import { openTensorFile } from '../../weights/open.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { type SyntheticManifest, syntheticCheckpoint } from '../../weights/synthetic.ts';
import type { TensorFile } from '../../weights/tensor-file.ts';
import { converted } from '../support/converted.ts';
import { jsonFixture } from '../support/fixtures.ts';

const manifest = await jsonFixture<SyntheticManifest>('golden/manifest_tiny.json');

const file = (tensors: [string, { dtype: StoredDType; shape: number[]; data: ArrayBufferView }][]) =>
  openTensorFile(bytesSource('given.safetensors', encodeSafetensors(tensors)));

function same(a: Float32Array | Uint16Array, b: Float32Array | Uint16Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}

test('f16 to f32 and back is the same', async () => {
  const original = syntheticCheckpoint(manifest, ['supir']);
  const f32 = await converted(original, 'F32');
  const back = await converted(f32, 'F16');
  for (const name of original.names()) {
    assert.equal([f32.info(name).dtype, back.info(name).dtype], ['F32', 'F16']);
    assert.equal(back.info(name).shape, original.info(name).shape);
    const bits = await original.f16bits(name);
    assert.ok(same(await f32.f32(name), decodeF16(bits)), name);
    assert.ok(same(await back.f16bits(name), bits), name);
  }
});

test('bf16 keeps what it can hold, and loses no more by going around', async () => {
  const original = syntheticCheckpoint(manifest, ['lora_kohya']);
  const brain = await converted(original, 'BF16');
  const again = await converted(await converted(brain, 'F32'), 'BF16');
  for (const name of original.names()) {
    const [values, exact] = [await brain.f32(name), await original.f32(name)];
    assert.is(brain.info(name).dtype, 'BF16');
    assert.ok(same(await again.f32(name), values), name);
    assert.ok(
      values.every((value, i) => Math.abs(value - exact[i]) <= Math.abs(exact[i]) * 2 ** -8),
      name,
    );
  }
});

test('rounding is to nearest, ties to even; integers stay', async () => {
  const values = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -(1 + 2 ** -8), 3.4e38, Number.NaN, Number.NEGATIVE_INFINITY, 2 ** -140);
  assert.equal([...encode('BF16', values)], [0x3f80, 0x3f80, 0x3f82, 0xbf80, 0x7f80, 0x7fc0, 0xff80, 0]);
  const given = await file([
    ['w', { dtype: 'F32', shape: [2], data: Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11) }],
    ['e5m2', { dtype: 'F8_E5M2', shape: [1], data: Uint8Array.of(0xbc) }],
    ['ids', { dtype: 'I64', shape: [1], data: BigInt64Array.of(-3n) }],
  ]);
  const half = await converted(given, 'F16');
  assert.equal([...(await half.f16bits('w'))], [...encodeF16([1, 1 + 2 ** -9])]);
  assert.equal([...(await half.f32('e5m2'))], [-1]);
  assert.equal([half.info('ids').dtype, ...(await half.f32('ids'))], ['I64', -3]);
});

test('a value beyond f16 is refused with tensor and element', async () => {
  const given = await file([['big', { dtype: 'F32', shape: [3], data: Float32Array.of(1, 2, 70000) }]]);
  const error = await converted(given, 'F16').catch((e) => e);
  assert.instance(error, UserError);
  assert.match(error.message, /element 2 of tensor "big" is 70000/);
});

test('equal headers mean equal sources', async () => {
  const one = (value: number) => file([['w', { dtype: 'F32', shape: [1], data: Float32Array.of(value) }]]);
  const header = async (given: TensorFile) => String((await convert(given, 'F16')).plan.header);
  assert.is(await header(await one(1)), await header(await one(1)));
  assert.is.not(await header(await one(1)), await header(await one(2)));
});

test.run();
