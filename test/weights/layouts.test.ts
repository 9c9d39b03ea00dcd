import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { decodeBF16, decodeF16 } from '../../core/half.ts';
import { describe, inspection } from '../../restore/inspection.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { clipRules, openClipRules, unetRules, vaeRules } from '../../weights/diffusers.ts';
import type { StoredDType } from '../../weights/dtype.ts';
import { componentOf, isIgnored, isPassenger } from '../../weights/layouts.ts';
import { openModelFiles } from '../../weights/model-files.ts';
import { openTensorFile } from '../../weights/open.ts';
import { recognize } from '../../weights/recognize.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { openShards } from '../../weights/shards.ts';
import { type SyntheticManifest, syntheticCheckpoint } from '../../weights/synthetic.ts';
import type { TensorFile } from '../../weights/tensor-file.ts';
import { type Rule, toOther, toSingle } from '../../weights/translate.ts';
import { jsonFixture } from '../support/fixtures.ts';
import { encodeTorch } from './torch-writer.ts';

const manifest = await jsonFixture<SyntheticManifest>('golden/manifest_tiny.json');

/** The synthetic checkpoint of a part as a file. */
async function partFile(part: string): Promise<TensorFile> {
  return openTensorFile(bytesSource(`${part}.safetensors`, encodeSafetensors(await tensorsOf(syntheticCheckpoint(manifest, [part])))));
}

async function tensorsOf(file: TensorFile, rename: (name: string) => string = (name) => name) {
  return Promise.all(
    file.names().map(async (name) => {
      const { dtype, shape } = file.info(name);
      return [rename(name), { dtype, shape, data: await file.bytes(name) }] as [
        string,
        { dtype: StoredDType; shape: readonly number[]; data: Uint8Array },
      ];
    }),
  );
}

const sdxl = await partFile('sdxl');
const supir = await partFile('supir');

/** Tensors, shapes and bytes of `actual` are those of `expected`, except for what models pass over. */
async function identical(actual: Checkpoint, expected: readonly TensorFile[]): Promise<void> {
  const wanted = new Checkpoint(expected);
  const keys = wanted.keys().filter((name) => !isIgnored(name));
  assert.equal(new Set(actual.keys().filter((name) => !isIgnored(name))), new Set(keys));
  for (const name of keys) {
    assert.equal([actual.info(name).dtype, ...actual.info(name).shape], [wanted.info(name).dtype, ...wanted.info(name).shape], name);
    assert.ok(sameBytes(await actual.bytes(name), await wanted.bytes(name)), name);
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= a[i] ^ b[i];
  return difference === 0;
}

/** Each component of the SDXL file in diffusers' layout, cut into two shards. */
async function diffusersParts(): Promise<TensorFile[]> {
  const names = sdxl.names();
  const components: [string, Rule[]][] = [
    ['diffusion_pytorch_model', unetRules(names)],
    ['vae', vaeRules(names)],
    ['model', clipRules()],
    ['text_encoder_2', openClipRules(names)],
  ];
  return Promise.all(
    components.map(async ([name, rules]) => {
      const tensors = await tensorsOf(toOther(sdxl, rules));
      const half = Math.ceil(tensors.length / 2);
      const files = new Map(
        [1, 2].map((n) => [`${name}-0000${n}-of-00002.safetensors`, encodeSafetensors(tensors.slice((n - 1) * half, n * half))]),
      );
      const weight_map = Object.fromEntries(tensors.map(([tensor], i) => [tensor, [...files.keys()][i < half ? 0 : 1]]));
      const index = bytesSource(`${name}.safetensors.index.json`, new TextEncoder().encode(JSON.stringify({ metadata: {}, weight_map })));
      return openShards(index, async (shard) => bytesSource(shard, files.get(shard)!));
    }),
  );
}

const diffusers = await diffusersParts();

test('SDXL and SUPIR as single files are recognised by their contents', () => {
  assert.is(recognize(sdxl).title, 'SDXL checkpoint');
  assert.is(recognize(supir).title, 'SUPIR checkpoint');
  assert.equal(
    recognize(sdxl).parts.map(({ component, layout, dtypes }) => [component, layout, ...dtypes]),
    ['unet', 'vae', 'clip_l', 'big_g'].map((component) => [component, 'single file', 'F16']),
  );
  assert.equal([recognize(sdxl).unknown, recognize(supir).unknown], [[], []]);
});

test('diffusers shards: every tensor comes back, byte for byte', async () => {
  assert.equal(
    diffusers.map((part) =>
      recognize(part)
        .parts.map(({ component, layout }) => `${component} ${layout}`)
        .join(),
    ),
    ['unet diffusers', 'vae diffusers', 'clip_l Hugging Face', 'big_g Hugging Face'],
  );
  await identical(openModelFiles([...diffusers, supir]), [sdxl, supir]);
});

test("diffusers' names and shapes are those it gives", async () => {
  const [unet, vae, clip, bigG] = diffusers;
  for (const [file, names] of [
    [unet, ['conv_in.weight', 'down_blocks.1.resnets.0.conv_shortcut.weight', 'down_blocks.0.downsamplers.0.conv.bias']],
    [unet, ['mid_block.attentions.0.transformer_blocks.1.attn2.to_k.weight', 'mid_block.resnets.1.time_emb_proj.weight']],
    [unet, ['up_blocks.0.attentions.2.proj_out.weight', 'up_blocks.1.upsamplers.0.conv.weight', 'up_blocks.2.resnets.2.norm2.bias']],
    [unet, ['time_embedding.linear_2.weight', 'add_embedding.linear_1.weight', 'conv_norm_out.weight', 'conv_out.bias']],
    [vae, ['encoder.down_blocks.2.resnets.0.conv_shortcut.weight', 'encoder.down_blocks.2.downsamplers.0.conv.weight']],
    [vae, ['decoder.up_blocks.0.upsamplers.0.conv.weight', 'decoder.mid_block.attentions.0.group_norm.weight', 'quant_conv.weight']],
    [clip, ['text_model.encoder.layers.11.self_attn.q_proj.weight', 'text_model.embeddings.position_ids']],
    [bigG, ['text_model.embeddings.position_embedding.weight', 'text_model.encoder.layers.3.mlp.fc2.bias', 'text_projection.weight']],
  ] as const) {
    for (const name of names) assert.ok(file.has(name), name);
  }
  assert.equal(vae.info('decoder.mid_block.attentions.0.to_out.0.weight').shape, [128, 128]);
  // The last level of the decoder comes first in the single file.
  assert.ok(
    sameBytes(
      await vae.bytes('decoder.up_blocks.3.resnets.0.conv1.weight'),
      await sdxl.bytes('first_stage_model.decoder.up.0.block.0.conv1.weight'),
    ),
  );
  assert.not(vae.has('decoder.up_blocks.3.upsamplers.0.conv.weight'));
});

test('the projection of bigG lies the other way round in Hugging Face files; a square one too', async () => {
  const single = 'conditioner.embedders.1.model.text_projection';
  const [, , , bigG] = diffusers;
  assert.equal(sdxl.info(single).shape, [48, 40]);
  assert.equal(bigG.info('text_projection.weight').shape, [40, 48]);
  const [ours, theirs] = [await sdxl.f32(single), await bigG.f32('text_projection.weight')];
  for (const [row, column] of [
    [0, 1],
    [47, 39],
    [3, 20],
  ])
    assert.is(theirs[column * 48 + row], ours[row * 40 + column]);

  const square = await openTensorFile(
    bytesSource('t', encodeSafetensors([['text_projection.weight', { dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) }]])),
  );
  assert.equal([...(await toSingle(square, openClipRules([])).f32(single))], [1, 3, 2, 4]);
  assert.equal([...new Float32Array((await toSingle(square, openClipRules([])).bytes(single, 4, 8)).buffer)], [3, 2]);
});

test('query, key and value are stacked in this order, and read in parts across the seams', async () => {
  const single = 'conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight';
  const leaf = (x: string) => `text_model.encoder.layers.0.self_attn.${x}_proj.weight`;
  const tensor = (...values: number[]) => ({ dtype: 'F32' as const, shape: [1, 2], data: Float32Array.from(values) });
  const apart = (...names: [string, ReturnType<typeof tensor>][]) => openTensorFile(bytesSource('t', encodeSafetensors(names)));
  const rules = openClipRules(['text_model.encoder.layers.0.x']);
  const file = toSingle(await apart([leaf('k'), tensor(3, 4)], [leaf('v'), tensor(5, 6)], [leaf('q'), tensor(1, 2)]), rules);
  assert.equal(file.names(), [single]);
  assert.equal(file.info(single).shape, [3, 2]);
  assert.equal([...(await file.f32(single))], [1, 2, 3, 4, 5, 6]);
  assert.equal([...new Float32Array((await file.bytes(single, 4, 16)).buffer)], [2, 3, 4, 5]);
  const torn = toSingle(await apart([leaf('q'), tensor(1, 2)], [leaf('k'), tensor(3, 4)]), rules);
  assert.equal(torn.names(), [leaf('q'), leaf('k')]);
  const uneven = await apart([leaf('q'), tensor(1, 2)], [leaf('k'), tensor(3, 4)], [leaf('v'), { ...tensor(5), shape: [1, 1] }]);
  assert.throws(() => toSingle(uneven, rules), /v_proj.*\[1,1\].*q_proj.*\[1,2\]/);
});

test('a torch checkpoint, wrapped or flat, with every prefix or with some cut off', async () => {
  const shorter = (name: string) =>
    name.replace(/^model\.(diffusion_model\.)?(?=control_model|project_modules)/, '').replace(/^first_stage_model\./, '');
  const torch = async (rename: (name: string) => string, wrapper?: string) =>
    openTensorFile(bytesSource('supir.ckpt', encodeTorch(await tensorsOf(supir, rename), { wrapper, zip64: true })));
  await identical(openModelFiles([sdxl, await torch((name) => name, 'state_dict')]), [sdxl, supir]);
  const bare = await torch(shorter);
  assert.ok(bare.has('control_model.time_embed.0.weight') && bare.has('project_modules.0.zero_mul.weight'));
  assert.equal(new Set(recognize(bare).parts.map(({ layout }) => layout)), new Set(['without prefix']));
  await identical(openModelFiles([sdxl, bare]), [sdxl, supir]);
});

test('components in files of their own, without the single file’s prefixes', async () => {
  const only = async (component: string, prefix: string) => {
    const tensors = (await tensorsOf(sdxl)).filter(([name]) => componentOf(name) === component);
    return openTensorFile(bytesSource(component, encodeSafetensors(tensors.map(([name, tensor]) => [name.slice(prefix.length), tensor]))));
  };
  const parts = [
    await only('unet', 'model.diffusion_model.'),
    await only('vae', 'first_stage_model.'),
    await only('clip_l', 'conditioner.embedders.0.transformer.'),
    await only('big_g', 'conditioner.embedders.1.model.'),
  ];
  assert.equal(
    parts.map((part) => recognize(part).title),
    ['UNet', 'VAE', 'text encoder CLIP-L', 'text encoder OpenCLIP bigG'].map((title) => `part of an SDXL checkpoint: ${title}`),
  );
  await identical(openModelFiles([supir, ...parts]), [sdxl, supir]);
});

test('f32 and bf16 files hold the same values, as far as the dtype can', async () => {
  const name = 'model.diffusion_model.out.2.weight';
  const bits = await sdxl.f16bits(name);
  const words = new Uint32Array(decodeF16(bits).buffer);
  const shape = sdxl.info(name).shape;
  const file = await openTensorFile(
    bytesSource(
      'x',
      encodeSafetensors([
        ['single', { dtype: 'F32', shape, data: decodeF16(bits) }],
        ['brain', { dtype: 'BF16', shape, data: Uint16Array.from(words, (word) => word >>> 16) }],
      ]),
    ),
  );
  assert.equal(await file.f16bits('single'), bits);
  assert.equal(await file.f32('brain'), decodeBF16(Uint16Array.from(words, (word) => word >>> 16)));
});

function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    assert.instance(error, UserError);
    return (error as Error).message;
  }
  throw new Error('expected a UserError');
}

/** A file that holds names only, with one element or the given shape. */
function fileOf(name: string, ...tensors: (string | [string, number[]])[]): Promise<TensorFile> {
  const entries = tensors.map((tensor): [string, { dtype: 'U8'; shape: number[]; data: Uint8Array }] => {
    const [key, shape] = typeof tensor === 'string' ? [tensor, [1]] : tensor;
    return [key, { dtype: 'U8', shape, data: new Uint8Array(shape.reduce((a, b) => a * b, 1)) }];
  });
  return openTensorFile(bytesSource(name, encodeSafetensors(entries)));
}

test('what is missing is told with the file to add', async () => {
  assert.match(
    refusal(() => openModelFiles([supir])),
    /With supir\.safetensors the SDXL model is missing: add an SDXL checkpoint, such as sd_xl_base/,
  );
  assert.match(
    refusal(() => openModelFiles([sdxl])),
    /the SUPIR model is missing: add a SUPIR checkpoint, such as SUPIR-v0Q/,
  );
  assert.match(
    refusal(() => openModelFiles([])),
    /no files/,
  );
  const [unet] = diffusers;
  assert.match(
    refusal(() => openModelFiles([unet, supir])),
    /of the SDXL model there is no VAE, no text encoder CLIP-L, no text encoder OpenCLIP bigG: add.*before/,
  );
});

test('later files win; a file that adds nothing is refused', async () => {
  const [unet] = diffusers;
  const joined = openModelFiles([sdxl, unet, supir]);
  assert.is(joined.fileOf('model.diffusion_model.out.2.weight'), unet.name);
  assert.is(joined.fileOf('first_stage_model.quant_conv.weight'), 'sdxl.safetensors');
  const v0F = await openTensorFile(bytesSource('SUPIR-v0F.safetensors', encodeSafetensors(await tensorsOf(supir))));
  assert.match(
    refusal(() => openModelFiles([sdxl, supir, v0F])),
    /Nothing of supir\.safetensors would be used.*SUPIR-v0F\.safetensors.*one SUPIR checkpoint/,
  );
  assert.match(
    refusal(() => openModelFiles([unet, sdxl, supir])),
    /Nothing of diffusion_pytorch_model.*give it after/,
  );
});

test('files that are no part of a model are told by what they are', async () => {
  const cases: [RegExp, ...(string | [string, number[]])[]][] = [
    [/is a LoRA\. .*apply it to the checkpoint/, 'lora_unet_input_blocks_4_1_proj_in.lora_down.weight'],
    [/is a LoRA/, 'unet.down_blocks.1.attentions.0.proj_in.lora_A.weight'],
    [/is a LoRA/, 'down_blocks.1.attentions.0.proj_in.lora.up.weight'],
    [/is a LoRA/, 'lycoris_blocks_0.hada_w1_a'],
    [/LPIPS/, 'lin0.model.1.weight', 'net.slice1.0.weight'],
    [/Stable Diffusion 1\.5/, 'cond_stage_model.transformer.text_model.x', 'model.diffusion_model.input_blocks.0.0.weight'],
    [/Stable Diffusion 1\.5/, ['model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight', [320, 768]]],
    [
      /Stable Diffusion 1\.5/,
      ['down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight', [320, 768]],
      'down_blocks.0.resnets.0.norm1.weight',
    ],
    [/Stable Diffusion 2/, 'cond_stage_model.model.transformer.resblocks.0.ln_1.weight'],
    [/refiner/, 'conditioner.embedders.0.model.ln_final.weight'],
    [/v-prediction/, 'v_pred', 'model.diffusion_model.out.2.weight'],
    [/inpainting/, ['model.diffusion_model.input_blocks.0.0.weight', [4, 9, 3, 3]]],
    [/ControlNet/, 'control_model.zero_convs.0.0.weight'],
    [/textual inversion/, 'clip_g', 'clip_l'],
    [/Flux/, 'double_blocks.0.img_attn.qkv.weight'],
    [/language model/, 'model.layers.0.self_attn.q_proj.weight'],
    [/no part of SDXL or SUPIR/, 'something.else'],
  ];
  for (const [expected, ...tensors] of cases) {
    const file = await fileOf('given.safetensors', ...tensors);
    const text = refusal(() => openModelFiles([sdxl, supir, file]));
    assert.match(text, expected);
    assert.match(text, /^given\.safetensors/);
  }
  assert.match(
    refusal(() => openModelFiles([syntheticCheckpoint(manifest, ['lora_kohya']), sdxl])),
    /is a LoRA/,
  );
  assert.match(
    refusal(() => openModelFiles([syntheticCheckpoint(manifest, ['lora_peft']), sdxl])),
    /is a LoRA/,
  );
});

test('tensors that other programs leave beside a model are passed over, and a stray name makes it nothing else', async () => {
  const passengers: [string, StoredDType, number[]][] = [
    ['conditioner.embedders.0.logit_scale', 'F32', []],
    ['conditioner.embedders.0.text_projection', 'F32', [4, 4]],
    ['conditioner.embedders.0.transformer.text_projection.weight', 'F16', [4, 4]],
    ['first_stage_model.model_ema.decay', 'F32', []],
    ['model_ema.diffusion_modelout2weight', 'F32', [3]],
    ['global_step', 'I64', []],
    ['epoch', 'I64', [1]],
    ['scale_factor', 'F32', []],
    ['cond_stage_model.transformer.text_model.embeddings.position_ids', 'I64', [1, 77]],
    ['cond_stage_model.logit_scale', 'F32', []],
    ['lora_unet_x.lora_up.weight', 'F32', [1, 1]],
    ['embedding_manager.placeholder', 'F32', [2]],
    ['ztsnr', 'F32', []],
    ['zero_convs.0.weight', 'F32', [1]],
  ];
  const own = await tensorsOf(sdxl);
  const of = (more: typeof passengers) =>
    openTensorFile(
      bytesSource(
        'merged.safetensors',
        encodeSafetensors([
          ...own,
          ...more.map(([name, dtype, shape]): (typeof own)[number] => {
            const bytes = shape.reduce((a, b) => a * b, 1) * { F32: 4, I64: 8, F16: 2 }[dtype as 'F32'];
            return [name, { dtype, shape, data: new Uint8Array(bytes) }];
          }),
        ]),
      ),
    );
  const expected = new Map(new Checkpoint([sdxl, supir]).names().map((name) => [name, new Checkpoint([sdxl, supir]).info(name).shape]));
  for (const more of [...passengers.map((each) => [each]), passengers]) {
    const file = await of(more);
    const found = recognize(file);
    assert.is(found.title, 'SDXL checkpoint', String(more[0]));
    assert.is(found.refusal, null);
    const checkpoint = openModelFiles([file, supir]);
    checkpoint.checkKeys(expected, isPassenger);
    const shown = inspection([file]).files[0];
    for (const [name] of more) assert.ok([...shown.ignored, ...shown.unknown].includes(name), name);
    assert.match(describe(shown, ''), /passed over/);
  }
  // Of a component, a tensor that the model does not have is still an error.
  const surplus = openModelFiles([await of([['first_stage_model.encoder.extra', 'F32', [1]]]), supir]);
  assert.match(
    refusal(() => surplus.checkKeys(expected, isPassenger)),
    /1 tensor that the model does not have: first_stage_model\.encoder\.extra/,
  );
});

test('of a tensor that lies in two shards, the copy that the index names counts; one that it does not name is passed over', async () => {
  const shard = (...tensors: [string, number[]][]) =>
    encodeSafetensors(tensors.map(([name, data]) => [name, { dtype: 'U8', shape: [data.length], data: Uint8Array.from(data) }]));
  const files: Record<string, Uint8Array> = {
    one: shard(['a', [1]], ['x', [9, 9]], ['left', [7]]),
    two: shard(['x', [2]], ['a', [8, 8, 8]]),
  };
  const index = bytesSource('m.index.json', new TextEncoder().encode('{"weight_map":{"a":"one","x":"two"}}'));
  const file = await openShards(index, async (name) => bytesSource(name, files[name]));
  assert.equal(file.names().sort(), ['a', 'x']);
  assert.equal([...(await file.bytes('a'))], [1]);
  assert.equal([...(await file.bytes('x'))], [2]);
  assert.not(file.has('left'));
  assert.equal(new Checkpoint([file]).info('x').shape, [1]);
});

test('an index of shards that does not agree with its files', async () => {
  const shard = encodeSafetensors([['a', { dtype: 'U8', shape: [1], data: Uint8Array.of(1) }]]);
  const open = (json: string) =>
    openShards(bytesSource('m.index.json', new TextEncoder().encode(json)), async (name) => {
      if (name !== 's.safetensors') throw new UserError(`Cannot open ${name}: it does not exist.`);
      return bytesSource(name, shard);
    });
  const refuses = async (json: string, expected: RegExp) => {
    const error = await open(json).catch((e) => e);
    assert.instance(error, UserError);
    assert.match(error.message, expected);
  };
  const file = await open('{"weight_map":{"a":"s.safetensors"}}');
  assert.equal([...(await file.bytes('a'))], [1]);
  await refuses('{"weight_map":{"a":"t.safetensors"}}', /names the shard t\.safetensors, which cannot be opened.*does not exist/);
  await refuses('{"weight_map":{"a":"s.safetensors","b":"s.safetensors"}}', /"b" is in s\.safetensors, and it is not/);
  await refuses('{"weight_map":{}}', /names no tensors/);
  await refuses('{"weight_map":{"a":"../../etc/passwd"}}', /the file of a is \.\.\/\.\.\/etc\/passwd, which leads to another folder/);
  await refuses('{"weight_map":{"a":".."}}', /it must be the name of a file within its folder/);
  await refuses('{"weight_map":{"a":"C:\\\\x"}}', /it must be the name of a file within its folder/);
  await refuses('{"weight_map":{"a":7}}', /it must be the name of a file within its folder/);
  await refuses('{"weight_map":["a"]}', /no "weight_map"/);
  await refuses('null', /no "weight_map"/);
  await refuses('{', /is not JSON/);
  await refuses('{"weight_map":{"a":"s.safetensors","a":"t"}}', /twice/);
});

test('a shard that was cut is told by its own name, wherever it was cut', async () => {
  const shard = encodeSafetensors([['a', { dtype: 'U8', shape: [9], data: new Uint8Array(9) }]]);
  const index = bytesSource('m.index.json', new TextEncoder().encode('{"weight_map":{"a":"m-00001-of-00001.safetensors"}}'));
  for (let length = 0; length < shard.length; length++) {
    const error = await openShards(index, async (name) => bytesSource(name, shard.slice(0, length))).catch((e) => e);
    assert.instance(error, UserError, `${length} bytes`);
    assert.match(error.message, /^m-00001-of-00001\.safetensors.*download it again/i);
  }
});

test.run();
