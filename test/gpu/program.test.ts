/** Programs on a device: runs, scalars, refusals, memory. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError, UserError } from '../../core/errors.ts';
import { encodeF16 } from '../../core/half.ts';
import { Parameter } from '../../core/module.ts';
import { type Changes, constant, input, scalar, type Tensor } from '../../core/tensor.ts';
import { Device } from '../../gpu/device.ts';
import { Held } from '../../gpu/held.ts';
import { perfettoTrace } from '../../gpu/perfetto.ts';
import { Profile } from '../../gpu/profiler.ts';
import { compile, evaluate, type RunInputs } from '../../gpu/program.ts';
import { add, mul } from '../../kernels/binary.ts';
import { concat, permute } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { groupNorm } from '../../kernels/group-norm.ts';
import { linear } from '../../kernels/linear.ts';
import { reshape } from '../../kernels/reshape.ts';
import { affine, cast, exp } from '../../kernels/unary.ts';
import { testDevice } from '../support/device.ts';
import { refusal } from '../support/refused.ts';

/** Runs `body` and asserts that buffers and bytes are what they were. */
async function atBaseline(body: (device: Device) => Promise<void>): Promise<void> {
  const device = await testDevice();
  const { buffers, bytes } = device.memory;
  await body(device);
  assert.equal({ buffers: device.memory.buffers, bytes: device.memory.bytes }, { buffers, bytes });
}

const x = input('x', [3, 4]);
const ramp = (n: number, start = 0) => Float32Array.from({ length: n }, (_, i) => start + i);

test('what a program allocates is what was planned, and disposing gives it back', () =>
  atBaseline(async (device) => {
    const before = device.memory.bytes;
    const big = input('big', [64, 64]);
    const y = concat([exp(affine(big, 2, 0)), reshape(constant(ramp(4096), [4096]), [64, 64])]);
    const program = await compile(device, { y, half: cast(big, 'f16') });
    const { bytes } = program.plan;
    assert.is(device.memory.bytes - before, bytes.total);
    assert.is(bytes.inputs, 2 * 4 * 4096);
    assert.ok(device.memory.peak >= device.memory.bytes);
    await program.run({ big: ramp(4096) });
    program.dispose();
    program.dispose();
    assert.match((await refusal(program.run())).message, 'disposed');
  }));

test('what follows from seldom inputs is computed when they are given, and results are those of a program that computes all', () =>
  atBaseline(async (device) => {
    const graph = (changes: Changes) => {
      const text = input('text', [5, 4], 'f32', changes);
      const keys = mul(exp(linear(text, constant(ramp(12, -6), [3, 4]))), constant(Float32Array.of(1, 2, 3), [3]));
      const scaled = affine(text, scalar('scale', changes), 1);
      return { y: linear(linear(x, scaled), permute(keys, [1, 0])), keys };
    };
    const [hoisting, plain] = [await compile(device, graph('seldom')), await compile(device, graph('every run'))];
    assert.ok(hoisting.plan.once > 0);
    assert.equal([...hoisting.plan.seldom].sort(), ['scale', 'text']);
    assert.is(plain.plan.once, 0);
    const runs: RunInputs[] = [
      { x: ramp(12), text: ramp(20, -9), scale: 2 },
      { x: ramp(12, 3) },
      { text: ramp(20, -12) },
      { x: ramp(12, 1), scale: 2 },
      { scale: -1 },
      {},
    ];
    for (const given of runs) assert.equal(await hoisting.run(given), await plain.run(given));
    hoisting.dispose();
    plain.dispose();
  }));

test('a run that takes a result over computes what follows with what an earlier run made, within the program or kept beside it', () =>
  atBaseline(async (device) => {
    const text = input('text', [3, 4], 'f32', 'seldom');
    const shallow = affine(x, 2, 1);
    const inner = mul(shallow, exp(affine(text, 0.1, 0)));
    const before = exp(affine(inner, 0.1, 0));
    // By hand: the same with what is taken over as an input.
    const graph = (deep: Tensor) => ({ y: add(mul(deep, shallow), affine(text, 3, 0)), deep, side: affine(inner, 1, 1) });
    const program = await compile(device, graph(before), undefined, { reused: 'deep' });
    const plain = await compile(device, graph(before));
    const byHand = await compile(device, { y: graph(input('deep', [3, 4])).y });
    assert.is(program.plan.bytes.results, 2 * 48);
    assert.match((await refusal(program.run({ x: ramp(12), text: ramp(12) }, { reuse: true }))).message, 'take over');
    const held = new Held(device, 'features', 48);
    const first = { x: ramp(12), text: ramp(12) };
    const { deep, side, y } = await plain.run(first);
    assert.equal(await program.run(first, { to: held.all('deep') }), { y, side });
    for (const given of [
      { x: ramp(12, 5), text: ramp(12) },
      { x: ramp(12, -5), text: ramp(12, 4) },
    ])
      assert.equal(await program.run(given, { reuse: true }), await byHand.run({ ...given, deep }));
    // What changed seldom meanwhile counts in the next whole run.
    const later = { x: ramp(12, 1), text: ramp(12, 4) };
    const { deep: _, ...fresh } = await plain.run(later);
    assert.equal(await program.run({ x: later.x }), fresh);
    assert.equal(await program.run(later, { reuse: true, from: held.all('deep') }), await byHand.run({ ...later, deep }));
    held.release();
    for (const each of [program, plain, byHand]) each.dispose();
  }));

test('evaluate leaves nothing behind, also when it fails', () =>
  atBaseline(async (device) => {
    assert.equal([...(await evaluate(device, affine(x, 2, 1), { x: ramp(12) }))], [...ramp(12).map((v) => 2 * v + 1)]);
    assert.instance(await refusal(evaluate(device, exp(x))), UserError);
    const weight = new Parameter([4, 4], 'matrix');
    weight.name = 'layer.weight';
    assert.match((await refusal(evaluate(device, linear(x, weight.tensor), { x: ramp(12) }))).message, 'layer.weight');
    const tooLarge = input('panorama', [device.gpu.limits.maxStorageBufferBindingSize / 4 + 4]);
    const error = await refusal(evaluate(device, exp(tooLarge)));
    assert.instance(error, ShapeError);
    assert.match(error.message, 'panorama');
    assert.match(error.message, String(device.gpu.limits.maxStorageBufferBindingSize));
  }));

test('inputs, constants, views and weights can be outputs themselves', () =>
  atBaseline(async (device) => {
    const weight = new Parameter([2, 2], 'vector');
    device.residency.upload(weight, ramp(4, 7));
    const program = await compile(device, { x, view: reshape(x, [4, 3]), known: constant(ramp(5), [5]), weight: weight.tensor });
    const result = await program.run({ x: ramp(12) });
    assert.equal({ ...result }, { x: ramp(12), view: ramp(12), known: ramp(5), weight: ramp(4, 7) });
    program.dispose();
    device.residency.release(weight);
  }));

test('results of f16 and u32 decode', async () => {
  const device = await testDevice();
  const values = Float32Array.of(0, -0.5, 65504, 2 ** -24, 1 / 3);
  const half = input('half', [5], 'f16');
  const program = await compile(device, {
    half,
    index: constant(Uint32Array.of(1, 4_000_000_000), [2]),
    back: cast(cast(half, 'f32'), 'f16'),
  });
  const result = await program.run({ half: encodeF16(values) });
  assert.equal([...result.half], [0, -0.5, 65504, 2 ** -24, 0.333251953125]);
  assert.equal([...result.back], [...result.half]);
  assert.equal([...result.index], [1, 4_000_000_000]);
  program.dispose();
});

test('scalars change results without a new pipeline, and keep their values', async () => {
  const device = await testDevice();
  const s = scalar('s');
  const program = await compile(device, { y: add(affine(x, s, 0), affine(x, 1, s)), z: affine(x, 0, scalar('t')) });
  const pipelines = device.pipelineCount;
  const one = new Float32Array(12).fill(1);
  assert.is((await program.run({ x: one, s: 2, t: 5 })).y[11], 5);
  const { y, z } = await program.run({ s: -3 });
  assert.equal([y[0], z[0]], [-5, 5]);
  assert.is((await program.run({ x: new Float32Array(12).fill(2) })).y[5], -7);
  assert.is(device.pipelineCount, pipelines);
  program.dispose();
});

test('the same kernels at other shapes and constants need no new pipeline', async () => {
  const device = await testDevice();
  const graph = (rows: number, shift: number) => affine(exp(input('x', [rows, 8])), 1, shift);
  await evaluate(device, graph(3, 1), { x: ramp(24) });
  const pipelines = device.pipelineCount;
  await evaluate(device, graph(50, 2), { x: ramp(400) });
  assert.is(device.pipelineCount, pipelines);
});

test('of programs that are to come the first is compiled at once, and the others while the GPU works', async () => {
  const { gpu, facts, settle } = await testDevice();
  const device = new Device(gpu, facts, settle);
  device.prepare([exp(x), mul(x, x)].map((y) => plan({ y }, facts, gpu.limits)));
  assert.is(device.pipelineCount, 1);
  await evaluate(device, exp(x), { x: ramp(12) });
  await new Promise((later) => setTimeout(later));
  assert.is(device.pipelineCount, 2);
});

test('a run says which inputs are missing, unknown or of the wrong size or type', async () => {
  const device = await testDevice();
  const program = await compile(device, { y: mul(affine(x, scalar('gain'), 0), input('mask', [4])) });
  assert.match((await refusal(program.run())).message, /x.*mask.*gain/);
  assert.match((await refusal(program.run({ gain: 1, x: ramp(12) }))).message, /: mask\./);
  assert.match((await refusal(program.run({ blur: 1 }))).message, /'blur'.*x, mask, gain/);
  assert.match((await refusal(program.run({ x: 1 }))).message, /'x'/);
  assert.match((await refusal(program.run({ gain: ramp(1) }))).message, /'gain'/);
  assert.match((await refusal(program.run({ x: ramp(11) }))).message, /'x'.*11.*\(3, 4\)/);
  assert.match((await refusal(program.run({ x: new Uint16Array(12) }))).message, /'x'.*f32.*Uint16Array/);
  for (const gain of [Number.NaN, Number.POSITIVE_INFINITY]) assert.match((await refusal(program.run({ gain }))).message, /'gain'/);
  assert.equal([...(await program.run({ mask: ramp(4) })).y], [0, 1, 4, 9, 0, 5, 12, 21, 0, 9, 20, 33]);
  program.dispose();
});

test('a scalar given to a refused run counts for the next', async () => {
  const program = await compile(await testDevice(), { y: affine(x, scalar('gain'), 0) });
  await refusal(program.run({ gain: 3 }));
  assert.is((await program.run({ x: new Float32Array(12).fill(1) })).y[7], 3);
  await refusal(program.run({ gain: 4, blur: 1 }));
  assert.is((await program.run({ gain: 4 })).y[7], 4);
  program.dispose();
});

test('runs queue in order, past a refused one', async () => {
  const program = await compile(await testDevice(), { y: affine(x, scalar('s'), 0) });
  const one = new Float32Array(12).fill(1);
  const runs = [program.run({ x: one, s: 1 }), program.run({ s: 2 }), program.run({ s: Number.NaN }), program.run({ s: 4 }), program.run()];
  const results = await Promise.allSettled(runs);
  assert.equal(
    results.map((result) => (result.status === 'fulfilled' ? result.value.y[3] : 'refused')),
    [1, 2, 'refused', 4, 4],
  );
  program.dispose();
});

test('programs that run at once do not disturb each other', async () => {
  const device = await testDevice();
  const programs = await Promise.all([1, 2, 3].map((k) => compile(device, { y: exp(affine(x, k, 0)) })));
  const results = await Promise.all(programs.map((program) => program.run({ x: new Float32Array(12).fill(0.5) })));
  assert.ok(results.every(({ y }, i) => Math.abs(y[4] - Math.exp((i + 1) / 2)) < 1e-5));
  for (const program of programs) program.dispose();
});

test('weights of every kind arrive in the order kernels read', () =>
  atBaseline(async (device) => {
    const conv = new Parameter([2, 3, 1, 2], 'conv'); // (out, in, kh, kw)
    conv.dtype = 'f32';
    device.residency.upload(conv, ramp(12));
    assert.equal([...(await evaluate(device, conv.tensor))], [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    const transposed = new Parameter([2, 3], 'transposed');
    device.residency.upload(transposed, encodeF16(ramp(6)));
    assert.equal([...(await evaluate(device, transposed.tensor))], [0, 3, 1, 4, 2, 5]);
    for (const parameter of [conv, transposed]) device.residency.release(parameter);
    assert.throws(() => device.residency.upload(conv, ramp(11)), /11 values.*\(2, 3, 1, 2\)/);
  }));

test('a profile counts dispatches by kernel and does not change results', () =>
  atBaseline(async (device) => {
    const [gamma, beta] = [constant(new Float32Array(4).fill(1), [4]), constant(new Float32Array(4), [4])];
    const program = await compile(device, { y: exp(exp(groupNorm(x, gamma, beta, 2))) });
    const plain = await program.run({ x: ramp(12) });
    const profile = (device.profile = new Profile());
    try {
      assert.equal(await program.run(), plain);
      await program.run();
    } finally {
      device.profile = null;
    }
    const kernels = profile.kernels();
    assert.is(
      kernels.reduce((sum, { dispatches }) => sum + dispatches, 0),
      2 * program.plan.dispatches.length,
    );
    assert.is(kernels.find(({ kernel }) => kernel.startsWith('unary'))?.dispatches, 4);
    const timed = device.facts.features.has('timestamp-query');
    assert.ok(kernels.every(({ ms }) => (timed ? ms >= 0 : Number.isNaN(ms))));
    program.dispose();
  }));

test('a trace holds every dispatch with its operation, arithmetic, bytes and rates', () =>
  atBaseline(async (device) => {
    const w = constant(ramp(5 * 4), [5, 4]);
    const program = await compile(device, { y: exp(linear(x, w)) });
    const profile = (device.profile = new Profile());
    try {
      await program.run({ x: ramp(12) });
    } finally {
      device.profile = null;
      program.dispose();
    }
    if (!device.facts.features.has('timestamp-query')) {
      assert.throws(() => perfettoTrace(profile, 'this adapter'), /this adapter cannot take times/);
      return;
    }
    const { traceEvents } = perfettoTrace(profile, 'this adapter');
    const [product, other] = traceEvents.filter(({ ph }) => ph === 'X');
    assert.is(traceEvents.length, 4);
    assert.equal([product.ts, product.args.FLOPs, other.args.FLOPs], [0, 2 * 3 * 5 * 4, 0]);
    assert.is(product.args.bytes, (12 + 20 + 16) * 4, 'x, w and y, whose 15 elements fill whole words of 16 bytes');
    assert.match(String(product.args.operation), /^linear \(.*3, 4\) \(5, 4\)/);
    assert.match(product.name, /^matmul/);
    for (const { dur, args } of [product, other]) {
      assert.is('GFLOP/s' in args, dur! > 0);
      if (dur! > 0) assert.ok(Math.abs(Number(args['GB/s']) * dur! * 1000 - Number(args.bytes)) < 1e-6 * Number(args.bytes));
    }
    assert.is(program.plan.flops, 2 * 3 * 5 * 4);
  }));

test('inputs, constants, weights and views of them are outputs like others', () =>
  atBaseline(async (device) => {
    const x = input('x', [4]);
    const halves = constant(encodeF16([1, 2, 3]), [3]);
    const whole = constant(Uint32Array.of(4_000_000_000, 5), [2]);
    const blocks = new Parameter([32, 64], 'matrix');
    blocks.dtype = 'q8';
    device.residency.upload(blocks, new Float32Array(2048).fill(0.5));
    const joined = concat([x, x]);
    const outputs = { x, again: x, view: reshape(x, [2, 2]), halves, whole, blocks: blocks.tensor, joined, double: affine(x, 2, 0) };
    const program = await compile(device, outputs);
    const results = await program.run({ x: Float32Array.of(5, 6, 7, 8) });
    program.dispose();
    device.residency.release(blocks);
    for (const name of ['x', 'again', 'view'] as const) assert.equal([...results[name]], [5, 6, 7, 8]);
    assert.equal([...results.halves], [1, 2, 3]);
    assert.equal([...results.whole], [4_000_000_000, 5]);
    assert.equal([...results.joined], [5, 6, 7, 8, 5, 6, 7, 8]);
    assert.equal([...results.double], [10, 12, 14, 16]);
    assert.is(results.blocks.length, 2048);
    assert.ok(results.blocks.every((value) => Math.abs(value - 0.5) < 0.5 / 256));
    assert.equal([...(await evaluate(device, constant(Float32Array.of(3), [1])))], [3], 'a graph without an operation');
  }));

test.run();
