/** Scales of LoRA files: how they are written, by block and over the steps, and that another scale costs neither reading nor compiling. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { type Parameter, parameters } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { sizeOf } from '../../core/tensor.ts';
import { fixedLoraScale, type LoraScaleText, loraBlock, parseLoraScale, withControl } from '../../restore/lora-scales.ts';
import { Networks, type TextConditioning, type Values } from '../../restore/networks.ts';
import { sampleEdm } from '../../sampler/edm.ts';
import { sampleEuler } from '../../sampler/euler.ts';
import { NoiseSchedule } from '../../sampler/schedule.ts';
import type { Lora } from '../../weights/lora.ts';
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

async function withNetworks<T>(scales: LoraScaleText[], body: (networks: Networks, text: TextConditioning) => Promise<T>): Promise<T> {
  const networks = new Networks(device, supir);
  for (const [i, scale] of scales.entries()) networks.loras.add(device, files[i], scale);
  try {
    return await body(networks, await networks.condition(tokens));
  } finally {
    networks.loras.release(device);
  }
}

/** The prediction at some point of a run. */
const predict = (scales: LoraScaleText[], progress = 0) =>
  withNetworks(scales, async (networks, text) => {
    const denoiser = await networks.denoiser(hint, null, text);
    const { positive } = await denoiser.network({ x, timestep: 400, controlScale: 1, progress });
    denoiser.dispose();
    return positive;
  });

const apart = (a: Float32Array, b: Float32Array) => Math.max(...a.map((value, i) => Math.abs(value - b[i])));

test('scales as they are written', () => {
  assert.equal(parseLoraScale(0.8), [{ block: '', from: 0.8, to: 0.8 }]);
  assert.equal(parseLoraScale('-.5..1e-1'), [{ block: '', from: -0.5, to: 0.1 }]);
  assert.equal(parseLoraScale('1, 0@text,0.2..1@unet.input.4'), [
    { block: '', from: 1, to: 1 },
    { block: 'text', from: 0, to: 0 },
    { block: 'unet.input.4', from: 0.2, to: 1 },
  ]);
  for (const text of ['', 'x', '1..', '1@', '1@@text', '0.5;1', 'NaN', '1..2..3', '1,,2']) {
    assert.throws(
      () => parseLoraScale(text),
      (error: Error) => error instanceof UserError && /is no LoRA scale/.test(error.message),
    );
  }
  const fixed = fixedLoraScale('0.5,2@unet.output,0@text.2');
  assert.equal(
    [
      'model.diffusion_model.output_blocks.3.1.proj_in.weight',
      'conditioner.embedders.1.model.x.weight',
      'model.diffusion_model.out.2.weight',
    ].map(fixed),
    [2, 0, 0.5],
  );
  assert.throws(() => fixedLoraScale('0..1'), /merged into the weights has one scale/);
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

test('a slider: two files, scales set between evaluations, nothing read, made or compiled', async () => {
  const scales: LoraScaleText[][] = [
    [0.5, 1],
    [0, 0],
    [-0.25, '0.5,1@unet.middle,0@control'],
  ];
  const expected: Float32Array[] = [];
  for (const each of scales) expected.push(await predict(each));
  assert.ok(apart(expected[0], expected[1]) > 1e-3 && apart(expected[0], expected[2]) > 1e-3, 'they act');
  await withNetworks([1, 1], async (networks) => {
    const text = await networks.condition(tokens);
    const denoiser = await networks.denoiser(hint, null, text);
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
      for (const [index, scale] of each.entries()) networks.loras.set(index, scale);
      // The towers' part of a scale takes effect where the prompt is read again.
      const { context, vector } = await networks.condition(tokens);
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
  assert.is(withControl(unet, '0.5', weights), unet);
  assert.is(withControl(files[0], '1@control', weights), files[0], 'it has its own');
  const both = withControl(unet, '0.5,1@control', weights);
  const added = both.layers.slice(unet.layers.length);
  const first = unet.layers.filter(({ parameter }) => /(input|middle)_block/.test(parameter.name));
  assert.equal(
    added.map(({ parameter }) => parameter.name),
    first.map(({ parameter }) => parameter.name.replace('diffusion', 'control')),
  );
  assert.ok(added.length > 0 && added.every(({ change }, i) => change === first[i].change));
});

test('a block without a layer is refused by name', async () => {
  const networks = new Networks(device, supir);
  assert.throws(
    () => networks.loras.add(device, files[0], '1,0@unet.input.7'),
    /no layer in the block 'unet.input.7'; it has layers in: control\..*, unet\.middle/,
  );
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
