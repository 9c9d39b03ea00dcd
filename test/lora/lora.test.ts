/** LoRA beside the golden cases: spellings, alpha, relatives of LoRA, stacking, scales, exactness, merging, and files that do not fit. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { Parameter, parameters } from '../../core/module.ts';
import { input, type Shape, scalar, type Tensor } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { mul } from '../../kernels/binary.ts';
import { permute } from '../../kernels/copy.ts';
import { gradient } from '../../kernels/gradient.ts';
import { mean } from '../../kernels/reduce.ts';
import { reshape } from '../../kernels/reshape.ts';
import { silu } from '../../kernels/unary.ts';
import { Conv2d, Linear } from '../../models/layers.ts';
import { type AppliedLora, adaptersOf, LoraStack } from '../../models/lora.ts';
import { mergeLora } from '../../models/lora-merge.ts';
import { AdamW } from '../../train/adamw.ts';
import { factorsOf, newAdapters, trainedAdapter } from '../../train/lora.ts';
import { TrainingStep } from '../../train/step.ts';
import { sampler, type Values } from '../../verify/sample.ts';
import { attach } from '../../weights/attach.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { denseChange, type Lora, type LoraLayer, readLora } from '../../weights/lora.ts';
import { loraTargets, parseLoraKey } from '../../weights/lora-names.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { testDevice } from '../support/device.ts';
import { goldenFolder } from '../support/golden.ts';

type Arrays = Record<string, Values | { shape: Shape; data: ArrayLike<number> }>;

/** A LoRA file of these tensors in f32. */
function file(tensors: Arrays) {
  const entries = Object.entries(tensors).map(
    ([name, { shape, data }]) => [name, { dtype: 'F32' as const, shape, data: Float32Array.from(data) }] as const,
  );
  return openSafetensors(bytesSource('test.safetensors', encodeSafetensors(entries)));
}

const scalarOf = (value: number) => ({ shape: [], data: [value] });

/** A convolution of stride 2 and a linear layer behind it, as if they were the UNet's. */
async function network(dtype: 'f16' | 'f32' = 'f32', shape: Shape = [2, 5, 6, 5]) {
  const draw = sampler(1);
  const module = { conv: new Conv2d(5, 12, 3, { stride: 2 }), proj: new Linear(12, 7) };
  const tensors = Object.fromEntries(
    [...parameters(module)].map(([path, { shape }]) => [`model.diffusion_model.${path}`, draw(shape, { std: 0.3 })]),
  );
  attach(module, 'model.diffusion_model.', new Checkpoint([await file(tensors)]), { dtype });
  const x = draw([...shape]);
  const graph = () => ({ y: silu(module.proj.forward(silu(module.conv.forward(input('x', x.shape))))) });
  return { module, weights: [...parameters(module)].map(([, p]) => p), graph, x: Float32Array.from(x.data) };
}

/** The result with LoRAs applied; their buffers are freed. */
async function runWith(loras: AppliedLora[], outputs: Record<string, Tensor>, x: Float32Array): Promise<Float32Array> {
  const stack = new LoraStack(loras);
  try {
    return await run(stack.apply(outputs), { x });
  } finally {
    stack.release(await testDevice());
  }
}

async function run(outputs: Record<string, Tensor>, inputs: Record<string, Float32Array | number>): Promise<Float32Array> {
  const program = await compile(await testDevice(), outputs);
  try {
    return (await program.run(inputs)).y;
  } finally {
    program.dispose();
  }
}

function loraTensors(seed: number, rank: number, b = 0.5): Arrays {
  const draw = sampler(seed);
  return {
    'lora_unet_conv.lora_down.weight': draw([rank, 5, 3, 3]),
    'lora_unet_conv.lora_up.weight': draw([12, rank, 1, 1], { std: b }),
    'lora_unet_proj.lora_down.weight': draw([rank, 12]),
    'lora_unet_proj.lora_up.weight': draw([7, rank], { std: b }),
    'lora_unet_proj.alpha': scalarOf(rank / 2),
  };
}

const apart = (a: ArrayLike<number>, b: ArrayLike<number>) => Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i])));

test('the spellings of every program name the same weight', async () => {
  const folder = await goldenFolder();
  const checkpoint = await folder.modelCheckpoint('tiny', ['sdxl', 'supir']);
  const weights = checkpoint.keys().map((name) => {
    const { shape } = checkpoint.info(name);
    const parameter = new Parameter(shape, shape.length === 4 ? 'conv' : shape.length === 2 ? 'matrix' : 'vector');
    parameter.name = name;
    return parameter;
  });
  const targets = loraTargets(weights);
  const found = (key: string) => {
    const parsed = parseLoraKey(key);
    const target = parsed && targets.get(parsed.layer);
    return target ? `${parsed.role} ${target.parameter.name}${target.parts > 1 ? ` ${target.part}/${target.parts}` : ''}` : null;
  };
  const q = 'model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight';
  const out = 'model.diffusion_model.output_blocks.5.1.transformer_blocks.0.attn2.to_out.0.weight';
  for (const [key, expected] of [
    ['lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight', `down ${q}`],
    ['lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight', `up ${q}`],
    ['unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight', `down ${q}`],
    ['unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.default.weight', `up ${q}`],
    ['base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight', `up ${q}`],
    ['unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight', `down ${q}`],
    ['unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight', `down ${q}`],
    ['down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight', `up ${q}`],
    ['diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.lora_A.weight', `down ${q}`],
    ['unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_magnitude_vector', `magnitudeOfRows ${q}`],
    ['unet.up_blocks.1.attentions.2.transformer_blocks.0.attn2.processor.to_out_lora.up.weight', `up ${out}`],
    ['lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_attn2_to_out_0.alpha', `alpha ${out}`],
    ['lora_unet_up_blocks_0_upsamplers_0_conv.lora_mid.weight', 'mid model.diffusion_model.output_blocks.2.2.conv.weight'],
    ['lora_unet_mid_block_resnets_1_conv2.hada_w1_a', 'hada_w1_a model.diffusion_model.middle_block.2.out_layers.3.weight'],
    ['lora_unet_time_embedding_linear_1.lokr_w2', 'lokr_w2 model.diffusion_model.time_embed.0.weight'],
    [
      'lora_te1_text_model_encoder_layers_3_mlp_fc1.lora_up.weight',
      'up conditioner.embedders.0.transformer.text_model.encoder.layers.3.mlp.fc1.weight',
    ],
    [
      'text_encoder.text_model.encoder.layers.3.self_attn.q_proj.lora_linear_layer.up.weight',
      'up conditioner.embedders.0.transformer.text_model.encoder.layers.3.self_attn.q_proj.weight',
    ],
    [
      'lora_te2_text_model_encoder_layers_1_self_attn_v_proj.lora_up.weight',
      'up conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight 2/3',
    ],
    [
      'text_encoder_2.text_model.encoder.layers.1.mlp.fc2.lora_A.weight',
      'down conditioner.embedders.1.model.transformer.resblocks.1.mlp.c_proj.weight',
    ],
    ['lora_control_input_blocks_4_1_proj_in.lora_up.weight', 'up model.control_model.input_blocks.4.1.proj_in.weight'],
    ['lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.weight', null],
    ['lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight', null],
  ] as const) {
    assert.is(found(key), expected, key);
  }
});

test('applied equals merged, for f32 and f16 weights and two at once; undone is as before', async () => {
  const device = await testDevice();
  for (const [dtype, tolerance] of [
    ['f32', 2e-5],
    ['f16', 2e-2],
  ] as const) {
    const { module, weights, graph, x } = await network(dtype);
    const loras = await Promise.all([loraTensors(3, 4), loraTensors(5, 3)].map(async (t) => readLora(await file(t), weights)));
    const scales = [0.8, -0.3];
    const applied = loras.map((lora, i) => ({ adapters: adaptersOf(lora), scale: scales[i] }));
    const plain = await run(graph(), { x });
    const y = await runWith(applied, graph(), x);
    assert.ok(apart(plain, y) > 0.1, 'it acts');
    const merged = mergeLora(
      device,
      loras.map((lora, i) => ({ lora, scale: scales[i] })),
    );
    assert.ok(apart(await run(graph(), { x }), y) < tolerance, dtype);
    merged.undo(device);
    assert.equal(await run(graph(), { x }), plain);
    device.residency.releaseAll(module);
  }
});

test('B = 0 changes no bit, and neither does a scale of 0', async () => {
  const device = await testDevice();
  const { module, weights, graph, x } = await network('f16');
  const plain = await run(graph(), { x });
  for (const [b, scale] of [
    [0, 0.7],
    [1, 0],
  ]) {
    const adapters = adaptersOf(await readLora(await file(loraTensors(3, 4, b)), weights));
    assert.equal(await runWith([{ adapters, scale }], graph(), x), plain);
  }
  device.residency.releaseAll(module);
});

test('a scale is a scalar of the program: no new plan, no new pipeline; and may differ by weight', async () => {
  const device = await testDevice();
  const { module, weights, graph, x } = await network();
  const lora = await readLora(await file(loraTensors(3, 4)), weights);
  const at = (scale: AppliedLora['scale']) => runWith([{ adapters: adaptersOf(lora), scale }], graph(), x);
  const strengths = [0, 0.5, 1, -2];
  const expected: Float32Array[] = [];
  for (const strength of strengths) expected.push(await at(strength));
  const stack = new LoraStack([{ adapters: adaptersOf(lora), scale: scalar('strength') }]);
  const program = await compile(device, stack.apply(graph()));
  const pipelines = device.pipelineCount;
  const { buffers } = device.memory;
  for (const [i, strength] of strengths.entries()) assert.equal((await program.run({ x, strength })).y, expected[i], `${strength}`);
  assert.is(device.memory.buffers, buffers);
  assert.is(device.pipelineCount, pipelines, 'nothing was compiled');
  program.dispose();
  stack.release(device);
  const onlyConv = await at((weight) => (weight.endsWith('conv.weight') ? 1 : 0));
  const reference = adaptersOf(
    await readLora(await file(Object.fromEntries(Object.entries(loraTensors(3, 4)).filter(([key]) => key.includes('conv')))), weights),
  );
  assert.equal(onlyConv, await runWith([{ adapters: reference, scale: 1 }], graph(), x));
  device.residency.releaseAll(module);
});

/** The difference that a file makes to the convolution's or the linear layer's weight. */
async function delta(tensors: Arrays): Promise<ArrayLike<number>> {
  const { weights } = await network();
  return denseChange((await readLora(await file(tensors), weights)).layers[0]);
}

const close = (actual: ArrayLike<number>, expected: ArrayLike<number>, what: string) => {
  assert.is(actual.length, expected.length, what);
  assert.ok(apart(actual, expected) < 1e-5, `${what}: ${apart(actual, expected)}`);
};

/** sum over r of a[i, r] b[r, j] */
const times = (a: Values, b: Values) => (i: number, j: number) =>
  Array.from({ length: a.shape[1] }, (_, r) => a.data[i * a.shape[1] + r] * b.data[r * b.shape[1] + j]).reduce((x, y) => x + y, 0);

test('LoHa, LoKr and windows with factors are what their formulas say', async () => {
  const draw = sampler(9);
  const [w1a, w1b, w2a, w2b] = [draw([7, 3]), draw([3, 12]), draw([7, 3]), draw([3, 12])];
  const [first, other] = [times(w1a, w1b), times(w2a, w2b)];
  const loha = {
    'lora_unet_proj.hada_w1_a': w1a,
    'lora_unet_proj.hada_w1_b': w1b,
    'lora_unet_proj.hada_w2_a': w2a,
    'lora_unet_proj.hada_w2_b': w2b,
  };
  const hadamard = Array.from({ length: 84 }, (_, i) => first(Math.floor(i / 12), i % 12) * other(Math.floor(i / 12), i % 12));
  close(await delta(loha), hadamard, 'LoHa');
  close(
    await delta({ ...loha, 'lora_unet_proj.alpha': scalarOf(6) }),
    hadamard.map((v) => v * 2),
    'LoHa, alpha 6 of rank 3',
  );

  // With a window: sum over n, m of t[n, m, tap] a[n, o] b[m, i], for both factors of LoHa and for LoKr's second.
  const tucker = (t: Values, a: Values, b: Values) => (o: number, i: number, tap: number) => {
    const [r, , kh, kw] = t.shape;
    let sum = 0;
    for (let n = 0; n < r; n++)
      for (let m = 0; m < r; m++) sum += t.data[(n * r + m) * kh * kw + tap] * a.data[n * a.shape[1] + o] * b.data[m * b.shape[1] + i];
    return sum;
  };
  const [t1, a1, b1, t2, a2, b2] = [
    [2, 2, 3, 3],
    [2, 12],
    [2, 5],
    [3, 3, 3, 3],
    [3, 12],
    [3, 5],
  ].map((shape) => draw(shape));
  const [w1, w2] = [tucker(t1, a1, b1), tucker(t2, a2, b2)];
  const at = (i: number): [number, number, number] => [Math.floor(i / 45), Math.floor(i / 9) % 5, i % 9];
  close(
    await delta({
      'lora_unet_conv.hada_t1': t1,
      'lora_unet_conv.hada_w1_a': a1,
      'lora_unet_conv.hada_w1_b': b1,
      'lora_unet_conv.hada_t2': t2,
      'lora_unet_conv.hada_w2_a': a2,
      'lora_unet_conv.hada_w2_b': b2,
    }),
    Array.from({ length: 540 }, (_, i) => w1(...at(i)) * w2(...at(i))),
    'LoHa, a convolution',
  );
  const [l1, lt, la, lb] = [
    [3, 1],
    [2, 2, 3, 3],
    [2, 4],
    [2, 5],
  ].map((shape) => draw(shape));
  const second = tucker(lt, la, lb);
  close(
    await delta({
      'lora_unet_conv.lokr_w1': l1,
      'lora_unet_conv.lokr_t2': lt,
      'lora_unet_conv.lokr_w2_a': la,
      'lora_unet_conv.lokr_w2_b': lb,
    }),
    Array.from({ length: 540 }, (_, i) => l1.data[Math.floor(i / 180)] * second(Math.floor(i / 45) % 4, Math.floor(i / 9) % 5, i % 9)),
    'LoKr, a convolution with a window apart',
  );

  const [k1, k2] = [draw([7, 3]), draw([1, 4])];
  const kron = Array.from({ length: 84 }, (_, i) => k1.data[Math.floor(i / 12) * 3 + Math.floor((i % 12) / 4)] * k2.data[i % 4]);
  close(
    await delta({ 'lora_unet_proj.lokr_w1': k1, 'lora_unet_proj.lokr_w2': k2, 'lora_unet_proj.alpha': scalarOf(5) }),
    kron,
    'LoKr, whole factors',
  );

  // out 12 = 3 x 4, in 5 = 1 x 5, window 3 x 3
  const [c1, c2a, c2b] = [draw([3, 1]), draw([4, 2]), draw([2, 45])];
  const c2 = times(c2a, c2b);
  const conv = Array.from({ length: 12 * 45 }, (_, i) => c1.data[Math.floor(i / 45 / 4)] * c2(Math.floor(i / 45) % 4, i % 45));
  const lokr = { 'lora_unet_conv.lokr_w1': c1, 'lora_unet_conv.lokr_w2_a': c2a, 'lora_unet_conv.lokr_w2_b': c2b };
  close(
    await delta({ ...lokr, 'lora_unet_conv.alpha': scalarOf(1) }),
    conv.map((v) => v / 2),
    'LoKr, a convolution',
  );

  const [up, mid, down] = [draw([12, 2, 1, 1]), draw([2, 3, 3, 3]), draw([3, 5, 1, 1])];
  const through = Array.from({ length: 12 * 45 }, (_, at) => {
    const [o, i, tap] = [Math.floor(at / 45), Math.floor(at / 9) % 5, at % 9];
    let sum = 0;
    for (let n = 0; n < 2; n++)
      for (let m = 0; m < 3; m++) sum += up.data[o * 2 + n] * mid.data[(n * 3 + m) * 9 + tap] * down.data[m * 5 + i];
    return sum;
  });
  close(
    await delta({ 'lora_unet_conv.lora_up.weight': up, 'lora_unet_conv.lora_mid.weight': mid, 'lora_unet_conv.lora_down.weight': down }),
    through,
    'mid',
  );
});

test('relatives of LoRA apply as they merge', async () => {
  const device = await testDevice();
  const draw = sampler(11);
  const { module, weights, graph, x } = await network();
  const files: Arrays[] = [
    {
      'lora_unet_conv.lora_up.weight': draw([12, 2, 1, 1]),
      'lora_unet_conv.lora_mid.weight': draw([2, 3, 3, 3]),
      'lora_unet_conv.lora_down.weight': draw([3, 5, 1, 1]),
    },
    { 'lora_unet_conv.lokr_w1': draw([3, 1]), 'lora_unet_conv.lokr_w2': draw([4, 5, 3, 3]) },
    {
      ...loraTensors(7, 4),
      'lora_unet_conv.dora_scale': draw([12, 1, 1, 1], { mean: 3 }),
      'lora_unet_proj.dora_scale': draw([1, 12], { mean: 2 }),
    },
  ];
  for (const tensors of files) {
    const lora: Lora = await readLora(await file(tensors), weights);
    const adapters = adaptersOf(lora);
    const y = await runWith([{ adapters, scale: 0.6 }], graph(), x);
    const merged = mergeLora(device, [{ lora, scale: 0.6 }]);
    assert.ok(apart(await run(graph(), { x }), y) < 2e-5, Object.keys(tensors)[0]);
    merged.undo(device);
  }
  const loras = await Promise.all(files.map(async (tensors) => readLora(await file(tensors), weights)));
  const all = [loras[0], loras[1], loras[2], loras[0]].map((lora, i) => ({
    lora,
    adapters: adaptersOf(lora),
    scale: [0.6, -0.4, 0.3, 0.5][i],
  }));
  const y = await runWith(all, graph(), x);
  const merged = mergeLora(device, all);
  assert.ok(apart(await run(graph(), { x }), y) < 5e-5, 'all of them at once');
  merged.undo(device);
  device.residency.releaseAll(module);
});

test('parts of a weight: query, key and value one after the other, stacked and of different ranks', async () => {
  const device = await testDevice();
  const { module, weights, graph, x } = await network();
  const conv = weights.find(({ name }) => name.endsWith('conv.weight'))!;
  const draw = sampler(12);
  const layer = (part: number, rank: number): LoraLayer => ({
    parameter: conv,
    part,
    parts: 3,
    change: { kind: 'lowRank', down: draw([rank, 5, 3, 3]), mid: null, up: draw([4, rank]) },
  });
  const dense: LoraLayer = { parameter: conv, part: 1, parts: 3, change: { kind: 'dense', delta: draw([4, 5, 3, 3]) } };
  for (const layers of [[layer(0, 2)], [layer(2, 3), layer(0, 5), layer(1, 4), layer(2, 1), dense]]) {
    const lora: Lora = { name: 'parts', layers, notes: [] };
    const y = await runWith([{ adapters: adaptersOf(lora), scale: 0.7 }], graph(), x);
    const merged = mergeLora(device, [{ lora, scale: 0.7 }]);
    assert.ok(apart(await run(graph(), { x }), y) < 5e-5, `${layers.length}`);
    merged.undo(device);
  }
  assert.is(device.residency.bufferOf(module.conv.weight), undefined, 'given back to be read again');
  device.residency.releaseAll(module);
});

test("adapters in training whose ranks are not low are added to the weight, and result and derivatives are those of the layer's sum", async () => {
  const device = await testDevice();
  for (const dtype of ['f32', 'f16'] as const) {
    const { module, weights, graph, x } = await network(dtype, [2, 9, 10, 5]);
    const lora = await readLora(await file(loraTensors(21, 16)), weights);
    const outcome = async (changes: 'seldom' | 'every run') => {
      const adapters = adaptersOf(lora).map((adapter) => ({ ...adapter, strength: 0.4 }));
      const factors = adapters.flatMap((adapter) => adapter.factors);
      for (const factor of factors) factor.changes = changes;
      const stack = new LoraStack([{ adapters, scale: 1 }]);
      const { y } = stack.apply(graph());
      const upstream = sampler(22)(y.shape).tensor;
      const derivatives = gradient(
        y,
        factors.map(({ tensor }) => tensor),
        { upstream },
      );
      const outputs: Record<string, Tensor> = { y, ...Object.fromEntries(derivatives.map((derivative, i) => [`d${i}`, derivative])) };
      const program = await compile(device, outputs);
      const results = await program.run({ x });
      program.dispose();
      stack.release(device);
      return { results, inSum: program.plan.dispatches.some(({ shader }) => shader.name.includes('low rank')) };
    };
    const [summed, added] = [await outcome('seldom'), await outcome('every run')];
    assert.ok(summed.inSum && !added.inSum);
    for (const [name, values] of Object.entries(summed.results)) {
      const largest = Math.max(...values.map(Math.abs));
      assert.ok(
        largest > 0.1 && apart(added.results[name], values) < 1e-5 * largest,
        `${name}: ${apart(added.results[name], values)} of ${largest}`,
      );
    }
    device.residency.releaseAll(module);
  }
});

test('adapters whose factors lie together give what they give apart, and one product changes all their weights', async () => {
  const device = await testDevice();
  const draw = sampler(23);
  const attn1 = () => ({ to_q: new Linear(32, 32), to_k: new Linear(32, 32) });
  const module = { first: { attn1: attn1() }, second: { attn1: attn1() } };
  const tensors = [...parameters(module)].map(([path, { shape }]) => [`model.diffusion_model.${path}`, draw(shape, { std: 0.2 })]);
  attach(module, 'model.diffusion_model.', new Checkpoint([await file(Object.fromEntries(tensors))]));
  const x = draw([2, 40, 32]);
  const adapters = newAdapters(
    [...parameters(module)].map(([, parameter]) => parameter),
    { rank: 8, alpha: 4, targets: ['attention'], seed: 3 },
  );
  const values = adapters.flatMap((adapter) => adapter.values.map(({ length }) => Float32Array.from(draw([length], { std: 0.3 }).data)));
  const alone = adapters.map(({ parameter, values, strength }) => trainedAdapter(parameter, values, strength));
  const [results, products]: [Float32Array[][], number[]] = [[], []];
  for (const some of [adapters, alone]) {
    const { first, second } = module;
    const h = [first.attn1.to_q, first.attn1.to_k, second.attn1.to_k, second.attn1.to_q].reduce(
      (h, layer) => silu(layer.forward(h)),
      x.tensor,
    );
    const stack = new LoraStack([{ adapters: some, scale: 1 }]);
    const adam = new AdamW(device, factorsOf(some).factors, values, {});
    const y = reshape(h, [1, h.size]);
    const step = await TrainingStep.compile(device, stack.apply({ loss: reshape(mean(mul(y, y)), [1]), y }), adam, {
      checkpointing: false,
    });
    const { outputs } = await step.run({}, { share: 1, first: true });
    results.push([outputs.y, ...(await adam.read('gradient'))]);
    products.push(step.program.plan.dispatches.filter(({ label }) => label.startsWith('linear') && label.includes(', 32, 8)')).length);
    step.dispose();
    await adam.dispose();
    stack.release(device);
  }
  assert.equal(products, [1, 4]);
  for (const [i, expected] of results[1].entries()) {
    const largest = Math.max(...expected.map(Math.abs));
    assert.ok(largest > 0 && apart(results[0][i], expected) < 1e-5 * largest, `${i}: ${largest}`);
  }
  device.residency.releaseAll(module);
});

test('merged over weights in blocks: rounded to blocks again', async () => {
  const device = await testDevice();
  const draw = sampler(14);
  const module = { proj: new Linear(64, 32) };
  const name = 'model.diffusion_model.proj';
  const base = await file({ [`${name}.weight`]: draw([32, 64], { std: 0.3 }), [`${name}.bias`]: draw([32]) });
  attach(module, 'model.diffusion_model.', new Checkpoint([base]), { dtype: 'q8' });
  const x = draw([5, 64]);
  const graph = () => ({ y: module.proj.forward(input('x', x.shape)) });
  const inputs = Float32Array.from(x.data);
  const tensors = { 'lora_unet_proj.lora_down.weight': draw([4, 64]), 'lora_unet_proj.lora_up.weight': draw([32, 4], { std: 0.3 }) };
  const lora = await readLora(
    await file(tensors),
    [...parameters(module)].map(([, p]) => p),
  );
  const plain = await run(graph(), { x: inputs });
  const y = await runWith([{ adapters: adaptersOf(lora), scale: 1 }], graph(), inputs);
  const merged = mergeLora(device, [{ lora, scale: 1 }]);
  const difference = apart(await run(graph(), { x: inputs }), y);
  // 64 products of a value near 1 and a rounding of at most 1/256 of the block's largest weight, about 2.
  assert.ok(difference > 0 && difference < 0.2 && apart(plain, y) > 2, `${difference} of ${apart(plain, y)}`);
  merged.undo(device);
  assert.equal(await run(graph(), { x: inputs }), plain);
  device.residency.releaseAll(module);
});

test('what does not fit is refused, with names', async () => {
  const { weights, graph } = await network();
  const draw = sampler(13);
  const refused = async (tensors: Arrays, text: RegExp) => {
    try {
      await readLora(await file(tensors), weights);
    } catch (error) {
      assert.instance(error, UserError);
      assert.match((error as Error).message, text);
      return;
    }
    assert.unreachable(`expected ${text}`);
  };
  await refused(
    { ...loraTensors(3, 4), 'lora_unet_other.lora_down.weight': draw([4, 12]) },
    /1 of 6 tensors belong to no layer of this model: lora_unet_other\.lora_down\.weight/,
  );
  await refused(
    { 'lora_unet_proj.lora_down.weight': draw([4, 12]) },
    /lora_unet_proj: it has lora_unet_proj\.lora_down\.weight, but no up/,
  );
  await refused(
    { 'lora_unet_proj.lora_down.weight': draw([4, 12]), 'lora_unet_proj.lora_up.weight': draw([7, 3]) },
    /the ranks of \(4, 12\) and \(7, 3\) differ/,
  );
  await refused(
    { 'lora_unet_proj.lora_down.weight': draw([4, 11]), 'lora_unet_proj.lora_up.weight': draw([7, 4]) },
    /do not fit model\.diffusion_model\.proj\.weight, \(7, 12\)/,
  );
  await refused(
    { 'lora_unet_proj.lokr_w1': draw([7, 3]), 'lora_unet_proj.lokr_w2': draw([1, 5]) },
    /make \(7, 15\), and model\.diffusion_model\.proj\.weight is \(7, 12\)/,
  );
  await refused({ ...loraTensors(7, 4), 'lora_unet_proj.dora_scale': draw([1, 11]) }, /magnitude \(1, 11\) fits neither rows nor columns/);
  await refused({}, /holds no tensors/);
  const adapters = adaptersOf(await readLora(await file(loraTensors(3, 4)), weights));
  const odd = permute(weights[0].tensor, [1, 2, 3, 0]);
  assert.throws(() => new LoraStack([{ adapters, scale: 1 }]).apply({ ...graph(), odd }), /is no linear layer or convolution/);
});

test.run();
