/** Weights of 8 and 4 bits in files: what is stored so, round trips, and files that lie. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { quantise } from '../../core/blocks.ts';
import { UserError } from '../../core/errors.ts';
import { decodeF16, encodeF16 } from '../../core/half.ts';
import { Parameter, parameters } from '../../core/module.ts';
import { SCRATCH_BYTES } from '../../core/parameter-source.ts';
import { joinBytes } from '../../image/bytes.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { Supir } from '../../models/supir.ts';
import { recorded } from '../../verify/block-weight.ts';
import { attach } from '../../weights/attach.ts';
import { storedInBlocks } from '../../weights/block-entries.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { blocksOf, isStoredBlocks } from '../../weights/dtype.ts';
import { openTensorFile } from '../../weights/open.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { type SyntheticManifest, syntheticCheckpoint } from '../../weights/synthetic.ts';
import { convertedBytes } from '../support/converted.ts';
import { jsonFixture } from '../support/fixtures.ts';

const manifest = await jsonFixture<SyntheticManifest>('golden/manifest_tiny.json');
const original = syntheticCheckpoint(manifest, ['supir']);

const open = (bytes: Uint8Array) => openTensorFile(bytesSource('blocks.safetensors', bytes));
const q4 = await convertedBytes(original, 'Q4');

/** Fails at the first element that differs. */
function same(a: ArrayLike<number>, b: ArrayLike<number>, what: string): void {
  assert.is(a.length, b.length, what);
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) assert.is(a[i], b[i], `${what}, element ${i}`);
}

/** (out, in, kh, kw) -> (out, kh, kw, in) */
function channelsLast(values: ArrayLike<number>, [o, c, kh = 1, kw = 1]: readonly number[]): Float32Array {
  const stored = new Float32Array(values.length);
  for (let i = 0; i < o; i++)
    for (let k = 0; k < c; k++) for (let p = 0; p < kh * kw; p++) stored[(i * kh * kw + p) * c + k] = values[(i * c + k) * kh * kw + p];
  return stored;
}

test('which weights of the published model are in blocks: matrices and convolutions, 95 % of all', () => {
  const weights = new Map(parameters(new Supir(SUPIR_SDXL)));
  let [count, inBlocks] = [0, 0];
  for (const [name, { kind, shape }] of weights) {
    const size = shape.reduce((a, b) => a * b, 1);
    count += size;
    if (!storedInBlocks(name, shape)) continue;
    assert.ok(kind === 'matrix' || kind === 'conv', name);
    inBlocks += size;
  }
  assert.ok(inBlocks / count > 0.95, `${inBlocks} of ${count}`);
  const not = [
    'model.diffusion_model.input_blocks.0.0.weight',
    'model.diffusion_model.out.2.weight',
    'model.diffusion_model.time_embed.0.weight',
    'model.control_model.label_emb.0.2.weight',
    'conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight',
    'conditioner.embedders.1.model.token_embedding.weight',
    'conditioner.embedders.1.model.text_projection',
    'first_stage_model.decoder.mid.block_1.conv1.weight',
  ];
  for (const name of not) assert.not(storedInBlocks(name, weights.get(name)!.shape), name);
});

test('a file in blocks keeps names and shapes, holds the records of every weight, and all else as f16', async () => {
  for (const dtype of ['Q8', 'Q4'] as const) {
    const file = dtype === 'Q4' ? await open(q4) : await open(await convertedBytes(original, dtype));
    assert.equal(file.names().sort(), original.names().sort());
    let blocks = 0;
    for (const name of original.names()) {
      const { shape, dtype: stored } = file.info(name);
      assert.equal(shape, original.info(name).shape, name);
      if (!isStoredBlocks(stored)) {
        assert.not(storedInBlocks(name, shape) && original.info(name).dtype === 'F16', name);
        same(await file.bytes(name), await original.bytes(name), name);
        continue;
      }
      blocks++;
      assert.is(stored, dtype);
      const records = quantise(blocksOf(dtype), channelsLast(await original.f32(name), shape));
      same(await file.bytes(name), records, name);
      const values = await file.f32(name);
      same(channelsLast(values, shape), Float32Array.from(recorded(blocksOf(dtype), records, values.length)), name);
    }
    assert.ok(blocks > 100, `${blocks}`);
    assert.not(file.metadata.has('supir_blocks'));
  }
});

test('back to plain numbers: the values that the blocks stand for, rounded once; and blocks of blocks change nothing', async () => {
  const file = await open(q4);
  const [f32, f16, again] = [
    await open(await convertedBytes(file, 'F32')),
    await open(await convertedBytes(file, 'F16')),
    await convertedBytes(file, 'Q4'),
  ];
  for (const name of file.names()) {
    const values = await file.f32(name);
    if (original.info(name).dtype === 'I64') continue;
    assert.equal([f32.info(name).dtype, f16.info(name).dtype], ['F32', 'F16']);
    same(await f32.f32(name), values, name);
    same(await f16.f32(name), decodeF16(encodeF16(values)), name);
  }
  const copy = await open(again);
  for (const name of file.names()) same(await copy.bytes(name), await file.bytes(name), name);
});

test('networks take blocks from a file as they are, round others when they are read, and can be told to have f16', async () => {
  const file = new Checkpoint([await open(q4)]);
  const name = 'model.control_model.input_blocks.1.0.in_layers.2.weight';
  const weight = (checkpoint: Checkpoint, dtype?: 'f16' | 'q8' | 'q4') => {
    const weight = new Parameter(original.info(name).shape, 'conv');
    attach({ weight }, name.slice(0, -'weight'.length), checkpoint, { dtype });
    return weight;
  };
  assert.is(weight(file).dtype, 'q4');
  const records = weight(file).pieces();
  const scratch = () => new Uint8Array(SCRATCH_BYTES);
  assert.equal(joinBytes(...(await Promise.all(records.map((piece) => piece.read(scratch()))))), await file.bytes(name));
  assert.is(weight(file, 'f16').dtype, 'f16');
  assert.is(weight(file, 'f16').source!.pieces!(), null);
  assert.is(weight(file, 'q8').dtype, 'q8');
  assert.is(weight(file, 'q8').source!.pieces!(), null);
  const trained = weight(file);
  trained.dtype = 'f32';
  const [whole] = trained.pieces();
  same(new Float32Array((await whole.read(scratch())).slice().buffer), channelsLast(await file.f32(name), trained.shape), 'as f32');
  assert.is(weight(original).dtype, 'f16');
  assert.is(weight(original, 'q4').dtype, 'q4');
  assert.equal(await weight(original, 'q4').source!.read(), await original.f32(name));
});

test('a scale that is no number is found when a network reads the weight', async () => {
  for (const [block, bits] of [
    [0, 0x7c00],
    [5, 0x7e00],
    [63, 0xfc00],
  ]) {
    const records = quantise('q4', new Float32Array(2048).fill(0.5));
    new DataView(records.buffer).setUint16((block >> 1) * 36 + 2 * (block & 1), bits, true);
    const file = await open(encodeSafetensors([['a.weight', { dtype: 'Q4', shape: [32, 64], data: records }]]));
    const weight = new Parameter([32, 64], 'matrix');
    attach({ weight }, 'a.', new Checkpoint([file]));
    const error = await weight
      .pieces()[0]
      .read(new Uint8Array(SCRATCH_BYTES))
      .catch((e) => e);
    assert.instance(error, UserError);
    assert.match(error.message, new RegExp(`values from ${32 * block} on of tensor "a\\.weight"`));
  }
});

/** A file whose tensor w has `bytes` bytes and whose metadata says `entries`. */
const lying = (entries: string, bytes = 32 * 36, name = 'w') =>
  open(encodeSafetensors([[name, { dtype: 'U8', shape: [bytes], data: new Uint8Array(bytes) }]], { supir_blocks: entries }));

test('metadata that does not fit the tensors is refused by file and tensor', async () => {
  const good = await lying('{"w":["q4",[32,64]]}');
  assert.equal([good.info('w').dtype, ...good.info('w').shape], ['Q4', 32, 64]);
  const bad: [string, RegExp, number?, string?][] = [
    ['{', /not JSON/],
    ['[]', /not an object/],
    ['{"w":["q4",[32,64]],"w":["q4",[32,64]]}', /twice/],
    ['{"w":"q4"}', /"w" no dtype/],
    ['{"w":["q3",[32,64]]}', /"w" no dtype/],
    ['{"w":["toString",[32,64]]}', /"w" no dtype/],
    ['{"w":["q4",[32,65]]}', /blocks of 32/],
    ['{"w":["q4",[2048]]}', /blocks of 32/],
    ['{"w":["q4",[-32,-64]]}', /blocks of 32/],
    ['{"w":["q4",[32,9007199254740992]]}', /blocks of 32/],
    ['{"v":["q4",[32,64]]}', /"v", which is not in the file/],
    ['{"w":["q8",[32,64]]}', /2176 bytes of U8, but it is U8 of 1152/],
    ['{"w":["q4",[32,64]]}', /1152 bytes of U8, but it is U8 of 1151/, 1151],
    ['{"token_embedding.weight":["q4",[32,64]]}', /blocks of 32/, 1152, 'token_embedding.weight'],
  ];
  for (const [entries, expected, bytes, name] of bad) {
    const error = await lying(entries, bytes, name).catch((e) => e);
    assert.instance(error, UserError, entries);
    assert.match(error.message, expected);
    assert.match(error.message, /blocks\.safetensors/);
  }
});

test('what blocks cannot hold is refused by tensor and element, in files and when a network reads it', async () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 70000]) {
    const data = new Float32Array(32 * 32 * 2);
    data[1027] = value;
    const file = await open(encodeSafetensors([['a.weight', { dtype: 'F32', shape: [32, 64], data }]]));
    const weight = new Parameter([32, 64], 'matrix');
    attach({ weight }, 'a.', new Checkpoint([file]), { dtype: 'q4' });
    const [piece] = weight.pieces();
    for (const attempt of [() => convertedBytes(file, 'Q4'), () => piece.read(new Uint8Array(SCRATCH_BYTES))]) {
      const error = await attempt().catch((e) => e);
      assert.instance(error, UserError);
      assert.match(error.message, /element 1027 of tensor "a\.weight" is/);
    }
  }
});

test.run();
