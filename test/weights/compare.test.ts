import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeF16 } from '../../core/half.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { compareWeights } from '../../weights/compare.ts';
import { convert } from '../../weights/convert.ts';
import { openTensorFile } from '../../weights/open.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import type { TensorFile } from '../../weights/tensor-file.ts';

type Tensors = Parameters<typeof encodeSafetensors>[0];
const file = (tensors: Tensors) => openTensorFile(bytesSource('given.safetensors', encodeSafetensors(tensors)));
const f32 = (shape: number[], ...values: number[]) => ({ dtype: 'F32' as const, shape, data: Float32Array.from(values) });

test('relative and largest error of every tensor, the worst first, across dtypes; what cannot be compared is listed', async () => {
  const first = await file([
    ['same', f32([2], 1, 2)],
    ['near', f32([2], 3, 4)],
    ['far', f32([1, 2], 0.5, 0)],
    ['shape', f32([2], 1, 2)],
    ['mine', f32([1], 1)],
    ['ids', { dtype: 'I64', shape: [1], data: BigInt64Array.of(1n) }],
  ]);
  const second = await file([
    ['same', { dtype: 'F16', shape: [2], data: encodeF16([1, 2]) }],
    ['near', f32([2], 3, 4.5)],
    ['far', f32([1, 2], 0.5, -0.75)],
    ['shape', f32([1, 2], 1, 2)],
    ['yours', f32([1], 1)],
    ['ids', { dtype: 'I64', shape: [1], data: BigInt64Array.of(2n) }],
  ]);
  const result = await compareWeights(first, second);
  assert.equal(
    result.tensors.map(({ name, relative, max, dtypes }) => [name, relative, max, ...dtypes]),
    [
      ['far', 1.5, 0.75, 'F32', 'F32'],
      ['near', 0.1, 0.5, 'F32', 'F32'],
      ['same', 0, 0, 'F32', 'F16'],
    ],
  );
  assert.ok(Math.abs(result.relative - Math.sqrt((0.75 ** 2 + 0.25) / (5 + 25 + 0.25))) < 1e-15);
  assert.equal([result.onlyFirst, result.onlySecond, result.otherShapes], [['mine'], ['yours'], ['shape']]);
});

test('values that are no numbers are the worst error, and zeros that became something are infinitely wrong', async () => {
  const first = await file([
    ['zero', f32([1], 0)],
    ['nan', f32([1], 1)],
    ['fine', f32([1], 1)],
  ]);
  const second = await file([
    ['fine', f32([1], 2)],
    ['zero', f32([1], 1)],
    ['nan', f32([1], Number.NaN)],
  ]);
  const { tensors } = await compareWeights(first, second);
  assert.equal(
    tensors.map(({ name, relative }) => [name, relative]),
    [
      ['nan', Number.NaN],
      ['zero', Number.POSITIVE_INFINITY],
      ['fine', 1],
    ],
  );
});

test('a tensor of several windows, against its own blocks', async () => {
  const values = Float32Array.from({ length: 96 * 32 * 2048 }, (_, i) => Math.sin(i * 12.9898) * 0.1);
  const original = await file([['a.weight', { dtype: 'F32', shape: [96, 65536], data: values }]]);
  for (const [dtype, least, most] of [
    ['Q8', 0.003, 0.006],
    ['Q4', 0.05, 0.09],
  ] as const) {
    const { plan, tensor } = await convert(original, dtype);
    const parts: Uint8Array<ArrayBuffer>[] = [plan.header];
    for await (const part of tensor(0)) parts.push(part);
    assert.ok(parts.length > 2);
    const other: TensorFile = await openTensorFile(bytesSource('blocks', new Uint8Array(await new Blob(parts).arrayBuffer())));
    const { tensors, relative } = await compareWeights(original, other);
    assert.is(tensors.length, 1);
    assert.ok(relative > least && relative < most && tensors[0].relative === relative, `${dtype} ${relative}`);
  }
});

test.run();
