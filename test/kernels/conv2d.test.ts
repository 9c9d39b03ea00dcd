/** conv2d and linear and what fuses into them, and matmul: one kernel, so one file. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { Parameter } from '../../core/module.ts';
import { apply, type Op } from '../../core/op.ts';
import { constant, input, type Tensor } from '../../core/tensor.ts';
import { add, sub } from '../../kernels/binary.ts';
import { type Conv2dOptions, conv2d } from '../../kernels/conv2d.ts';
import { upsampleNearest } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { gradient } from '../../kernels/gradient.ts';
import { linear, matmul } from '../../kernels/linear.ts';
import { reshape } from '../../kernels/reshape.ts';
import { gelu, quickGelu, silu } from '../../kernels/unary.ts';
import { lowerWinograd } from '../../kernels/winograd.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampleOf, sampler, type Values } from '../../verify/sample.ts';
import { check } from '../support/check.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

/** Names of the kernels that compute a tensor. */
const kernelsOf = (tensor: Tensor) => plan({ tensor }, FACTS, LIMITS).dispatches.map(({ shader }) => shader.name);

const four = (padding: Conv2dOptions['padding'] = 0) => (typeof padding === 'number' ? [padding, padding, padding, padding] : padding);

test('conv2d: windows, strides and paddings, at sizes that differ in every axis', async () => {
  const draw = sampler(1);
  // x, (O, kh, kw), options
  const cases: [number[], number[], Conv2dOptions][] = [
    [[2, 5, 7, 12], [20, 3, 3], { padding: 1 }],
    [[2, 6, 9, 12], [20, 3, 3], { padding: 1, stride: 2 }],
    [[1, 6, 9, 12], [20, 3, 3], { padding: [0, 1, 0, 1], stride: 2 }],
    [[1, 7, 4, 12], [20, 3, 3], { padding: [0, 1, 0, 1], stride: 2 }],
    [[3, 5, 7, 12], [20, 1, 1], {}],
    [[1, 9, 8, 4], [8, 5, 2], { padding: [3, 0, 1, 2], stride: 3 }],
    [[2, 5, 7, 3], [9, 3, 3], { padding: 1 }],
    [[2, 5, 7, 3], [8, 3, 3], { padding: 1 }],
    [[2, 5, 7, 8], [3, 3, 3], { padding: 1 }],
    [[1, 3, 2, 5], [1, 3, 2], {}],
    [[1, 1, 1, 5], [7, 3, 3], { padding: 1 }],
    [[1, 1, 1, 1], [1, 1, 1], {}],
  ];
  for (const [shape, [o, kh, kw], options] of cases) {
    const [x, w, bias] = [draw(shape), draw([o, kh, kw, shape[3]]), draw([o])];
    const expected = reference.conv2d(x, w, bias, { stride: options.stride, padding: four(options.padding) });
    const name = `conv2d, ${shape} by ${w.shape} ${JSON.stringify(options)}`;
    await check(name, conv2d(x.tensor, w.tensor, bias.tensor, options), expected, { terms: kh * kw * shape[3] });
  }
});

test('conv2d: few outputs, and few inputs', async () => {
  const draw = sampler(15);
  // x, (O, kh, kw), options, whether x is seen upsampled
  const cases: [number[], number[], Conv2dOptions, 1 | 2, RegExp][] = [
    [[2, 5, 7, 52], [3, 3, 3], { padding: 1 }, 1, /^sum of taps/],
    [[2, 9, 4, 52], [5, 2, 5], { padding: [0, 3, 2, 1], stride: 2 }, 1, /^sum of taps/],
    [[1, 5, 3, 52], [5, 3, 3], { padding: 1 }, 2, /^sum of taps/],
    [[2, 9, 13, 3], [28, 3, 3], { padding: 1 }, 1, /^kept windows/],
    [[3, 13, 9, 4], [44, 3, 3], { padding: [0, 1, 0, 1], stride: 2 }, 1, /^kept windows/],
    [[1, 5, 3, 5], [36, 2, 3], { padding: [2, 0, 1, 1] }, 2, /^kept windows/],
  ];
  for (const [shape, [o, kh, kw], options, zoom, kernel] of cases) {
    const [x, w, bias, value] = [draw(shape), draw([o, kh, kw, shape[3]], { dtype: 'f16' }), draw([o]), draw([shape[0], o])];
    const [n, h, wid, c] = shape;
    const image = reference.build([n, h * zoom, wid * zoom, c], ([i, y, x0, k]) =>
      reference.at(x, [i, Math.floor(y / zoom), Math.floor(x0 / zoom), k]),
    );
    const plain = reference.conv2d(image, w, bias, { stride: options.stride, padding: four(options.padding) });
    const ofImages = reference.build(plain.shape, ([i, oy, ox, k]) => reference.at(plain, [i, oy, ox, k]) + reference.at(value, [i, k]));
    const residual = draw(plain.shape);
    const y = () => conv2d(zoom === 2 ? upsampleNearest(x.tensor, 2) : x.tensor, w.tensor, bias.tensor, options);
    const names = plan({ y: y() }, { ...FACTS, schedule: 'subgroup', subgroupSizes: [8, 8] }, LIMITS).dispatches.map(
      ({ shader }) => shader.name,
    );
    assert.ok(
      names.some((name) => kernel.test(name)),
      names.join(),
    );
    const name = `conv2d, ${shape} by ${w.shape} ${JSON.stringify(options)}, of each pixel ${zoom} down and across`;
    const accuracy = { terms: kh * kw * c, ulps: 12 };
    await check(name, y(), plain, { terms: kh * kw * c });
    const biased = add(y(), reshape(value.tensor, [n, 1, 1, o]));
    await check(
      `${name}, all`,
      add(silu(biased), residual.tensor),
      reference.add(reference.map(ofImages, reference.silu), residual),
      accuracy,
    );
  }
});

test('conv2d: many workgroups and a long sum, weights in f16', async () => {
  const draw = sampler(2);
  const [x, w] = [draw([2, 19, 13, 64]), draw([40, 3, 3, 64], { dtype: 'f16' })];
  const expected = reference.conv2d(x, w, null, { padding: [1, 1, 1, 1] });
  await check('conv2d, f16 weights', conv2d(x.tensor, w.tensor, null, { padding: 1 }), expected, { terms: 576 });
});

test('conv2d: f16 operands of both widths', async () => {
  const draw = sampler(3);
  for (const [c, o] of [
    [12, 8],
    [7, 5],
  ]) {
    const [x, w] = [draw([2, 5, 6, c], { dtype: 'f16' }), draw([o, 3, 3, c], { dtype: 'f16' })];
    const expected = reference.conv2d(x, w, null, { padding: [1, 1, 1, 1] });
    await check(`conv2d, f16 ${c}`, conv2d(x.tensor, w.tensor, null, { padding: 1 }), expected, { terms: 9 * c });
  }
});

test('conv2d: bias, activation and residual ride along, in that order', async () => {
  const draw = sampler(4);
  for (const [c, o] of [
    [12, 20],
    [3, 5],
  ]) {
    const [x, w, bias] = [draw([2, 5, 7, c]), draw([o, 3, 3, c], { std: 0.3 }), draw([o])];
    const plain = reference.conv2d(x, w, bias, { padding: [1, 1, 1, 1] });
    const residual = draw(plain.shape);
    const y = () => conv2d(x.tensor, w.tensor, bias.tensor, { padding: 1 });
    const accuracy = { terms: 9 * c, ulps: 12 };
    await check('conv2d + residual, ', add(residual.tensor, y()), reference.add(plain, residual), accuracy);
    for (const [activate, exact] of [
      [silu, reference.silu],
      [gelu, reference.gelu],
      [quickGelu, reference.quickGelu],
    ] as const) {
      await check('conv2d + activation, ', activate(y()), reference.map(plain, exact), accuracy);
      await check(
        'conv2d + activation + residual, ',
        add(activate(y()), residual.tensor),
        reference.add(reference.map(plain, exact), residual),
        accuracy,
      );
    }
    await check(
      'conv2d + residual, then silu',
      silu(add(y(), residual.tensor)),
      reference.map(reference.add(plain, residual), reference.silu),
      accuracy,
    );
  }
});

test('conv2d: nearest upsampling joins the convolution', async () => {
  const draw = sampler(14);
  for (const [shape, o, window, options] of [
    [[2, 5, 7, 12], 20, [3, 3], { padding: 1 }],
    [[2, 4, 3, 5], 7, [3, 2], { padding: [0, 2, 1, 0] }],
    [[1, 6, 5, 12], 8, [3, 3], { padding: 1, stride: 2 }],
    [[3, 5, 7, 8], 4, [1, 1], {}],
    [[2, 11, 15, 64], 64, [3, 3], { padding: 1 }],
  ] as const) {
    const [n, h, w, c] = shape;
    const [x, weight, bias] = [draw([...shape]), draw([o, ...window, c]), draw([o])];
    const large = reference.build([n, 2 * h, 2 * w, c], ([i, y, x0, channel]) => reference.at(x, [i, y >> 1, x0 >> 1, channel]));
    const { stride, padding } = options as { stride?: number; padding?: number };
    const y = conv2d(upsampleNearest(x.tensor, 2), weight.tensor, bias.tensor, { stride, padding });
    const names = kernelsOf(y);
    assert.not(
      names.some((name) => name.startsWith('copy')),
      names.join(),
    );
    const expected = reference.conv2d(large, weight, bias, { stride, padding: four(padding) });
    await check(`conv2d of ${shape} upsampled`, y, expected, { terms: window[0] * window[1] * c, ulps: WINOGRAD_ULPS });
  }
  const x = input('x', [1, 4, 5, 8]);
  const layer = (image: Tensor) => conv2d(image, input('w', [8, 3, 3, 8]));
  const copies = (y: Tensor) => kernelsOf(y).filter((name) => name.startsWith('copy')).length;
  assert.is(copies(layer(upsampleNearest(x, 3))), 1, 'another factor');
  assert.is(copies(layer(upsampleNearest(upsampleNearest(x, 2), 2))), 1, 'twice');
  const large = upsampleNearest(x, 2);
  const once = layer(large);
  assert.is(copies(add(once, conv2d(large, input('v', [8, 3, 3, 8])))), 1, 'two readers');
});

test('conv2d: a value of each image and channel joins the bias', async () => {
  const draw = sampler(13);
  for (const [shape, o] of [
    [[3, 5, 7, 12], 20],
    [[2, 9, 4, 5], 3],
    [[2, 36, 29, 64], 64],
    [[1, 5, 7, 12], 20],
  ] as const) {
    const [x, w, bias, value] = [draw([...shape]), draw([o, 3, 3, shape[3]]), draw([o]), draw([shape[0], o])];
    const plain = reference.conv2d(x, w, bias, { padding: [1, 1, 1, 1] });
    const residual = draw(plain.shape);
    const expected = reference.build(plain.shape, ([n, oy, ox, c]) => reference.at(plain, [n, oy, ox, c]) + reference.at(value, [n, c]));
    const ofImages = reshape(value.tensor, [shape[0], 1, 1, o]);
    const y = () => add(conv2d(x.tensor, w.tensor, bias.tensor, { padding: 1 }), ofImages);
    const alone = kernelsOf(conv2d(x.tensor, w.tensor, bias.tensor, { padding: 1 }));
    assert.is(kernelsOf(y()).length, alone.length + 1, 'the two biases are added first');
    const accuracy = { terms: 9 * shape[3], ulps: WINOGRAD_ULPS };
    await check(`conv2d ${shape} + images' values`, y(), expected, accuracy);
    await check(`conv2d ${shape} + images' values + residual`, add(y(), residual.tensor), reference.add(expected, residual), accuracy);
  }
});

test('conv2d: a residual in f16, and the sum of two convolutions', async () => {
  const draw = sampler(5);
  const [x, w, other] = [draw([1, 5, 7, 12]), draw([20, 3, 3, 12]), draw([20, 1, 1, 12])];
  const plain = reference.conv2d(x, w, null, { padding: [1, 1, 1, 1] });
  const half = draw(plain.shape, { dtype: 'f16' });
  const y = () => conv2d(x.tensor, w.tensor, null, { padding: 1 });
  await check('conv2d + f16 residual', add(y(), half.tensor), reference.add(plain, half), { terms: 109 });
  const both = add(y(), conv2d(x.tensor, other.tensor));
  await check('conv2d + conv2d', both, reference.add(plain, reference.conv2d(x, other, null)), { terms: 120 });
});

test('linear: any leading axes, both widths, with bias', async () => {
  const draw = sampler(6);
  const cases: [number[], number][] = [
    [[2, 3, 5, 12], 20],
    [[77, 64], 48],
    [[3, 7], 5],
    [[2, 9, 5], 8],
    [[3, 8], 7],
    [[10], 4],
    [[1, 1], 1],
    [[131, 20], 100],
  ];
  for (const [shape, o] of cases) {
    const inner = shape[shape.length - 1];
    const [x, w, bias] = [draw(shape), draw([o, inner]), draw([o])];
    await check(`linear, ${shape} to ${o}`, linear(x.tensor, w.tensor, bias.tensor), reference.linear(x, w, bias), { terms: inner });
  }
});

test('linear: a long sum, f16 weights, activation and residual', async () => {
  const draw = sampler(7);
  const [x, w, bias] = [draw([1, 13, 2048]), draw([24, 2048], { dtype: 'f16', std: 0.03 }), draw([24])];
  const plain = reference.linear(x, w, bias);
  const residual = draw(plain.shape);
  const y = () => linear(x.tensor, w.tensor, bias.tensor);
  await check('linear, f16 weights', y(), plain, { terms: 2048 });
  const expected = reference.add(reference.map(plain, reference.gelu), residual);
  await check('linear + gelu + residual, ', add(gelu(y()), residual.tensor), expected, { terms: 2048, ulps: 12 });
});

test('linear: values and gates that geglu joins, of every width, below and beyond a tile', async () => {
  const draw = sampler(12);
  // Rows, channels, columns of the result.
  const cases: [number[], number][] = [
    [[2, 3, 5, 12], 20],
    [[131, 64], 36],
    [[77, 20], 100],
    [[3, 7], 5],
    [[35, 9], 33],
    [[1, 8], 1],
  ];
  for (const [shape, o] of cases) {
    const inner = shape[shape.length - 1];
    const bias = draw([2 * o]);
    for (const [x, w] of [
      [draw(shape), draw([2 * o, inner])],
      [draw(shape, { dtype: 'f16' }), draw([2 * o, inner], { dtype: 'f16' })],
    ]) {
      const [plain, biased] = [null, bias].map((b) => linear(x.tensor, w.tensor, b?.tensor));
      assert.is(kernelsOf(geglu(biased)).length, 1);
      const accuracy = { terms: 2 * inner, ulps: 16 };
      await check(`linear + geglu, ${shape} to ${o}`, geglu(plain), reference.geglu(reference.linear(x, w, null)), accuracy);
      await check(`linear with bias + geglu, ${shape} to ${o}`, geglu(biased), reference.geglu(reference.linear(x, w, bias)), accuracy);
    }
  }
  const [x, w, bias, residual] = [draw([13, 2048]), draw([40, 2048], { dtype: 'f16', std: 0.03 }), draw([40]), draw([13, 20])];
  const y = add(geglu(linear(x.tensor, w.tensor, bias.tensor)), residual.tensor);
  assert.is(kernelsOf(y).length, 1);
  const expected = reference.add(reference.geglu(reference.linear(x, w, bias)), residual);
  await check('linear + geglu + residual, a long sum', y, expected, { terms: 4096, ulps: 16 });
});

test('linear: exact where f32 is', async () => {
  const x = sampleOf(
    Array.from({ length: 60 }, (_, i) => (i % 17) - 8),
    [5, 12],
  );
  const w = sampleOf(
    Array.from({ length: 96 }, (_, i) => (i % 13) - 6),
    [8, 12],
  );
  await check('linear, integers', linear(x.tensor, w.tensor), reference.linear(x, w, null), { terms: 0, ulps: 0 });
});

test('matmul: both forms, batches, odd sizes', async () => {
  const draw = sampler(8);
  for (const [batch, m, k, n] of [
    [3, 5, 7, 6],
    [2, 9, 12, 20],
    [1, 33, 8, 70],
    [5, 1, 1, 1],
    [2, 4, 8, 3],
  ]) {
    const a = draw([batch, m, k]);
    const [b, bt] = [draw([batch, k, n]), draw([batch, n, k])];
    await check(`matmul, ${[batch, m, k, n]}`, matmul(a.tensor, b.tensor), reference.matmul(a, b, false), { terms: k });
    await check(
      `matmul, transposed ${[batch, m, k, n]}`,
      matmul(a.tensor, bt.tensor, { transposed: true }),
      reference.matmul(a, bt, true),
      { terms: k },
    );
  }
  const [a, b, residual] = [draw([3, 5, 8]), draw([3, 4, 8]), draw([3, 5, 4])];
  const expected = reference.add(reference.matmul(a, b, true), residual);
  await check('matmul + residual', add(matmul(a.tensor, b.tensor, { transposed: true }), residual.tensor), expected, { terms: 9 });
});

test('shapes that do not fit are refused by operation, operands and weight', () => {
  const refused = (make: () => Tensor, ...words: string[]) =>
    assert.throws(make, (error: Error) => error instanceof ShapeError && words.every((word) => error.message.includes(word)));
  const x = input('feature', [2, 5, 7, 12]);
  const weight = new Parameter([8, 11, 3, 3], 'conv');
  weight.name = 'unet.out.2.weight';
  refused(() => conv2d(x, weight.tensor), 'conv2d', 'feature (2, 5, 7, 12)', 'unet.out.2.weight (8, 3, 3, 11)');
  refused(() => conv2d(x, input('kernel', [8, 3, 3, 11])), 'conv2d', 'feature (2, 5, 7, 12)', 'kernel (8, 3, 3, 11)', '12 channels');
  refused(() => conv2d(x, input('kernel', [8, 12])), 'conv2d', 'kernel (8, 12)');
  refused(() => conv2d(x, input('kernel', [8, 3, 3, 12]), input('bias', [7])), 'conv2d', '(8) f32', '(7)', 'kernel');
  refused(() => conv2d(x, input('kernel', [8, 3, 3, 12]), input('bias', [8], 'f16')), 'conv2d', '(8) f32', 'f16', 'kernel');
  refused(() => conv2d(x, input('kernel', [8, 7, 7, 12])), 'conv2d', 'window', 'feature');
  refused(() => linear(x, input('matrix', [8, 11])), 'linear', 'feature (2, 5, 7, 12)', 'matrix (8, 11)', '12 columns');
  refused(() => linear(x, input('matrix', [8, 12]), input('bias', [8], 'f16')), 'linear', '(8) f32', 'f16', 'matrix');
  refused(() => linear(constant(new Uint32Array(12), [12]), input('matrix', [8, 12])), 'linear', 'u32');
  refused(() => matmul(input('a', [2, 3, 5]), input('b', [2, 4, 5])), 'matmul', 'a (2, 3, 5)', 'b (2, 4, 5)');
  refused(() => matmul(input('a', [2, 3, 5]), input('b', [3, 5, 4])), 'matmul', 'a (2, 3, 5)', 'b (3, 5, 4)');
  refused(() => matmul(input('a', [3, 5]), input('b', [5, 4])), 'matmul', 'a (3, 5)', 'b (5, 4)');
});

// Transforming pixels, windows and results rounds too, by a few units in all.
const WINOGRAD_ULPS = 6;

test('conv2d by Winograd: odd sizes, uneven padding, bias, activation and residual', async () => {
  const draw = sampler(11);
  const [x, w, bias] = [draw([2, 21, 27, 64]), draw([128, 3, 3, 64], { dtype: 'f16', std: 0.2 }), draw([128])];
  const convolution = conv2d(x.tensor, w.tensor, bias.tensor, { padding: [0, 2, 1, 2] });
  assert.ok(kernelsOf(convolution).some((name) => name.startsWith('winograd')));
  const plain = reference.conv2d(x, w, bias, { padding: [0, 2, 1, 2] });
  await check('conv2d by Winograd, bias', convolution, plain, { terms: 576, ulps: WINOGRAD_ULPS });
  const other = draw([128, 3, 3, 64], { dtype: 'f16', std: 0.2 });
  const both = sub(convolution, conv2d(x.tensor, other.tensor, null, { padding: [0, 2, 1, 2] }));
  const apart = reference.map(reference.conv2d(x, other, null, { padding: [0, 2, 1, 2] }), (v) => -v);
  await check('conv2d by Winograd, two of one map', both, reference.add(plain, apart), { terms: 1152, ulps: WINOGRAD_ULPS });
  const residual = draw(plain.shape);
  const expected = reference.add(reference.map(plain, reference.silu), residual);
  await check('conv2d by Winograd, all', add(silu(convolution), residual.tensor), expected, { terms: 576, ulps: 12 + WINOGRAD_ULPS });
});

test('conv2d by Winograd: f16 pixels, in many parts', async () => {
  const draw = sampler(12);
  const [x, w] = [draw([2, 13, 22, 32], { dtype: 'f16' }), draw([68, 3, 3, 32])];
  const inParts: Op<null, { x: Tensor; w: Tensor }> = {
    name: 'conv2d in parts',
    infer: () => ({ shape: [2, 13, 22, 68], dtype: 'f32' }),
    lower(inputs, output, _attrs, to) {
      const image = { h: 13, w: 22, oh: 13, ow: 22 };
      const window = { kh: 3, kw: 3, stride: 1, top: 1, left: 1 };
      const sizes = { rows: 2 * 13 * 22, columns: 68, channels: 32, image, window, batch: 1 };
      lowerWinograd(to, { ...inputs, bias: null, residual: null, output, ...sizes, activation: 'none' }, 1);
    },
  };
  const y = apply(inParts, { x: x.tensor, w: w.tensor }, null);
  assert.ok(kernelsOf(y).length > 12);
  await check('conv2d by Winograd, parts', y, reference.conv2d(x, w, null, { padding: [1, 1, 1, 1] }), { terms: 288, ulps: WINOGRAD_ULPS });
});

test('what a convolution was given, from what it gave: the window turned, in parts too', async () => {
  const draw = sampler(14);
  // The derivative by x is a convolution of g by the window turned by half a turn, in and out exchanged.
  const turned = (w: Values) => {
    const [o, kh, kw, c] = w.shape;
    return reference.build([c, kh, kw, o], ([i, y, x, j]) => reference.at(w, [j, kh - 1 - y, kw - 1 - x, i]));
  };
  const byX = (x: Sample, w: Sample, g: Sample, padding: [number, number, number, number]) =>
    gradient(conv2d(x.tensor, w.tensor, null, { padding }), [x.tensor], { upstream: g.tensor })[0];
  const [x, w, g] = [draw([2, 21, 27, 64]), draw([128, 3, 3, 64], { dtype: 'f16', std: 0.2 }), draw([2, 21, 28, 128])];
  const dx = byX(x, w, g, [0, 2, 1, 2]);
  assert.ok(kernelsOf(dx).some((name) => name.startsWith('winograd')));
  await check('by Winograd', dx, reference.conv2d(g, turned(w), null, { padding: [2, 0, 1, 0] }), { terms: 1152, ulps: WINOGRAD_ULPS });

  const [pixels, window, given] = [draw([2, 13, 22, 68]), draw([32, 3, 3, 68]), draw([2, 13, 22, 32])];
  const inParts: Op<null, { x: Tensor; w: Tensor }> = {
    name: 'turned conv2d in parts',
    infer: () => ({ shape: pixels.shape, dtype: 'f32' }),
    lower(inputs, output, _attrs, to) {
      const image = { h: 13, w: 22, oh: 13, ow: 22 };
      const sizes = { rows: 2 * 13 * 22, columns: 68, channels: 32, image, window: { kh: 3, kw: 3, stride: 1, top: 1, left: 1 }, batch: 1 };
      lowerWinograd(to, { ...inputs, bias: null, residual: null, output, ...sizes, turned: true, activation: 'none' }, 1);
    },
  };
  const parts = apply(inParts, { x: given.tensor, w: window.tensor }, null);
  assert.ok(kernelsOf(parts).length > 12);
  await check('in parts', parts, reference.conv2d(given, turned(window), null, { padding: [1, 1, 1, 1] }), {
    terms: 288,
    ulps: WINOGRAD_ULPS,
  });
});

test.run();
