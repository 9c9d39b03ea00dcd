import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { encodeF16 } from '../../core/half.ts';
import { type ByteSource, bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { openTensorFile } from '../../weights/open.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import type { TensorFile } from '../../weights/tensor-file.ts';
import { openTorch } from '../../weights/torch-file.ts';
import { fixture } from '../support/fixtures.ts';
import { refused } from '../support/refused.ts';
import { encodeTorch, encodeZip, join, pickle, pickleTensors, type TorchTensor } from './torch-writer.ts';

const f32 = (values: number[], shape = [values.length], more: Partial<TorchTensor> = {}): TorchTensor => ({
  dtype: 'F32',
  shape,
  data: new Uint8Array(Float32Array.from(values).buffer),
  ...more,
});

const open = (file: Uint8Array) => openTorch(bytesSource('model.ckpt', file));

async function refuses(file: Uint8Array, ...parts: RegExp[]): Promise<void> {
  let error: unknown;
  try {
    await open(file);
  } catch (e) {
    error = e;
  }
  assert.instance(error, UserError);
  for (const part of [/^model\.ckpt/, ...parts]) assert.match((error as Error).message, part);
}

const evilPickle = (body: Uint8Array[]) =>
  encodeZip([
    ['m/data.pkl', join([pickle.start, ...body, pickle.stop])],
    ['m/data/0', new Uint8Array(4)],
  ]);

async function checkFixture(file: TensorFile): Promise<void> {
  assert.equal(file.names(), ['rows', 'columns', 'parameter', 'scalar']);
  assert.equal([...(await file.f32('rows'))], [1, 2, 3, 4, 5, 6]);
  assert.equal(file.info('columns').shape, [3, 2]);
  assert.equal([...(await file.f32('columns'))], [1, 4, 2, 5, 3, 6]);
  assert.equal([...(await file.f16bits('parameter'))], [...encodeF16([-2, 0.5, 0])]);
  assert.equal([...(await file.f32('scalar'))], [-5]);
}

for (const name of ['wrapped-2', 'wrapped-3', 'wrapped-4', 'wrapped-5', 'flat']) {
  test(`${name}.ckpt, as Python's own pickler writes it`, async () => {
    await checkFixture(await open(await fixture(`torch/${name}.ckpt`)));
  });
}

test("legacy.pth, as versions before 1.6 wrote it, by Python's own pickler", async () => {
  const bytes = Uint8Array.from(await fixture('torch/legacy.pth'));
  const openBytes = (file: Uint8Array<ArrayBuffer>) => openTensorFile(bytesSource('old.pth', file));
  await checkFixture(await openBytes(bytes));
  const changed = (at: number, value: number) => {
    const file = bytes.slice();
    file[at] = value;
    return file;
  };
  const { length } = bytes;
  const cases: [Uint8Array<ArrayBuffer>, RegExp][] = [
    [bytes.slice(0, length - 4), /^old\.pth: its storages end at byte \d+, and the file at \d+/],
    [bytes.slice(0, 100), /breaks off/],
    [changed(18, 0xea), /of the version 1002, and 1001 is read/],
    [changed(bytes.lastIndexOf(0x32, length - 60), 0x37), /its list of storages is not that of its tensors/], // the last of the keys 0, 1, 2
  ];
  for (const [file, message] of cases) await refused(openBytes(file), message);
  // Each storage tells its elements once more, which is compared when it is read.
  const file = await openBytes(changed(length - 16 - 16, 5));
  assert.equal([...(await file.f32('rows'))], [1, 2, 3, 4, 5, 6]);
  await refused(file.f32('parameter'), /its storage 1 has 5 elements, and its tensors say 4/);
});

test('a call of os.system is refused by name, although the tensors are fine', async () => {
  await refuses(await fixture('torch/evil.ckpt'), /"(posix|nt)\.system"/, /nothing was run/);
});

test('what is written is read back; sizes beyond 4 GB have their own fields', async () => {
  for (const zip64 of [false, true]) {
    const file = await open(
      encodeTorch(
        [
          ['single', f32([1, 2.5, -3, 4], [2, 2])],
          ['brain', { dtype: 'BF16', shape: [2], data: Uint8Array.of(0x80, 0x3f, 0, 0xc0) }],
          ['none', f32([], [0, 3])],
          ['one', f32([7], [])],
          ['part', f32([0, 1, 2, 3, 4, 5], [2], { offset: 3 })],
        ],
        { zip64, wrapper: zip64 ? 'state_dict' : undefined },
      ),
    );
    assert.equal([...(await file.f32('single'))], [1, 2.5, -3, 4]);
    assert.equal([...(await file.f32('brain'))], [1, -2]);
    assert.equal([...(await file.f32('none'))], []);
    assert.equal([...(await file.f32('one'))], [7]);
    assert.equal([...(await file.f32('part'))], [3, 4]);
    assert.equal([...new Float32Array((await file.bytes('single', 4, 8)).buffer)], [2.5, -3]);
  }
});

test('strides: any order of the dimensions is read row by row, in parts too', async () => {
  const values = Array.from({ length: 24 }, (_, i) => i);
  const file = await open(encodeTorch([['w', f32(values, [4, 2, 3], { strides: [1, 12, 4] })]]));
  const expected = [0, 1, 2, 3].flatMap((a) => [0, 1].flatMap((b) => [0, 1, 2].map((c) => a + 12 * b + 4 * c)));
  assert.equal([...(await file.f32('w'))], expected);
  assert.equal([...new Float32Array((await file.bytes('w', 8, 12)).buffer)], expected.slice(2, 5));
});

test('strides that leave the storage, repeat elements or make no sense', async () => {
  const one = (more: Partial<TorchTensor>, shape = [2, 3]) => encodeTorch([['w', f32([0, 1, 2, 3, 4, 5], shape, more)]]);
  await refuses(one({ strides: [3, 2] }), /"w"/, /reaches beyond/);
  await refuses(one({ offset: 1 }), /"w"/, /reaches beyond/);
  await refuses(one({ strides: [1, 1] }), /"w"/, /more than once/);
  await refuses(one({ strides: [0, 0] }, [2 ** 15, 2 ** 15]), /more than once/);
  await refuses(one({ strides: [-3, 1] }), /shape and strides/);
  await refuses(one({ strides: [1] }), /shape and strides/);
});

test('storages that are missing, of another size, or compressed', async () => {
  const tensors: [string, TorchTensor][] = [['w', f32([1, 2])]];
  const list = pickleTensors(tensors);
  await refuses(encodeZip([['m/data.pkl', list]]), /"w" refers to m\/data\/0/);
  await refuses(
    encodeZip([
      ['m/data.pkl', list],
      ['m/data/0', new Uint8Array(7)],
    ]),
    /"w" needs a storage of 8 bytes, but m\/data\/0 has 7/,
  );
  await refuses(encodeZip([['m/data.txt', list]]), /0 files data\.pkl/);
  const packed = encodeTorch(tensors);
  const directory = findLast(packed, [0x50, 0x4b, 1, 2], 1);
  packed[directory + 10] = 8;
  const file = await openTorch(bytesSource('model.ckpt', packed)).catch((error) => error);
  const error = file instanceof Error ? file : await file.f32('w').catch((e: unknown) => e);
  assert.instance(error, UserError);
  assert.match(error.message, /compressed/);
});

/** Position of the nth last occurrence of a signature, n from 0. */
function findLast(bytes: Uint8Array, signature: number[], n: number): number {
  for (let at = bytes.length - 4; at >= 0; at--) {
    if (signature.every((byte, i) => bytes[at + i] === byte) && n-- === 0) return at;
  }
  throw new Error('no such signature');
}

test('pickles that are not lists of tensors', async () => {
  const { text, global, int, tupleOf, reduce, dict, mark, setItems, persistentId } = pickle;
  const refusesPickle = (body: Uint8Array[], ...parts: RegExp[]) => refuses(evilPickle(body), ...parts);
  for (const name of ['builtins eval', 'builtins getattr', 'torch load', 'torch._utils _rebuild_tensor_v9', 'numpy.core.multiarray scalar'])
    await refusesPickle(
      [global(name.split(' ')[0], name.split(' ')[1]), tupleOf([text('1')]), reduce],
      new RegExp(`"${name.replace(' ', '.')}"`, ''),
    );
  await refusesPickle([global('__proto__', 'constructor')], /"__proto__\.constructor"/);
  await refusesPickle([text('os'), text('system'), Uint8Array.of(0x93)], /"os\.system"/);
  await refusesPickle([global('torch', 'FloatStorage'), tupleOf([]), reduce], /cannot be called/);
  await refusesPickle([text('x'), tupleOf([]), reduce], /cannot be called/);
  await refusesPickle([tupleOf([text('module'), int(1)]), persistentId], /no storage/);
  await refusesPickle([dict, mark, text('a'), setItems], /dictionary/);
  await refusesPickle([int(1), mark, text('a'), text('b'), setItems], /dictionary/);
  await refusesPickle([dict], /no tensors by name/);
  await refusesPickle([dict, mark, text('optimizer'), int(1), setItems], /at the top are optimizer/);
  await refusesPickle([], /takes a value where there is none/);
  await refusesPickle([Uint8Array.of(0x75)], /mark/);
  await refusesPickle([Uint8Array.of(0x68, 9)], /never stored/);
  await refusesPickle([Uint8Array.of(0x80, 6)], /protocol/);
  await refusesPickle([Uint8Array.of(0x82, 1)], /opcode 0x82/);
  await refusesPickle([Uint8Array.of(0x58, 0xff, 0xff, 0xff, 0x7f)], /breaks off/);
  await refusesPickle([Uint8Array.of(0x8d, 255, 255, 255, 255, 255, 255, 255, 255)], /breaks off/);
  await refusesPickle([Uint8Array.of(0x63, 0x61)], /breaks off/);
  await refusesPickle([int(1), dict, Uint8Array.of(0x62)], /attributes/);
});

/** The state of a training as torch.save writes it: these entries at the top, pickled by hand. */
function training(entries: [string, Uint8Array][]): Uint8Array<ArrayBuffer> {
  const { dict, mark, setItems, text } = pickle;
  const values = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer);
  const body = join([dict, mark, ...entries.flatMap(([key, value]) => [text(key), value]), setItems]);
  return encodeZip([
    ['m/data.pkl', join([pickle.start, body, pickle.stop])],
    ['m/data/0', values],
  ]);
}

const storage = () => {
  const { text, global, tupleOf, int, persistentId } = pickle;
  return join([tupleOf([text('storage'), global('torch', 'FloatStorage'), text('0'), text('cpu'), int(4)]), persistentId]);
};
const tensorAt = (offset: number, shape: number[] = [1]) => {
  const { global, tupleOf, int, reduce } = pickle;
  const ones = tupleOf(shape.map(() => int(1)));
  return join([global('torch._utils', '_rebuild_tensor_v2'), tupleOf([storage(), int(offset), tupleOf(shape.map(int)), ones]), reduce]);
};
const dictOf = (...entries: [string, Uint8Array][]) =>
  join([pickle.dict, pickle.mark, ...entries.flatMap(([key, value]) => [pickle.text(key), value]), pickle.setItems]);

test('the model is told from what lies beside it: a step, a best loss, moving averages, an optimizer', async () => {
  const weights = (...offsets: number[]) =>
    dictOf(...offsets.map((offset): [string, Uint8Array] => [`w.${offset}`, tensorAt(offset, [1])]));
  const beside: [string, Uint8Array][] = [
    ['step', tensorAt(3, [])],
    ['best_loss', tensorAt(2, [])],
    ['epoch', pickle.int(7)],
    ['optimizer', dictOf(['state', dictOf(['a', tensorAt(0)], ['b', tensorAt(1)], ['c', tensorAt(2)], ['d', tensorAt(3)])])],
  ];
  for (const [path, model] of [
    ['state_dict', weights(0, 1)],
    ['model', weights(0, 1)],
    ['model_state_dict', weights(0, 1)],
    ['ema', weights(0, 1)],
    ['state_dict.model', dictOf(['model', weights(0, 1)], ['ema', dictOf(['decay', tensorAt(3, [])])])],
    ['module.net.state_dict', dictOf(['net', dictOf(['state_dict', weights(0, 1)])])],
  ] as const) {
    const entry: [string, Uint8Array] = [path.split('.')[0], model];
    for (const entries of [[entry], [entry, ...beside], [...beside, entry]]) {
      const file = await open(training(entries));
      assert.equal(file.names(), ['w.0', 'w.1'], path);
      assert.equal([...(await file.f32('w.1'))], [2], path);
    }
  }
  const both = await open(
    training([
      ['params', weights(0, 1)],
      ['params_ema', weights(2, 3)],
    ]),
  );
  assert.equal(both.names(), ['w.2', 'w.3'], 'of two forms the usual one, as ever');
  assert.equal(
    (
      await open(
        training([
          ['ema', dictOf(['decay', tensorAt(3, [])])],
          ['model', weights(0, 1)],
        ]),
      )
    ).names(),
    ['w.0', 'w.1'],
  );
});

test('names that are only data are read past, with whatever is put into them', async () => {
  const { global, tupleOf, reduce, text, int, mark, dict } = pickle;
  const op = (...codes: number[]) => Uint8Array.from(codes);
  const [build, none, add] = [op(0x62), op(0x4e), op(0x90)];
  const list = join([op(0x5d), mark, int(1), int(2), op(0x65)]);
  const make = (name: string, ...args: Uint8Array[]) => {
    const at = name.lastIndexOf('.');
    return join([global(name.slice(0, at), name.slice(at + 1)), tupleOf(args), reduce]);
  };
  const model: [string, Uint8Array] = ['state_dict', dictOf(['w', tensorAt(1)])];
  const inert: Record<string, Uint8Array> = {
    counter: make('collections.Counter', dictOf(['a', int(1)])),
    'counter with items': join([make('collections.Counter'), mark, text('a'), int(1), op(0x75)]),
    device: make('torch.device', text('cuda'), int(0)),
    'set of protocol 2': make('__builtin__.set', list),
    'set of protocol 3': make('builtins.set', list),
    'set of protocol 4': join([op(0x8f), mark, int(1), text('a'), add]),
    'frozen set of protocol 4': join([mark, int(1), op(0x91)]),
    complex: make('builtins.complex', op(0x47, 0, 0, 0, 0, 0, 0, 0, 0), op(0x47, 0, 0, 0, 0, 0, 0, 0, 0)),
    'bytes of protocol 5': join([op(0x96, 2, 0, 0, 0, 0, 0, 0, 0), text('').slice(0, 0), op(1, 2)]),
    'a long integer': op(0x8b, 3, 0, 0, 0, 1, 2, 3),
    layout: make('torch.serialization._get_layout', text('torch.strided')),
    dtype: global('torch', 'complex64'),
    'a dictionary with attributes': join([make('collections.OrderedDict'), dictOf(['_metadata', dict]), build]),
  };
  for (const [what, value] of Object.entries(inert)) {
    const file = await open(training([['hyper_parameters', dictOf([what, value])], model]));
    assert.equal([...(await file.f32('w'))], [2], what);
  }
  const attributes = dictOf(['_fsdp', int(1)]);
  for (const [what, tensor] of [
    ['a parameter with state', make('torch._utils._rebuild_parameter_with_state', tensorAt(1), op(0x88), dict, attributes)],
    ['a parameter with attributes', join([make('torch._utils._rebuild_parameter', tensorAt(1), op(0x88), dict), attributes, build])],
    [
      'a tensor of a subclass',
      make(
        'torch._tensor._rebuild_from_type_v2',
        global('torch._utils', '_rebuild_tensor_v2'),
        global('torch', 'Tensor'),
        tupleOf([storage(), int(1), tupleOf([int(1)]), tupleOf([int(1)])]),
        none,
      ),
    ],
    ['the first form', make('torch._utils._rebuild_tensor', storage(), int(1), tupleOf([int(1)]), tupleOf([int(1)]))],
  ] as const) {
    const file = await open(training([['state_dict', dictOf(['w', tensor])]]));
    assert.equal([...(await file.f32('w'))], [2], what);
  }
  for (const [value, expected] of [
    [make('torch._utils._rebuild_sparse_tensor', int(1)), /not plain arrays of numbers \(_rebuild_sparse_tensor\)/],
    [make('torch._utils._rebuild_qtensor'), /not plain arrays/],
    [
      join([tupleOf([text('storage'), global('torch', 'ComplexFloatStorage'), text('0'), text('cpu'), int(2)]), op(0x51)]),
      /a kind that is not read \(torch\.ComplexFloatStorage\)/,
    ],
    [join([mark, int(1), add]), /./],
    [join([list, mark, int(1), add]), /adds items to something other than a set/],
    [join([int(1), none, build]), /attributes/],
  ] as const)
    await refuses(training([['x', value], model]), expected);
});

test('a pickle without end costs neither time nor memory', async () => {
  await refuses(evilPickle([new Uint8Array(3_000_000).fill(0x28)]), /opcodes/);
  const begun = performance.now();
  await refuses(evilPickle([new Uint8Array(3_000_000).fill(0x5d)]), /opcodes/);
  assert.ok(performance.now() - begun < 5000);
});

test('archives that are cut, misled or doubled', async () => {
  const file = encodeTorch([['w', f32([1, 2])]]);
  await refuses(file.slice(0, -30), /directory at the end/);
  await refuses(new Uint8Array(30), /directory at the end/);
  await refuses(file.slice(10), /cannot be right|not where/);
  await refuses(
    encodeZip([
      ['m/a', new Uint8Array(1)],
      ['m/a', new Uint8Array(1)],
    ]),
    /m\/a twice/,
  );
  const far = encodeTorch([['w', f32([1, 2])]], { zip64: true });
  const view = new DataView(far.buffer);
  const end64 = findLast(far, [0x50, 0x4b, 6, 6], 0);
  view.setBigUint64(end64 + 40, 2n ** 60n, true);
  await refuses(far, /cannot be right/);
  view.setBigUint64(end64 + 40, 10n, true);
  await refuses(far, /breaks off|cannot be right/);
});

test('a file is read by ranges: opening touches no tensor, reading touches one', async () => {
  const big = f32(Array.from({ length: 50_000 }, (_, i) => i));
  const bytes = encodeTorch([
    ['a', big],
    ['b', f32([5, 6])],
  ]);
  let read = 0;
  const memory = bytesSource('m', bytes);
  const spy: ByteSource = {
    ...memory,
    read(offset, length) {
      read += length;
      return memory.read(offset, length);
    },
  };
  const file = await openTorch(spy);
  assert.ok(read < 70_000, `${read} bytes to open`);
  read = 0;
  assert.equal([...(await file.f32('b'))], [5, 6]);
  assert.is(read, 30 + 8);
});

test('a checkpoint joins formats, told apart by their first bytes', async () => {
  const safetensors = encodeSafetensors([['a', { dtype: 'F32', shape: [1], data: Float32Array.of(1) }]]);
  const both = await Checkpoint.open([
    bytesSource('wrongly-named.ckpt', safetensors),
    bytesSource('supir.safetensors', encodeTorch([['b', f32([2])]])),
  ]);
  assert.equal(both.keys(), ['a', 'b']);
  assert.equal([...(await both.f32('b'))], [2]);
  const error = await openTensorFile(bytesSource('old.pt', Uint8Array.of(0x80, 2, 0x8a, 10, 0x6c, 0xfc, ...new Array(60).fill(0)))).catch(
    (e) => e,
  );
  assert.match(error.message, /PyTorch/);
});

test.run();
