/** Files of weights by an enemy: what they claim is refused before time or memory is spent. Each is a small file whose index claims much. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { openTensorFile } from '../../weights/open.ts';
import { recognize } from '../../weights/recognize.ts';
import { openShards } from '../../weights/shards.ts';
import { inBounds } from '../support/bounds.ts';
import { refusal } from '../support/refused.ts';
import { encodeZip, join, pickle } from './torch-writer.ts';

const BOUNDS = { seconds: 3, megabytes: 400 };
const text = new TextEncoder();

/** A safetensors file of this header and so many bytes of data. */
function safetensors(header: string, bytes = 0): Uint8Array<ArrayBuffer> {
  const json = text.encode(header);
  return join([new Uint8Array(BigUint64Array.of(BigInt(json.length)).buffer), json, new Uint8Array(bytes)]);
}

/** A checkpoint with this pickle, and a storage of four numbers. */
const checkpoint = (...body: Uint8Array[]) =>
  encodeZip([
    ['m/data.pkl', join([pickle.start, ...body, pickle.stop])],
    ['m/data/0', new Uint8Array(16)],
  ]);

async function refusedInBounds(work: () => Promise<unknown>, expected: RegExp): Promise<void> {
  const error = await inBounds(() => refusal(work()), BOUNDS);
  assert.instance(error, UserError);
  assert.match(error.message, expected);
  assert.ok(error.message.length < 5000, 'a message, not a file');
}

const opening = (name: string, bytes: Uint8Array) => () => openTensorFile(bytesSource(name, bytes));

test('headers nested by the thousand, wherever a value may stand', async () => {
  for (const n of [20, 200_000]) {
    const deep = '['.repeat(n) + ']'.repeat(n);
    const objects = `${'{"a":'.repeat(n)}1${'}'.repeat(n)}`;
    for (const value of [deep, objects]) {
      for (const header of [
        `{"a":${value}}`,
        `{"a":{"dtype":${value},"shape":[16],"data_offsets":[0,16]}}`,
        `{"a":{"dtype":"U8","shape":${value},"data_offsets":[0,16]}}`,
        `{"a":{"dtype":"U8","shape":[16],"data_offsets":${value}}}`,
        `{"__metadata__":{"a":${value}}}`,
      ])
        await refusedInBounds(opening('m.safetensors', safetensors(header, 16)), /its header is nested more than 8 deep/);
      const entries = JSON.stringify(`{"a":["q4",${value}]}`);
      const blocks = `{"__metadata__":{"supir_blocks":${entries}},"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}`;
      await refusedInBounds(opening('m.safetensors', safetensors(blocks, 16)), /"supir_blocks".* is nested more than 4 deep/);
      const index = bytesSource('m.index.json', text.encode(`{"weight_map":{"a":${value}}}`));
      await refusedInBounds(() => openShards(index, async () => bytesSource('s', new Uint8Array(0))), /nested more than 8 deep/);
    }
  }
});

test('more tensors, axes and longer names than any model has', async () => {
  const empty = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}';
  const many = Array.from({ length: 1_600_000 }, (_, i) => `"${i}":${empty}`).join(',');
  await refusedInBounds(opening('m.safetensors', safetensors(`{${many}}`)), /its header holds more than 2000000 values/);
  const fewer = Array.from({ length: 250_000 }, (_, i) => `"${i}":${empty}`).join(',');
  await refusedInBounds(opening('m.safetensors', safetensors(`{${fewer}}`)), /names 250000 tensors, and at most 200000/);
  const axes = `{"a":{"dtype":"U8","shape":[${new Array(300_000).fill(1)}],"data_offsets":[0,1]}}`;
  await refusedInBounds(opening('m.safetensors', safetensors(axes, 1)), /has 300000 axes, and at most 16/);
  await refusedInBounds(opening('m.safetensors', safetensors(`{"${'a.'.repeat(1e6)}":${empty}}`)), /longer than 1000 characters: a\.a\./);
  const indexed = Array.from({ length: 250_000 }, (_, i) => `"${i}":"s.safetensors"`).join(',');
  const index = bytesSource('m.index.json', text.encode(`{"weight_map":{${indexed}}}`));
  await refusedInBounds(() => openShards(index, async () => bytesSource('s', new Uint8Array(0))), /more than 201000 values/);
});

test('names that number levels, blocks and layers by the billion make no rules for them', async () => {
  const entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}';
  const n = 999_999_999;
  for (const names of [
    [`down_blocks.${n}.resnets.${n}.conv1.weight`],
    [`down_blocks.0.resnets.${n}.conv1.weight`],
    [`model.diffusion_model.input_blocks.${n}.0.op.weight`],
    [`encoder.down_blocks.${n}.resnets.${n}.norm1.weight`, 'decoder.mid_block.a'],
    [`text_model.encoder.layers.${n}.mlp.fc1.weight`, 'text_projection.weight'],
  ]) {
    const file = safetensors(`{${names.map((name) => `"${name}":${entry}`).join(',')}}`);
    await inBounds(async () => recognize(await openTensorFile(bytesSource('m.safetensors', file))), { seconds: 1, megabytes: 100 });
  }
});

test('pickles whose keys double, nest or repeat', async () => {
  const { dict, tupleOf, mark, setItems, int, persistentId, reduce, global } = pickle;
  const [dup, pair, one, none, setItem, emptyTuple] = [0x32, 0x86, 0x85, 0x4e, 0x73, 0x29].map((opcode) => Uint8Array.of(opcode));
  const doubled = (n: number) => join([pickle.text('lol'), ...Array.from({ length: n }, () => join([dup, pair]))]);
  for (const n of [28, 300, 300_000])
    await refusedInBounds(opening('m.ckpt', checkpoint(dict, doubled(n), none, setItem)), /no tensors by name in it/);
  const nested = join([emptyTuple, new Uint8Array(500_000).fill(one[0])]);
  await refusedInBounds(opening('m.ckpt', checkpoint(dict, nested, none, setItem)), /no tensors by name in it/);
  for (const key of [doubled(40), nested]) {
    await refusedInBounds(opening('m.ckpt', checkpoint(key)), /no tensors by name in it/);
    await refusedInBounds(opening('m.ckpt', checkpoint(key, persistentId)), /refers to something that is no storage/);
    const call = [global('torch._utils', '_rebuild_tensor_v2'), tupleOf([key, int(0), key, key]), reduce];
    await refusedInBounds(opening('m.ckpt', checkpoint(...call)), /describes a tensor without its storage/);
  }
  await refusedInBounds(opening('m.ckpt', checkpoint(dict, mark, pickle.text('k'.repeat(5e6)), int(1), setItems)), /at the top are kkk/);

  const storage = join([
    tupleOf([pickle.text('storage'), global('torch', 'FloatStorage'), pickle.text('0'), pickle.text('cpu'), int(4)]),
    persistentId,
  ]);
  const tensor = (shape: Uint8Array) =>
    join([global('torch._utils', '_rebuild_tensor_v2'), tupleOf([storage, int(0), shape, shape]), reduce]);
  const axes = tupleOf(new Array(300_000).fill(int(9)));
  await refusedInBounds(opening('m.ckpt', checkpoint(dict, mark, pickle.text('a'), tensor(axes), setItems)), /300000 axes/);

  // A dictionary that is its own model, state and module, beside many tensors.
  const itself = ['model', 'state_dict', 'module', 'ema', 'params'].flatMap((key) => [pickle.text(key), Uint8Array.of(0x68, 0)]);
  const loop = checkpoint(dict, Uint8Array.of(0x71, 0), mark, ...itself, pickle.text('w'), tensor(tupleOf([int(1)])), setItems);
  await inBounds(async () => assert.equal((await openTensorFile(bytesSource('m.ckpt', loop))).names(), ['w']), BOUNDS);

  // A function that rebuilds by itself, within itself.
  const rebuild = join([global('torch._tensor', '_rebuild_from_type_v2'), Uint8Array.of(0x71, 1)]);
  const recall = Uint8Array.of(0x68, 1);
  let args = tupleOf([recall, none, emptyTuple, none]);
  for (let i = 0; i < 12; i++) args = tupleOf([recall, none, args, none]);
  await refusedInBounds(opening('m.ckpt', checkpoint(rebuild, args, reduce)), /makes a tensor of something that is none/);
});

test.run();
