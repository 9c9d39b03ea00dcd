/** Fingerprints of weights: what they tell apart, what makes no difference to them, and what they cost for a large file. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { convert } from '../../weights/convert.ts';
import { comparable, fingerprint } from '../../weights/fingerprint.ts';
import { openTensorFile } from '../../weights/open.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import type { TensorFile } from '../../weights/tensor-file.ts';

type Tensors = Record<string, Uint8Array>;

const random = new TorchRandom(7);
const bytes = (size: number) => Uint8Array.from({ length: size }, () => random.uint32() & 0xff);
const open = (tensors: Tensors, name = 'm.safetensors') =>
  openTensorFile(
    bytesSource(
      name,
      encodeSafetensors(Object.entries(tensors).map(([key, data]) => [key, { dtype: 'U8' as const, shape: [data.length], data }])),
    ),
  );
const of = async (tensors: Tensors, whole?: number) => fingerprint(await open(tensors), { whole });
const changed = (tensors: Tensors, name: string, change: (data: Uint8Array) => void): Tensors => {
  const data = tensors[name].slice();
  change(data);
  return { ...tensors, [name]: data };
};

const model: Tensors = { bias: bytes(40), norm: bytes(5000), matrix: bytes(3_300_007), conv: bytes(1_048_577), empty: bytes(0) };

test('of a file that is read whole, every bit of every tensor counts', async () => {
  const own = await of(model);
  assert.match(own, /^w2-[0-9a-f]{64}$/);
  assert.is(await of({ ...model }), own);
  for (const [name, { length }] of Object.entries(model)) {
    for (const at of [0, length >> 1, length - 1, 4096, 4097].filter((each) => each >= 0 && each < length)) {
      const other = await of(
        changed(model, name, (data) => {
          data[at] ^= 1;
        }),
      );
      assert.is.not(other, own, `${name}, byte ${at}`);
    }
  }
});

test('of a larger one: small tensors, ends, and any mebibyte of a large tensor', async () => {
  const own = await of(model, 0);
  assert.is.not(own, await of(model));
  for (const [name, { length }] of Object.entries(model)) {
    const whole = length <= 8192;
    const places = whole ? [0, length >> 1, length - 1] : [0, 4095, length - 4096, length - 1];
    for (const at of places.filter((each) => each >= 0 && each < length)) {
      const other = await of(
        changed(model, name, (data) => {
          data[at] ^= 0x80;
        }),
        0,
      );
      assert.is.not(other, own, `${name}, byte ${at}`);
    }
  }
  // As a source that was damaged: a piece of a mebibyte and a little that is all zero, wherever it lies.
  for (let begin = 4096; begin + 1_060_000 < 3_300_007; begin += 300_000)
    assert.is.not(
      await of(
        changed(model, 'matrix', (data) => data.fill(0, begin, begin + 1_060_000)),
        0,
      ),
      own,
      `zeros from ${begin}`,
    );
  // As a model that was trained on: all values, but not those that a look at the beginning sees.
  for (const name of ['matrix', 'conv'])
    assert.is.not(
      await of(
        changed(model, name, (data) => void data.set(bytes(data.length - 4096), 4096)),
        0,
      ),
      own,
      name,
    );
});

test('names, dtypes and shapes count; files and their order do not', async () => {
  const own = await of(model);
  assert.is.not(await of({ ...model, bias2: bytes(1) }), own);
  const { bias, ...rest } = model;
  assert.is.not(await of({ ...rest, bia: bias }), own);
  const shaped = encodeSafetensors(
    Object.entries(model).map(([key, data]) => [key, { dtype: 'U8', shape: key === 'bias' ? [4, 10] : [data.length], data }]),
  );
  assert.is.not(await fingerprint(await openTensorFile(bytesSource('m', shaped))), own);
  const typed = encodeSafetensors(
    Object.entries(model).map(([key, data]) => [key, { dtype: key === 'bias' ? 'I8' : 'U8', shape: [data.length], data }]),
  );
  assert.is.not(await fingerprint(await openTensorFile(bytesSource('m', typed))), own);
  for (const whole of [undefined, 0]) {
    assert.is(await of(Object.fromEntries(Object.entries(model).reverse()), whole), await of(model, whole));
    const { matrix, ...others } = model;
    const two = new Checkpoint([await open({ matrix }, 'one'), await open(others, 'two')]);
    assert.is(await fingerprint(two, { whole }), await of(model, whole));
  }
});

test('of 7 GB it reads less than a hundredth, and not all at once', async () => {
  const names = Array.from({ length: 2600 }, (_, i) => `${i}`);
  const size = (name: string) => (Number(name) % 3 === 0 ? 8_000_000 : 2560);
  let [read, reads, under, most] = [0, 0, 0, 0];
  const file: Pick<TensorFile, 'names' | 'info' | 'bytes'> = {
    names: () => [...names],
    info: (name) => ({ name, dtype: 'U8', shape: [size(name)], begin: 0, end: size(name) }),
    async bytes(_, __, length) {
      read += length!;
      reads++;
      most = Math.max(most, ++under);
      await Promise.resolve();
      under--;
      return new Uint8Array(length!);
    },
  };
  await fingerprint(file);
  const total = names.reduce((sum, name) => sum + size(name), 0);
  assert.ok(total > 6.9e9 && read < total / 100, `${read} of ${total}`);
  assert.ok(reads < 12_000, `${reads} reads`);
  assert.ok(most <= 16, `${most} at once`);
});

test('a read that fails is the error, and nothing is left under way', async () => {
  const file = await open(model);
  const failing: Pick<TensorFile, 'names' | 'info' | 'bytes'> = {
    names: () => file.names(),
    info: (name) => file.info(name),
    bytes: (name, ...range) => (name === 'matrix' ? Promise.reject(new Error('gone')) : file.bytes(name, ...range)),
  };
  const error = await fingerprint(failing).catch((each) => each);
  assert.is(error.message, 'gone');
});

test('a conversion of another source has another header, so that a part of it is begun again', async () => {
  const weights = Float32Array.from({ length: 60_000 }, () => random.randn(1)[0]);
  const source = async (values: Float32Array) =>
    openTensorFile(bytesSource('m.safetensors', encodeSafetensors([['w', { dtype: 'F32', shape: [300, 200], data: values }]])));
  const header = async (values: Float32Array) => (await convert(await source(values), 'F16')).plan.header;
  const own = await header(weights);
  assert.equal(await header(weights.slice()), own);
  const cut = weights.slice().fill(0, 1024);
  assert.not.equal(await header(cut), own);
  const last = weights.slice();
  last[last.length - 1] += 1;
  assert.not.equal(await header(last), own);
});

test('fingerprints of earlier versions cannot be compared', () => {
  assert.ok(comparable('w2-aa', 'w2-bb'));
  assert.ok(comparable('aa', 'bb'));
  assert.not(comparable('w2-aa', 'aa'));
});

test.run();
