import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import type { Device } from '../../gpu/device.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { Supir } from '../../models/supir.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { expectedKeys } from '../../weights/attach.ts';
import { type ByteSource, bytesSource } from '../../weights/byte-source.ts';
import { type FolderAccess, openFolder } from '../../weights/folder.ts';
import { COMPONENTS, componentOf } from '../../weights/layouts.ts';
import { encodeSafetensors, planSafetensors } from '../../weights/safetensors-writer.ts';
import { projectFile } from '../support/fixtures.ts';

const text = new TextEncoder();

/** A file with one tensor that is named after the file. */
const small = (name: string): ByteSource =>
  bytesSource(name, encodeSafetensors([[`in ${name}`, { dtype: 'U8', shape: [1], data: Uint8Array.of(1) }]]));

/** Folders of the given files, by path. */
function access(files: Record<string, () => ByteSource | Promise<ByteSource>>): FolderAccess {
  return {
    async fileSource(path) {
      const open = files[path];
      if (!open) throw new UserError(`Cannot open ${path}: it does not exist.`);
      return open();
    },
    async list(path) {
      const names = Object.keys(files).flatMap((file) =>
        file.startsWith(`${path}/`) && !file.slice(path.length + 1).includes('/') ? [file.slice(path.length + 1)] : [],
      );
      if (names.length === 0) throw new UserError(`Cannot list ${path}: it does not exist.`);
      return names;
    },
  };
}

const of = (...paths: string[]) => access(Object.fromEntries(paths.map((path) => [path, () => small(path)])));

const opened = async (from: FolderAccess) => (await openFolder(from, 'm')).map(({ name }) => name);

test('a diffusers folder yields its components, each in its best form', async () => {
  const paths = [
    'm/model_index.json',
    'm/sd_xl_base_1.0.safetensors',
    'm/unet/config.json',
    'm/unet/diffusion_pytorch_model.fp16.safetensors',
  ];
  paths.push(
    'm/unet/diffusion_pytorch_model.bin',
    'm/unet/diffusion_pytorch_model.safetensors',
    'm/vae/diffusion_pytorch_model.fp16.safetensors',
  );
  paths.push(
    'm/text_encoder/model.safetensors',
    'm/text_encoder/pytorch_model.bin',
    'm/text_encoder_2/model.onnx',
    'm/vae_1_0/model.safetensors',
  );
  assert.equal(await opened(of(...paths)), [
    'unet/diffusion_pytorch_model.safetensors',
    'vae/diffusion_pytorch_model.fp16.safetensors',
    'text_encoder/model.safetensors',
  ]);
  assert.equal(await opened(of('m/readme.md', 'm/unet/model.safetensors')), ['unet/model.safetensors']);
});

test('shards come with their index; a component’s folder is one file; others are all files', async () => {
  const index = () =>
    bytesSource('index', text.encode('{"weight_map":{"in m/model-00001-of-00001.safetensors":"model-00001-of-00001.safetensors"}}'));
  const shard = 'm/model-00001-of-00001.safetensors';
  assert.equal(await opened(access({ 'm/model.safetensors.index.json': index, [shard]: () => small(shard) })), [
    'model.safetensors.index.json',
  ]);
  assert.equal(await opened(of('m/config.json', 'm/model.fp16.safetensors', 'm/model.safetensors')), ['model.safetensors']);
  assert.equal(await opened(of('m/a.ckpt', 'm/b.safetensors', 'm/c.txt')), ['a.ckpt', 'b.safetensors']);
  const error = await opened(of('m/readme.md')).catch((e) => e);
  assert.instance(error, UserError);
  assert.match(error.message, /no weights in m/);
});

/** A checkpoint of the published names and sizes, of nothing but zeros. */
function published(name: string, origin: 'SDXL' | 'SUPIR'): () => ByteSource {
  const keys = [...expectedKeys(new Supir(SUPIR_SDXL))].filter(([key]) => COMPONENTS[componentOf(key)!].origin === origin);
  const { header, size } = planSafetensors(keys.map(([key, shape]) => ({ name: key, dtype: 'F16', shape })));
  return () => ({
    name,
    size,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      bytes.set(header.subarray(offset, offset + length));
      return bytes;
    },
  });
}

const device = null as unknown as Device; // opening needs none
const sdxl = published('sdxl.safetensors', 'SDXL');
const supir = published('supir.safetensors', 'SUPIR');

test('a folder without config.json, with checkpoints of the published sizes', async () => {
  const model = await SupirModel.openFolder(
    device,
    access({ 'm/a.safetensors': supir, 'm/b.safetensors': sdxl, 'm/lora.safetensors': lora }),
    'm',
  );
  assert.is(model.config, SUPIR_SDXL);
  assert.equal(model.baseNames, ['b.safetensors', 'supir-sdxl']);
  assert.equal(model.tokens('a photo of a cat').tower1.slice(0, 8), [49406, 320, 1125, 539, 320, 2368, 49407, 49407]);
  assert.equal(model.tokens('a photo of a cat').tower2.slice(5, 8), [2368, 49407, 0]);
});

const lora = () =>
  bytesSource('lora.safetensors', encodeSafetensors([['lora_unet_x.lora_up.weight', { dtype: 'U8', shape: [1], data: Uint8Array.of(1) }]]));

async function refuses(files: Record<string, () => ByteSource>, expected: RegExp): Promise<void> {
  const error = await SupirModel.openFolder(device, access(files), 'm').catch((e) => e);
  assert.instance(error, UserError);
  assert.match(error.message, expected);
}

test('folders that lack something, hold it twice, or hold something else', async () => {
  await refuses({ 'm/a.safetensors': supir }, /the SDXL model is missing/);
  await refuses({ 'm/a.safetensors': sdxl }, /the SUPIR model is missing/);
  await refuses({ 'm/a.safetensors': lora }, /is a LoRA/);
  await refuses(
    { 'm/a.safetensors': sdxl, 'm/b.safetensors': published('v0F', 'SUPIR'), 'm/c.safetensors': published('v0Q', 'SUPIR') },
    /m holds the SUPIR project modules twice, in b\.safetensors and in c\.safetensors/,
  );
});

test('the demo folder opens by its config.json, with its own tokenizer', async () => {
  const names = ['config.json', 'sdxl.safetensors', 'supir.safetensors', 'tokenizer.json'];
  const demo = access(
    Object.fromEntries(names.map((name) => [`m/${name}`, async () => bytesSource(name, await projectFile(`demo/${name}`))])),
  );
  const model = await SupirModel.openFolder(device, demo, 'm');
  assert.is(model.config.name, 'supir-demo-2');
  assert.is(model.tokens('cat').tower1.length, 77);
});

test.run();
