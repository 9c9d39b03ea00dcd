/** Scales of LoRA files: how they are written, by block and over the steps, and that another scale costs neither reading nor compiling. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { type Parameter, parameters } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { sizeOf } from '../../core/tensor.ts';
import { LoraScale, type LoraScaleText, loraBlock } from '../../models/lora-scale.ts';
import { LoraSet, withControl } from '../../models/lora-set.ts';
import type { TextConditioning, Values } from '../../restore/networks.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { sampleEdm } from '../../sampler/edm.ts';
import { sampleEuler } from '../../sampler/euler.ts';
import { NoiseSchedule } from '../../sampler/schedule.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import type { Lora } from '../../weights/lora.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { testDevice } from '../support/device.ts';
import { tinySupir } from '../support/tiny-supir.ts';

const device = await testDevice();
const supir = await tinySupir();

/** A LoRA of rank 3 on layers of every block: text towers, UNet and control network. */
function lora(seed: number): Lora {
  const random = new TorchRandom(seed);
  const values = (...shape: number[]) => ({ shape, data: random.randn(sizeOf(shape)).map((value) => value / 4) });
  const chosen = [...parameters(supir)].filter(([path]) =>
    /(attn\d?\.(to_q|in_proj_|out_proj|q_proj)|mlp\.fc1|out_layers\.3)\.?weight$/.test(path),
  );
  const layerOf = (parameter: Parameter) => {
    const [outs, ...rest] = parameter.shape;
    return { parameter, part: 0, parts: 1, change: { kind: 'lowRank' as const, down: values(3, ...rest), mid: null, up: values(outs, 3) } };
  };
  return { name: `lora ${seed}`, layers: chosen.map(([, parameter]) => layerOf(parameter)), notes: [] };
}

const files = [lora(1), lora(2)];
const random = new TorchRandom(3);
const hint: Values = { shape: [1, 4, 4, 4], data: random.randn(64) };
const x = random.randn(64);
const tokens = { tower1: [18, 3, 4, 19, 19, 19], tower2: [18, 3, 4, 19, 0, 0] };

async function withNetworks<T>(scales: LoraScaleText[], body: (model: SupirModel, text: TextConditioning) => Promise<T>): Promise<T> {
  const model = new SupirModel(device, supir);
  for (const [i, scale] of scales.entries()) model.loras.add(device, files[i], scale);
  try {
    return await body(model, await model.condition(tokens));
  } finally {
    model.loras.release(device);
  }
}

/** The prediction at some point of a run. */
const predict = (scales: LoraScaleText[], progress = 0) =>
  withNetworks(scales, async (model, text) => {
    const denoiser = await model.denoiser(hint, null, text);
    const { positive } = await denoiser.network({ x, timestep: 400, controlScale: 1, progress });
    denoiser.dispose();
    return positive;
  });

const apart = (a: Float32Array, b: Float32Array) => Math.max(...a.map((value, i) => Math.abs(value - b[i])));

test('scales as they are written', () => {
  const places = ['text.1', 'unet.input.4', 'unet.input.5', 'unet.middle'];
  const at = (text: LoraScaleText, progress: number) => places.map((block) => new LoraScale(text).at(block, progress));
  assert.equal(at(0.8, 0.5), [0.8, 0.8, 0.8, 0.8]);
  assert.equal(at('-.5..1e-1', 0.5), [-0.2, -0.2, -0.2, -0.2]);
  assert.equal(at('1, 0@text,0.2..1@unet.input.4', 0), [0, 0.2, 1, 1]);
  assert.equal(at('1, 0@text,0.2..1@unet.input.4', 1), [0, 1, 1, 1]);
  assert.equal(at('2@unet.input', 1), [0, 2, 2, 0]);
  assert.equal([new LoraScale('1..1').isFixed, new LoraScale('1,0..1@text').isFixed], [true, false]);
  const long = '1'.repeat(100_000);
  for (const text of ['', 'x', '1..', '1@', '1@@text', '0.5;1', 'NaN', '1..2..3', '1,,2', long, `${long}..${long}x`, `1@${long}`]) {
    assert.throws(
      () => new LoraScale(text),
      (error: Error) => error instanceof UserError && /is no LoRA scale/.test(error.message) && error.message.length < 300,
    );
  }
  assert.throws(() => new LoraSet().add(device, files[0], '0..1', true), /merged into the weights has one scale/);
});

test('the block of every weight', () => {
  for (const [weight, block] of [
    ['conditioner.embedders.0.transformer.text_model.encoder.layers.3.mlp.fc1.weight', 'text.1'],
    ['conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight', 'text.2'],
    ['model.diffusion_model.input_blocks.4.1.proj_in.weight', 'unet.input.4'],
    ['model.diffusion_model.middle_block.1.proj_in.weight', 'unet.middle'],
    ['model.diffusion_model.output_blocks.0.0.out_layers.3.weight', 'unet.output.0'],
    ['model.diffusion_model.time_embed.0.weight', 'unet.other'],
    ['model.diffusion_model.project_modules.2.zero_conv.weight', 'unet.other'],
    ['model.control_model.input_blocks.8.1.proj_in.weight', 'control.input.8'],
    ['model.control_model.middle_block.0.in_layers.2.weight', 'control.middle'],
    ['model.control_model.time_embed.0.weight', 'control.other'],
  ])
    assert.is(loraBlock(weight), block, weight);
});

test('in a step that reuses deep features a scale that changes acts where the step computes, and elsewhere is that of the last whole step', async () => {
  const reusing = (scale: LoraScaleText) =>
    withNetworks([scale], async (model, text) => {
      const denoiser = await model.denoiser(hint, null, text, { cachedWindows: 1 });
      await denoiser.network({ x: hint.data, timestep: 420, controlScale: 1, progress: 0 });
      const { positive } = await denoiser.network({ x, timestep: 400, controlScale: 1, progress: 1, reuse: true });
      denoiser.dispose();
      return positive;
    });
  const still = await reusing('0.5,0@unet.middle,0@unet.output.3');
  assert.equal(await reusing('0.5,0..1@unet.middle,0@unet.output.3'), still);
  assert.ok(apart(await reusing('0.5,0@unet.middle,0..1@unet.output.3'), still) > 1e-4);
});

test('a slider: two files, scales set between evaluations, nothing read, made or compiled', async () => {
  const scales: LoraScaleText[][] = [
    [0.5, 1],
    [0, 0],
    [-0.25, '0.5,1@unet.middle,0@control'],
  ];
  const expected: Float32Array[] = [];
  for (const each of scales) expected.push(await predict(each));
  assert.ok(apart(expected[0], expected[1]) > 1e-3 && apart(expected[0], expected[2]) > 1e-3, 'they act');
  await withNetworks([1, 1], async (model) => {
    const text = await model.condition(tokens);
    const denoiser = await model.denoiser(hint, null, text);
    await denoiser.network({ x, timestep: 400, controlScale: 1 });
    const [pipelines, buffers] = [device.pipelineCount, device.memory.buffers];
    let reads = 0;
    const sources = [...parameters(supir)].map(([, { source }]) => source!);
    const originals = sources.map(({ read }) => read);
    sources.forEach((source, i) => {
      source.read = () => {
        reads++;
        return originals[i]();
      };
    });
    for (const [i, each] of scales.entries()) {
      const handles = [...model.loras];
      for (const [index, scale] of each.entries()) handles[index].scale = scale;
      // The towers' part of a scale takes effect where the prompt is read again.
      const { context, vector } = await model.condition(tokens);
      const { positive } = await denoiser.evaluate({ x, timestep: 400, controlScale: 1 }, { context: context.data, vector: vector.data });
      assert.equal(positive, expected[i], `${each}`);
    }
    assert.is(device.pipelineCount, pipelines, 'nothing was compiled');
    assert.is(device.memory.buffers, buffers, 'nothing was made');
    assert.is(reads, 0, 'nothing was read');
    sources.forEach((source, i) => {
      source.read = originals[i];
    });
    denoiser.dispose();
  });
  assert.equal(await predict([0, 0]), await predict([]), 'at 0 no bit differs from the networks without');
});

test('over the steps, by both samplers', async () => {
  for (const [progress, scale] of [
    [0, 0.2],
    [0.25, 0.4],
    [1, 1],
  ])
    assert.equal(await predict(['0.2..1,0@text'], progress), await predict([`${scale},0@text`]), `${progress}`);
  const seen: (number | undefined)[] = [];
  const network = async (input: { x: Float32Array; progress?: number }) => {
    seen.push(input.progress);
    return { negative: input.x, positive: input.x };
  };
  const options = { steps: 3, noise: () => new Float32Array(4).fill(0.5), cfg: 1 };
  await sampleEdm(network, new NoiseSchedule(), options);
  await sampleEuler(network, new NoiseSchedule(), { ...options, steps: 1 });
  assert.equal(seen, [0, 0.5, 1, 0]);
});

test('a rule for control applies layers of the UNet there too, where the file has none', async () => {
  const weights = [...parameters(supir)].map(([, parameter]) => parameter);
  const unet: Lora = {
    name: 'unet',
    layers: files[0].layers.filter(({ parameter }) => parameter.name.startsWith('model.diffusion_model.')),
    notes: [],
  };
  assert.is(withControl(unet, new LoraScale('0.5'), weights), unet);
  assert.is(withControl(files[0], new LoraScale('1@control'), weights), files[0], 'it has its own');
  const both = withControl(unet, new LoraScale('0.5,1@control'), weights);
  const added = both.layers.slice(unet.layers.length);
  const first = unet.layers.filter(({ parameter }) => /(input|middle)_block/.test(parameter.name));
  assert.equal(
    added.map(({ parameter }) => parameter.name),
    first.map(({ parameter }) => parameter.name.replace('diffusion', 'control')),
  );
  assert.ok(added.length > 0 && added.every(({ change }, i) => change === first[i].change));
});

test('a block without a layer is refused by name', async () => {
  const model = new SupirModel(device, supir);
  assert.throws(
    () => model.loras.add(device, files[0], '1,0@unet.input.7'),
    /no layer in the block 'unet.input.7'; it has layers in: control\..*, unet\.middle/,
  );
});

test('a refused LoRA changes nothing, merged ones stay merged; one that is taken off is gone', async () => {
  const plain = await predict([]);
  await withNetworks([], async (model, text) => {
    const now = async () => {
      const denoiser = await model.denoiser(hint, null, text);
      const { positive } = await denoiser.network({ x, timestep: 400, controlScale: 1 });
      denoiser.dispose();
      return positive;
    };
    const unet = { ...files[0], layers: files[0].layers.filter(({ parameter }) => !parameter.name.startsWith('conditioner')) };
    const merged = model.loras.add(device, unet, 0.5, true);
    const with1 = await now();
    assert.ok(apart(with1, plain) > 1e-3);
    let closed = 0;
    const bad = { ...bytesSource('bad.safetensors', encodeSafetensors([['x', { dtype: 'F32', shape: [1], data: new Float32Array(1) }]])) };
    const refused = await model.addLora({ ...bad, close: async () => void closed++ }, 1).catch((error) => error);
    assert.instance(refused, UserError);
    assert.is(closed, 1);
    for (const [scale, merge] of [
      ['1,0@unet.input.7', false],
      ['0..1', true],
    ] as const)
      assert.throws(() => model.loras.add(device, files[1], scale, merge), /one scale in all steps|no layer in the block/);
    assert.equal([...model.loras], [merged]);
    assert.equal(await now(), with1);
    const second = model.loras.add(device, files[1], 0.5);
    const both = await now();
    assert.ok(apart(both, with1) > 1e-3);
    model.loras.remove(device, second);
    assert.equal(await now(), with1);
    model.loras.remove(device, merged);
    assert.equal(await now(), plain);
  });
});

test('no buffer stays', async () => {
  supir.release(device);
  const before = { ...device.memory };
  await predict([1, 0.5]);
  supir.release(device);
  assert.is(device.memory.buffers, before.buffers);
  assert.is(device.memory.bytes, before.bytes);
});

test.run();
