import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { encodeF16, toF16 } from '../../core/half.ts';
import { type ByteSource, blobSource, bytesSource } from '../../weights/byte-source.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';

/** A file with the given header text and data, right or wrong. */
function fileOf(header: string | Uint8Array, data = new Uint8Array(0), length?: number): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setUint32(0, length ?? text.length, true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

const open = (file: Uint8Array) => openSafetensors(bytesSource('model.safetensors', file));

async function fails(action: () => Promise<unknown>, ...parts: RegExp[]): Promise<void> {
  let error: unknown;
  try {
    await action();
  } catch (e) {
    error = e;
  }
  assert.instance(error, UserError);
  for (const part of parts) assert.match((error as Error).message, part);
  assert.not.match((error as Error).message, '\n');
}

const refuses = (file: Uint8Array, ...parts: RegExp[]) => fails(() => open(file), /model\.safetensors/, ...parts);

const entry = (dtype: string, shape: unknown, begin: unknown, end: unknown) => JSON.stringify({ dtype, shape, data_offsets: [begin, end] });

test('what is written is read back, whatever the dtype', async () => {
  const file = await open(
    encodeSafetensors(
      [
        ['half', { dtype: 'F16', shape: [3], data: encodeF16([1, -0.5, 65504]) }],
        ['brain', { dtype: 'BF16', shape: [2], data: Uint16Array.of(0x3f80, 0xc000) }],
        ['single', { dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, 2.5, -3, 1e-8) }],
        ['double', { dtype: 'F64', shape: [1], data: Float64Array.of(Math.PI) }],
        ['long', { dtype: 'I64', shape: [2], data: BigInt64Array.of(-1n, 4294967297n) }],
        ['int', { dtype: 'I32', shape: [], data: Int32Array.of(-7) }],
        ['bytes', { dtype: 'U8', shape: [1, 3], data: Uint8Array.of(0, 128, 255) }],
        ['e4m3', { dtype: 'F8_E4M3', shape: [1], data: Uint8Array.of(0x38) }],
        ['e5m2', { dtype: 'F8_E5M2', shape: [1], data: Uint8Array.of(0xbc) }],
        ['none', { dtype: 'F32', shape: [0, 4], data: new Float32Array(0) }],
        ['__proto__', { dtype: 'U8', shape: [1], data: Uint8Array.of(9) }],
      ],
      { format: 'pt', prompt: 'größe "x"' },
    ),
  );
  assert.is(file.metadata.get('prompt'), 'größe "x"');
  assert.is(file.names().length, 11);
  assert.equal([...(await file.f32('half'))], [1, -0.5, 65504]);
  assert.equal([...(await file.f32('brain'))], [1, -2]);
  assert.equal([...(await file.f32('single'))], [1, 2.5, -3, Math.fround(1e-8)]);
  assert.equal([...(await file.f32('double'))], [Math.fround(Math.PI)]);
  assert.equal([...(await file.f64('double'))], [Math.PI]);
  assert.equal(await file.ints('long'), [-1, 4294967297]);
  assert.equal(await file.ints('int'), [-7]);
  assert.equal(await file.ints('bytes'), [0, 128, 255]);
  assert.equal([...(await file.f32('e4m3'))], [1]);
  assert.equal([...(await file.f32('e5m2'))], [-1]);
  assert.equal([...(await file.f32('none'))], []);
  assert.equal(await file.ints('__proto__'), [9]);
  assert.equal(file.info('single').shape, [2, 2]);
  assert.not(file.has('constructor'));
  await fails(() => file.ints('half'), /"half" \(F16\)/);
});

test('f16 bits: as stored, or rounded, or refused by name', async () => {
  const file = await open(
    encodeSafetensors([
      ['half', { dtype: 'F16', shape: [2], data: Uint16Array.of(0x7c00, 0x0001) }],
      ['single', { dtype: 'F32', shape: [3], data: Float32Array.of(1.0004, Number.NEGATIVE_INFINITY, 65519) }],
      ['big', { dtype: 'BF16', shape: [2], data: Uint16Array.of(0x3f80, 0x4780) }], // 1, 65536
    ]),
  );
  assert.equal([...(await file.f16bits('half'))], [0x7c00, 0x0001]);
  assert.equal([...(await file.f16bits('single'))], [toF16(1.0004), 0xfc00, 0x7bff]);
  await fails(() => file.f16bits('big'), /model\.safetensors/, /"big"/, /element 1/, /65536/);
});

test('a range of a tensor is one read of that range', async () => {
  const reads: [number, number][] = [];
  const file = encodeSafetensors([
    ['a', { dtype: 'F32', shape: [4], data: Float32Array.of(1, 2, 3, 4) }],
    ['b', { dtype: 'F32', shape: [2], data: Float32Array.of(5, 6) }],
  ]);
  const memory = bytesSource('m', file);
  const spy: ByteSource = {
    ...memory,
    read(offset, length) {
      reads.push([offset, length]);
      return memory.read(offset, length);
    },
  };
  const tensors = await openSafetensors(spy);
  assert.ok(
    reads.every(([offset, length]) => offset + length <= file.length - 24),
    'opening reads no tensor',
  );
  reads.length = 0;
  assert.equal([...new Float32Array((await tensors.bytes('b', 4, 4)).buffer)], [6]);
  assert.equal(reads, [[file.length - 4, 4]]);
  await fails(() => tensors.bytes('b', 4, 5), /tensor "b"/);
  await fails(() => tensors.bytes('b', -1), /tensor "b"/);
  await fails(() => tensors.f32('c'), /no tensor "c"/);
});

test('a blob reads like memory; a source that ends early is an error', async () => {
  const file = encodeSafetensors([['a', { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) }]]);
  const blob = await openSafetensors(blobSource('m', new Blob([file])));
  assert.equal([...(await blob.f32('a'))], [1, 2]);
  const memory = bytesSource('cut', file);
  const cut = await openSafetensors({ ...memory, read: async (o, n) => (await memory.read(o, n)).slice(0, o > 8 ? n - 1 : n) });
  await fails(() => cut.f32('a'), /cut/, /tensor "a"/, /7 of the 8/);
});

test('a fresh array: changing it changes nothing else', async () => {
  const file = await open(encodeSafetensors([['a', { dtype: 'F32', shape: [1], data: Float32Array.of(1) }]]));
  (await file.f32('a'))[0] = 5;
  assert.is((await file.f32('a'))[0], 1);
});

test('unaligned tensors are read', async () => {
  const data = new Uint8Array(5);
  new DataView(data.buffer).setFloat32(1, 2.5, true);
  const file = await open(fileOf(`{"a":${entry('U8', [1], 0, 1)},"b":${entry('F32', [1], 1, 5)}}`, data));
  assert.equal([...(await file.f32('b'))], [2.5]);
});

test('lengths that lie', async () => {
  await refuses(new Uint8Array(7), /too few/);
  await refuses(fileOf('{}', undefined, 3), /has 2 after it/);
  await refuses(fileOf('{}', undefined, 1), /2 to 100000000 are allowed/);
  const far = fileOf('{}');
  far[7] = 0xff;
  await refuses(far, /has 2 after it/);
  const huge: ByteSource = {
    name: 'h',
    size: 1e9,
    read: async (_, n) => Uint8Array.of(0, 0xe1, 0xf5, 0x0b, 0, 0, 0, 0, ...new Uint8Array(n - 8)),
  };
  await fails(() => openSafetensors(huge), /2 to 100000000 are allowed/);
});

test('headers that are no header', async () => {
  await refuses(fileOf('{"a":'), /not valid UTF-8 JSON/);
  await refuses(fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)), /not valid UTF-8 JSON/);
  await refuses(fileOf('\ufeff{}'), /not valid UTF-8 JSON/);
  await refuses(fileOf('[1]'), /not an object/);
  await refuses(fileOf('null'), /not an object/);
  await refuses(fileOf(' {}'), /starts with "\{"/);
  await refuses(fileOf('['.repeat(100_000)), /nested more than 8 deep/);
  await refuses(fileOf('{"__metadata__":{"a":1}}'), /__metadata__/);
  await refuses(fileOf('{"__metadata__":[]}'), /__metadata__/);
  assert.equal((await open(fileOf('{}   '))).names(), []);
});

test('names used twice, plainly, escaped or inside an entry', async () => {
  const a = entry('U8', [1], 0, 1);
  await refuses(fileOf(`{"a":${a},"a":${a}}`, new Uint8Array(1)), /"a" twice/);
  await refuses(fileOf(`{"a":${a},"\\u0061":${a}}`, new Uint8Array(1)), /"a" twice/);
  await refuses(fileOf(`{"a":{"dtype":"F64","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, new Uint8Array(1)), /"dtype" twice/);
  await refuses(fileOf(`{"__metadata__":{"k":"v","k":"w"}}`), /"k" twice/);
  const tricky = await open(fileOf(`{"a\\"b,{":${a},"a":${entry('U8', [0], 1, 1)}}`, new Uint8Array(1)));
  assert.equal(tricky.names(), ['a"b,{', 'a']);
});

test('entries that contradict themselves or the file', async () => {
  const one = (text: string, bytes = 4) => fileOf(`{"w":${text}}`, new Uint8Array(bytes));
  await refuses(one('7'), /"w" is not described/);
  await refuses(one(entry('F31', [1], 0, 4)), /"w" has dtype "F31"; known are/);
  await refuses(one(entry('toString', [1], 0, 4)), /"w" has dtype/);
  await refuses(one('{"shape":[1],"data_offsets":[0,4]}'), /"w" has dtype missing/);
  for (const shape of [[-1], [1.5], ['1'], [2 ** 53], { length: 1 }, 1, null])
    await refuses(one(entry('F32', shape, 0, 4)), /"w" has shape/);
  await refuses(one(entry('F32', [1], 4, 0)), /"w" has data_offsets/);
  await refuses(one(entry('F32', [1], -4, 0)), /"w" has data_offsets/);
  await refuses(one('{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}'), /"w" has data_offsets/);
  await refuses(one(entry('F32', [2], 0, 4)), /takes 8 bytes.*has 4/);
  await refuses(one(entry('F32', [2 ** 52, 2 ** 52, 0], 0, 4)), /takes 0 bytes/);
  await refuses(one(entry('F32', [2], 0, 8)), /"w" ends at byte 8.*only 4/);
  await refuses(one(entry('F32', [1], 0, 4), 5), /end at byte 4.*goes on to 5/);
  await refuses(one(`{"dtype":"${'x'.repeat(10_000)}"}`), /\.\.\./);
});

test('overlaps and holes', async () => {
  const two = (a: string, b: string, bytes: number) => fileOf(`{"a":${a},"b":${b}}`, new Uint8Array(bytes));
  await refuses(two(entry('U8', [4], 0, 4), entry('U8', [4], 3, 7), 7), /"b" begins at byte 3.*ends at 4/);
  await refuses(two(entry('U8', [4], 0, 4), entry('U8', [4], 0, 4), 4), /overlaps/);
  await refuses(two(entry('U8', [4], 0, 4), entry('U8', [2], 5, 7), 7), /"b" leaves bytes 4 to 5/);
  await refuses(fileOf(`{"a":${entry('U8', [1], 1, 2)}}`, new Uint8Array(2)), /leaves bytes 0 to 1/);
  await refuses(fileOf('{}', new Uint8Array(1)), /goes on to 1/);
});

test('files of other formats are told by name', async () => {
  const like = (text: string) => new TextEncoder().encode(text.padEnd(100));
  await refuses(like('PK\x03\x04'), /PyTorch checkpoint/);
  await refuses(like('<!DOCTYPE html>'), /web page/);
  await refuses(like('version https://git-lfs.github.com/spec/v1'), /git lfs pull/);
  await refuses(like('GGUF'), /GGUF/);
});

test('the writer refuses what it cannot write', () => {
  const f32 = (n: number) => ({ dtype: 'F32' as const, shape: [n], data: new Float32Array(1) });
  assert.throws(() => encodeSafetensors([['a', f32(2)]]), /"a".*takes 8 bytes.*has 4/);
  assert.throws(() => encodeSafetensors([['__metadata__', f32(1)]]), /reserved/);
  assert.throws(
    () =>
      encodeSafetensors([
        ['a', f32(1)],
        ['a', f32(1)],
      ]),
    /twice/,
  );
});

test.run();
