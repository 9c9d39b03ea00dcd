/** Adapters in the kernels of linear layers and convolutions: against the sum in f64, forward and backward, at odd sizes, in every schedule. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { constant, scalar, type Tensor } from '../../core/tensor.ts';
import { compile, evaluate } from '../../gpu/program.ts';
import { add } from '../../kernels/binary.ts';
import { type Conv2dOptions, conv2d } from '../../kernels/conv2d.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { linear } from '../../kernels/linear.ts';
import { type LayerTensor, lowRankDown, withLowRank } from '../../kernels/low-rank.ts';
import { type RankScale, rankScales } from '../../kernels/rank-scales.ts';
import { silu } from '../../kernels/unary.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampler, type Values } from '../../verify/sample.ts';
import { check } from '../support/check.ts';
import { testDevice, testDevices } from '../support/device.ts';
import { checkGradient } from '../support/gradient.ts';

function adapted(layer: Tensor, x: Tensor, down: Tensor, up: Tensor, scales: Tensor | null = null): Tensor {
  const t = lowRankDown(layer as LayerTensor, x, down, scales);
  return withLowRank(layer as LayerTensor, t, up);
}

const scaled = (t: Values, scales: Values) => reference.broadcast(t, scales, (a, b) => a * b);
const sum = (...all: Values[]) => all.reduce(reference.add);
/** t (..., R) times up (O, R) transposed. */
const project = (t: Values, up: Values) => reference.linear(t, up, null);

test('linear: weights read in fours and one by one, with and without bias, residual, activation and scales', async () => {
  const draw = sampler(1);
  for (const [rows, ins, outs, rank, dtype] of [
    [131, 20, 36, 36, 'f16'],
    [37, 13, 67, 12, 'f32'],
  ] as const) {
    const [x, w, bias] = [draw([1, rows, ins]), draw([outs, ins], { dtype }), draw([outs])];
    const [down, up, scales, residual] = [draw([rank, ins]), draw([outs, rank]), draw([rank]), draw([1, rows, outs])];
    const t = project(x, down);
    const accuracy = { terms: 2 * ins + rank, ulps: 8 };
    const what = (part: string) => `linear with adapters, ${part} ${rows}x${ins}x${outs} rank ${rank} ${dtype}`;
    await check(
      what('bare'),
      adapted(linear(x.tensor, w.tensor), x.tensor, down.tensor, up.tensor),
      sum(project(x, w), project(t, up)),
      accuracy,
    );
    const all = adapted(linear(x.tensor, w.tensor, bias.tensor), x.tensor, down.tensor, up.tensor, scales.tensor);
    const plain = sum(reference.linear(x, w, bias), project(scaled(t, scales), up));
    await check(what('residual'), add(residual.tensor, all), sum(plain, residual), accuracy);
    await check(what('all'), add(silu(all), residual.tensor), sum(reference.map(plain, reference.silu), residual), accuracy);
  }
});

const WINDOWS: {
  image: number[];
  outs: number;
  window: [number, number];
  options: Conv2dOptions & { padding: [number, number, number, number] };
}[] = [
  { image: [2, 5, 7, 6], outs: 9, window: [3, 2], options: { stride: 2, padding: [1, 0, 0, 2] } },
  { image: [1, 6, 5, 8], outs: 12, window: [3, 3], options: { stride: 1, padding: [1, 1, 1, 1] } },
  // Few outputs, and few inputs.
  { image: [2, 6, 5, 28], outs: 3, window: [3, 3], options: { stride: 1, padding: [1, 1, 1, 1] } },
  { image: [2, 6, 5, 3], outs: 28, window: [3, 3], options: { stride: 1, padding: [1, 1, 1, 1] } },
  // Winograd's.
  { image: [1, 32, 31, 48], outs: 52, window: [3, 3], options: { stride: 1, padding: [1, 1, 1, 1] } },
];

test('conv2d: windows, steps and edges, and as Winograd computes it', async () => {
  const draw = sampler(2);
  for (const { image, outs, window, options } of WINDOWS) {
    const ins = image[3];
    const [x, w, bias] = [draw(image), draw([outs, ...window, ins], { dtype: 'f16' }), draw([outs])];
    const [down, up, scales] = [draw([8, ...window, ins]), draw([outs, 8]), draw([8])];
    const plain = sum(reference.conv2d(x, w, bias, options), project(scaled(reference.conv2d(x, down, null, options), scales), up));
    const residual = draw(plain.shape);
    const all = adapted(conv2d(x.tensor, w.tensor, bias.tensor, options), x.tensor, down.tensor, up.tensor, scales.tensor);
    const accuracy = { terms: 18 * ins + 8, ulps: 24 };
    const what = (part: string) => `conv2d with adapters, ${part} ${image}`;
    await check(what('bare'), all, plain, accuracy);
    await check(what('residual'), add(all, residual.tensor), sum(plain, residual), accuracy);
    await check(what('all'), add(silu(all), residual.tensor), sum(reference.map(plain, reference.silu), residual), accuracy);
  }
  const device = await testDevice();
  const { image, outs, options } = WINDOWS.at(-1)!;
  const graph = conv2d(draw(image).tensor, draw([outs, 3, 3, image[3]]).tensor, null, options);
  const { dispatches } = plan({ graph }, device.facts, device.gpu.limits);
  assert.ok(
    dispatches.some(({ shader }) => shader.name.startsWith('winograd')),
    'the last case is computed by Winograd',
  );
});

test('gradients: by x, both factors, weight and bias', async () => {
  const draw = sampler(3);
  const layer = (
    x: Sample,
    shapes: number[][],
    graph: (x: Tensor, w: Tensor, bias: Tensor) => Tensor,
    ref: typeof reference.linear,
    terms: number,
    what: string,
  ) => {
    const [w, down, up, bias] = shapes.map((shape) => draw(shape));
    const scales = draw([shapes[1][0]]);
    return checkGradient(
      what,
      [x, w, bias, down, up],
      (x, w, bias, down, up) => adapted(graph(x, w, bias), x, down, up, scales.tensor),
      (x, w, bias, down, up) => sum(ref(x, w, bias), project(scaled(ref(x, down, null), scales), up)),
      [{ terms, ulps: 16 }],
    );
  };
  await layer(draw([1, 11, 7]), [[9, 7], [4, 7], [9, 4], [9]], linear, reference.linear, 60, 'linear with adapters');
  await layer(draw([1, 10, 8]), [[12, 8], [8, 8], [12, 8], [12]], linear, reference.linear, 60, 'linear with adapters');
  for (const { image, outs, window, options } of WINDOWS.slice(0, 2)) {
    await layer(
      draw(image),
      [[outs, ...window, image[3]], [4, ...window, image[3]], [outs, 4], [outs]],
      (x, w, bias) => conv2d(x, w, bias, options),
      (x, w, bias) => reference.conv2d(x, w, bias, options),
      400,
      'conv2d with adapters',
    );
  }
});

test('values and gates with adapters', async () => {
  const draw = sampler(9);
  for (const [rows, ins, outs, rank] of [
    [35, 20, 36, 8],
    [11, 7, 5, 4],
  ]) {
    const [x, w, down, up] = [draw([rows, ins]), draw([2 * outs, ins]), draw([rank, ins]), draw([2 * outs, rank])];
    const y = adapted(linear(x.tensor, w.tensor), x.tensor, down.tensor, up.tensor);
    const product = reference.add(reference.linear(x, w, null), reference.linear(reference.linear(x, down, null), up, null));
    await check(`linear with adapters + geglu to ${outs}`, geglu(y), reference.geglu(product), { terms: 4 * (ins + rank), ulps: 16 });
  }
});

test('an up of zeros, or scales of zero, changes no bit', async () => {
  const draw = sampler(4);
  const zeros = (...shape: number[]) => constant(new Float32Array(shape.reduce((a, b) => a * b)), shape);
  const [first, ...others] = await testDevices();
  for (const { image, outs, window, options } of WINDOWS.slice(1)) {
    const ins = image[3];
    const [x, w, bias] = [draw(image).tensor, draw([outs, ...window, ins]).tensor, draw([outs]).tensor];
    const layer = conv2d(x, w, bias, options);
    const [down, up] = [draw([8, ...window, ins]).tensor, draw([outs, 8]).tensor];
    for (const activate of [silu, (y: Tensor) => y]) {
      const residual = draw(layer.shape).tensor;
      const end = (y: Tensor) => add(activate(y), residual);
      const plain = await evaluate(first, end(layer));
      assert.equal(await evaluate(first, end(adapted(layer, x, down, zeros(outs, 8)))), plain);
      assert.equal(await evaluate(first, end(adapted(layer, x, down, up, zeros(8)))), plain);
    }
  }
  const [x, w, down, up] = [draw([35, 20]), draw([36, 20], { dtype: 'f16' }), draw([4, 20]), draw([36, 4])].map(({ tensor }) => tensor);
  for (const device of [first, ...others])
    assert.equal(await evaluate(device, adapted(linear(x, w), x, down, up, zeros(4))), await evaluate(device, linear(x, w)));
});

test('scales of ranks are scalars of the program', async () => {
  const device = await testDevice();
  const scales: RankScale[] = [
    { scale: scalar('a'), factor: 0.5, rank: 3 },
    { scale: 2, factor: 1, rank: 1 },
    { scale: scalar('b'), factor: 1, rank: 2 },
  ];
  const program = await compile(device, { y: rankScales(scales)! });
  assert.equal([...(await program.run({ a: 3, b: -1 })).y], [1.5, 1.5, 1.5, 2, -1, -1]);
  assert.equal([...(await program.run({ b: 4 })).y], [1.5, 1.5, 1.5, 2, 4, 4]);
  program.dispose();
  assert.is(rankScales([{ scale: 2, factor: 0.5, rank: 8 }]), null, 'nothing to multiply by');
});

test('factors that do not fit are refused', () => {
  const draw = sampler(5);
  const layer = linear(draw([3, 5]).tensor, draw([7, 5]).tensor) as LayerTensor;
  for (const [t, up] of [
    [draw([3, 4]), draw([7, 8])],
    [draw([3, 6]), draw([7, 6])],
    [draw([2, 4]), draw([7, 4])],
    [draw([3, 4]), draw([5, 4])],
    [draw([3, 4]), draw([7, 4], { dtype: 'f16' })],
  ]) {
    assert.throws(
      () => withLowRank(layer, t.tensor, up.tensor),
      (error: Error) => error instanceof ShapeError && /does not fit a result \(3, 7\)/.test(error.message),
    );
  }
});

test.run();
