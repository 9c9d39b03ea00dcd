/** The gradient rule of every kernel, by every input, at odd and all-different sizes. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { apply } from '../../core/op.ts';
import { constant, type Tensor } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import { attention } from '../../kernels/attention.ts';
import { add, addProduct, div, equal, greater, less, maximum, minimum, mul, sub } from '../../kernels/binary.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { concat, pad, permute, repeat, slice, upsampleNearest } from '../../kernels/copy.ts';
import { depthToSpace } from '../../kernels/depth-to-space.ts';
import { beforeGradient, plan } from '../../kernels/fusion.ts';
import { gatherRows } from '../../kernels/gather-rows.ts';
import { geglu } from '../../kernels/geglu.ts';
import { gradient } from '../../kernels/gradient.ts';
import { groupNorm } from '../../kernels/group-norm.ts';
import { layerNorm } from '../../kernels/layer-norm.ts';
import { linear, matmul } from '../../kernels/linear.ts';
import { max, mean, sum } from '../../kernels/reduce.ts';
import { reshape } from '../../kernels/reshape.ts';
import { softmax } from '../../kernels/softmax.ts';
import {
  abs,
  affine,
  cast,
  cos,
  exp,
  gelu,
  leakyRelu,
  log,
  quickGelu,
  relu,
  sigmoid,
  silu,
  sin,
  sqrt,
  square,
  tanh,
} from '../../kernels/unary.ts';
import { weightGradientOp } from '../../kernels/weight-gradient.ts';
import { where } from '../../kernels/where.ts';
import { windowAttention } from '../../kernels/window-attention.ts';
import { lowerWinogradGradient } from '../../kernels/winograd-gradient.ts';
import { modulate } from '../../kernels/zero-sft.ts';
import * as reference from '../../verify/reference.ts';
import { sampler, type Values } from '../../verify/sample.ts';
import { check } from '../support/check.ts';
import { testDevice } from '../support/device.ts';
import { FACTS, LIMITS } from '../support/facts.ts';
import { checkGradient } from '../support/gradient.ts';

const refused = (text: RegExp) => (error: Error) => error instanceof UserError && text.test(error.message);

test('elementwise functions', async () => {
  const draw = sampler(1);
  const cases = { silu, gelu, quickGelu, exp, sigmoid, tanh, abs, square, relu, sin, cos, leakyRelu: (x: Tensor) => leakyRelu(x, 0.3) };
  const refs: Record<string, (x: number) => number> = {
    ...{ silu: reference.silu, gelu: reference.gelu, quickGelu: reference.quickGelu, exp: Math.exp, sigmoid: reference.sigmoid },
    ...{ tanh: Math.tanh, abs: Math.abs, square: (x: number) => x * x, sin: Math.sin, cos: Math.cos },
    ...{ relu: (x: number) => Math.max(x, 0), leakyRelu: (x: number) => (x > 0 ? x : 0.3 * x) },
  };
  for (const [name, fn] of Object.entries(cases)) {
    for (const shape of [
      [3, 5, 7],
      [3, 4],
    ]) {
      // erf is good to 1.5e-7, a few units of f32.
      await checkGradient(name, [draw(shape, { std: 2 })], fn, (x) => reference.map(x, refs[name]), [{ ulps: 16 }]);
    }
    await checkGradient(name, [draw([3, 5], { dtype: 'f16' })], fn, (x) => reference.map(x, refs[name]), [{ ulps: 16 }]);
  }
  await checkGradient('log', [draw([3, 5], { mean: 9 })], log, (x) => reference.map(x, Math.log), [{ ulps: 8 }]);
  await checkGradient('sqrt', [draw([3, 5], { mean: 9 })], sqrt, (x) => reference.map(x, Math.sqrt), [{ ulps: 8 }]);
  await checkGradient(
    'affine',
    [draw([3, 5])],
    (x) => affine(x, -2.5, 3),
    (x) => reference.map(x, (v) => -2.5 * v + 3),
  );
  await checkGradient(
    'cast',
    [draw([3, 8], { dtype: 'f16' })],
    (x) => cast(x, 'f32'),
    (x) => x,
  );
});

test('sums, products and quotients, broadcast', async () => {
  const draw = sampler(2);
  const shapes: [number[], number[]][] = [
    [
      [3, 5, 7],
      [3, 5, 7],
    ],
    [[3, 5, 7], [7]],
    [
      [3, 1, 7],
      [5, 1],
    ],
    [
      [2, 1, 1, 8],
      [2, 3, 5, 8],
    ],
    [[1], [129, 3]],
  ];
  for (const [a, b] of shapes) {
    const operands = () => [draw(a), draw(b, { mean: 4 })];
    const terms = [{ terms: 129, ulps: 4 }];
    await checkGradient('add', operands(), add, (x, y) => reference.broadcast(x, y, (p, q) => p + q), terms);
    await checkGradient('sub', operands(), sub, (x, y) => reference.broadcast(x, y, (p, q) => p - q), terms);
    await checkGradient('mul', operands(), mul, (x, y) => reference.broadcast(x, y, (p, q) => p * q), terms);
    await checkGradient('addProduct', operands(), addProduct, (x, y) => reference.broadcast(x, y, (p, q) => p + p * q), terms);
    await checkGradient('div', operands(), div, (x, y) => reference.broadcast(x, y, (p, q) => p / q), terms);
    await checkGradient('max', [draw(a), draw(b)], maximum, (x, y) => reference.broadcast(x, y, Math.max), terms);
    await checkGradient('min', [draw(a), draw(b)], minimum, (x, y) => reference.broadcast(x, y, Math.min), terms);
  }
});

test('convolutions: strides, odd windows, one-sided padding, channels by four and not', async () => {
  const draw = sampler(3);
  const cases: { x: number[]; w: [number, number, number]; stride?: number; padding: [number, number, number, number] }[] = [
    { x: [2, 5, 7, 3], w: [5, 3, 3], padding: [1, 1, 1, 1] },
    { x: [2, 5, 6, 4], w: [8, 3, 3], padding: [1, 1, 1, 1] },
    { x: [1, 7, 6, 4], w: [3, 3, 3], stride: 2, padding: [1, 1, 1, 1] },
    { x: [1, 6, 8, 4], w: [4, 3, 3], stride: 2, padding: [0, 1, 0, 1] },
    { x: [1, 7, 5, 3], w: [4, 1, 1], stride: 2, padding: [0, 0, 0, 0] },
    { x: [1, 6, 7, 2], w: [3, 2, 3], stride: 3, padding: [1, 0, 0, 2] },
    { x: [2, 3, 5, 12], w: [9, 1, 1], padding: [0, 0, 0, 0] },
    { x: [1, 3, 4, 4], w: [4, 1, 1], padding: [1, 0, 0, 1] },
  ];
  for (const {
    x,
    w: [o, kh, kw],
    ...options
  } of cases) {
    const inputs = [draw(x), draw([o, kh, kw, x[3]]), draw([o])];
    const name = `conv2d, ${x} with ${[o, kh, kw]} stride ${options.stride ?? 1}`;
    const accuracy = [
      { terms: o * kh * kw, ulps: 4 },
      { terms: x[0] * x[1] * x[2], ulps: 4 },
    ];
    await checkGradient(
      name,
      inputs,
      (a, b, c) => conv2d(a, b, c, options),
      (a, b, c) => reference.conv2d(a, b, c, options),
      accuracy,
    );
  }
});

test('the derivative by a window by Winograd: odd sizes and uneven padding, f32 and f16, and in many parts', async () => {
  const draw = sampler(31);
  // As in winograd.ts, transforming rounds too.
  const ulps = 4 + 6;
  for (const dtype of ['f32', 'f16'] as const) {
    const [x, w, g] = [draw([3, 14, 9, 36], { dtype }), draw([40, 3, 3, 36]), draw([3, 15, 8, 40])];
    const padding: [number, number, number, number] = [1, 2, 0, 1];
    const [dw] = gradient(conv2d(x.tensor, w.tensor, null, { padding }), [w.tensor], { upstream: g.tensor });
    const names = plan({ dw }, { ...FACTS, schedule: 'subgroup', subgroupSizes: [8, 8] }, LIMITS).dispatches.map(
      ({ shader }) => shader.name,
    );
    assert.ok(names.includes('winograd gradient of windows'), names.join());
    const expected = reference.build(w.shape, ([o, ky, kx, c]) => {
      let sum = 0;
      for (let n = 0; n < 3; n++)
        for (let y = 0; y < 15; y++)
          for (let z = 0; z < 8; z++) {
            const [iy, ix] = [y + ky - 1, z + kx];
            if (iy >= 0 && iy < 14 && ix < 9) sum += reference.at(g, [n, y, z, o]) * reference.at(x, [n, iy, ix, c]);
          }
      return sum;
    });
    await check(`by Winograd, ${dtype}`, dw, expected, { terms: 360, ulps });
    const window = { kh: 3, kw: 3, stride: 1, top: 1, left: 0 };
    const inParts: typeof weightGradientOp = {
      ...weightGradientOp,
      lower(inputs, output, attrs, to) {
        if (to.facts.schedule === 'subgroup') lowerWinogradGradient(to, { ...inputs, output, window }, 1);
        else weightGradientOp.lower!(inputs, output, attrs, to);
      },
    };
    await check(`in parts, ${dtype}`, apply(inParts, { g: g.tensor, x: x.tensor }, window), expected, { terms: 360, ulps });
  }
});

test('linear layers and matrix products; sums over more rows than one slice', async () => {
  const draw = sampler(4);
  for (const [rows, i, o] of [
    [5, 7, 3],
    [6, 8, 12],
    [301, 4, 2],
  ]) {
    const inputs = [draw([1, rows, i]), draw([o, i]), draw([o])];
    await checkGradient(`linear, ${[rows, i, o]}`, inputs, linear, reference.linear, [
      { terms: o, ulps: 4 },
      { terms: rows, ulps: 4 },
    ]);
  }
  await checkGradient(
    'matmul',
    [draw([2, 3, 5]), draw([2, 5, 7])],
    (a, b) => matmul(a, b),
    (a, b) => reference.matmul(a, b, false),
    [{ terms: 7, ulps: 4 }],
  );
  const transposed = (a: Tensor, b: Tensor) => matmul(a, b, { transposed: true });
  await checkGradient('matmul transposed', [draw([2, 3, 4]), draw([2, 8, 4])], transposed, (a, b) => reference.matmul(a, b, true), [
    { terms: 8, ulps: 4 },
  ]);
});

test('norms', async () => {
  const draw = sampler(5);
  for (const [shape, groups] of [
    [[2, 3, 5, 12], 3],
    [[2, 5, 3, 6], 2],
    [[3, 7, 10], 5],
  ] as [number[], number][]) {
    const c = shape[shape.length - 1];
    const inputs = [draw(shape, { mean: 0.5 }), draw([c], { mean: 1 }), draw([c])];
    const f = (...[x, gamma, beta]: Tensor[]) => groupNorm(x, gamma, beta, groups);
    await checkGradient(`groupNorm, ${shape} in ${groups}`, inputs, f, (x, g, b) => reference.groupNorm(x, g, b, groups, 1e-5), [
      { terms: 60, ulps: 16 },
    ]);
    // As around a residual branch.
    await checkGradient(
      `groupNorm beside what it reads, ${shape} in ${groups}`,
      inputs,
      (x, ...affine) => add(x, f(x, ...affine)),
      (x, g, b) => reference.add(x, reference.groupNorm(x, g, b, groups, 1e-5)),
      [{ terms: 60, ulps: 16 }],
    );
    // With an activation, as trainings differentiate it.
    const activated = (...[x, gamma, beta]: Tensor[]) => beforeGradient({ y: silu(groupNorm(x, gamma, beta, groups)) }).y;
    await checkGradient(
      `groupNorm and silu, ${shape} in ${groups}`,
      inputs,
      activated,
      (x, g, b) => reference.map(reference.groupNorm(x, g, b, groups, 1e-5), reference.silu),
      [{ terms: 60, ulps: 16 }],
    );
  }
  for (const shape of [
    [3, 5, 7],
    [2, 3, 68],
  ]) {
    const c = shape[2];
    const inputs = [draw(shape, { mean: 0.5 }), draw([c], { mean: 1 }), draw([c])];
    await checkGradient(
      `layerNorm, ${shape}`,
      inputs,
      (x, g, b) => layerNorm(x, g, b),
      (x, g, b) => reference.layerNorm(x, g, b, 1e-5),
      [{ terms: 60, ulps: 16 }],
    );
    // As around a residual branch.
    await checkGradient(
      `layerNorm beside what it reads, ${shape}`,
      inputs,
      (x, g, b) => add(x, layerNorm(x, g, b)),
      (x, g, b) => reference.add(x, reference.layerNorm(x, g, b, 1e-5)),
      [{ terms: 60, ulps: 16 }],
    );
  }
});

test('channels become blocks of pixels', async () => {
  await checkGradient(
    'depthToSpace',
    [sampler(20)([2, 3, 2, 12])],
    (x) => depthToSpace(x, 2),
    (x) =>
      reference.build([2, 6, 4, 3], ([n, h, w, c]) => {
        const pixel = (n * 3 + Math.floor(h / 2)) * 2 + Math.floor(w / 2);
        return x.data[12 * pixel + ((h % 2) * 2 + (w % 2)) * 3 + c];
      }),
  );
});

test('attention within windows, shifted and not', async () => {
  const draw = sampler(21);
  for (const [map, heads, width, window, shift] of [
    [[1, 4, 8], 2, 6, 4, 1],
    [[2, 3, 6], 3, 5, 3, 0],
  ] as const) {
    const inputs = [draw([...map, 3 * heads * width]), draw([heads, window ** 2, window ** 2])];
    const attrs = { heads, window, shift, blocked: -3 };
    await checkGradient(
      `window attention, ${map}, shifted by ${shift}`,
      inputs,
      (qkv, bias) => windowAttention(qkv, bias, attrs),
      (qkv, bias) => reference.windowAttention(qkv, bias, attrs),
      [{ terms: 3 * (width + window ** 2), ulps: 32 }],
    );
  }
});

test('attention: cross, causal, heads of 3, 4, 17, 20 and 68 channels', async () => {
  const draw = sampler(6);
  const cases: { q: number[]; keys: number; heads: number; causal?: boolean }[] = [
    { q: [2, 5, 8], keys: 7, heads: 2 },
    { q: [1, 6, 9], keys: 3, heads: 3 },
    { q: [2, 7, 8], keys: 7, heads: 1, causal: true },
    { q: [1, 3, 20], keys: 5, heads: 1 },
    { q: [1, 3, 68], keys: 5, heads: 1 },
    { q: [2, 3, 34], keys: 3, heads: 2, causal: true },
    { q: [1, 2, 36], keys: 3, heads: 1 },
  ];
  for (const { q, keys, heads, causal = false } of cases) {
    const kv = [q[0], keys, q[2]];
    await checkGradient(
      `attention, ${q} to ${keys} in ${heads}${causal ? ' causal' : ''}`,
      [draw(q), draw(kv), draw(kv)],
      (a, b, c) => attention(a, b, c, heads, { causal }),
      (a, b, c) => reference.attention(a, b, c, heads, causal),
      [{ terms: q[2] + 7, ulps: 16 }],
    );
  }
  // Feature maps as tokens, as the autoencoder has them.
  const map = [1, 2, 3, 4];
  await checkGradient(
    'attention of maps',
    [draw(map), draw(map), draw(map)],
    (a, b, c) => attention(a, b, c, 1),
    (a, b, c) => reference.attention(a, b, c, 1, false),
    [{ terms: 10, ulps: 16 }],
  );
});

test('rows: softmax, geglu, sum and mean', async () => {
  const draw = sampler(7);
  await checkGradient('softmax', [draw([3, 5, 7])], softmax, reference.softmax, [{ terms: 7, ulps: 16 }]);
  await checkGradient('softmax', [draw([2, 131])], softmax, reference.softmax, [{ terms: 131, ulps: 16 }]);
  for (const c of [5, 8]) await checkGradient('geglu', [draw([3, 2 * c])], geglu, reference.geglu, [{ ulps: 16 }]);
  const total = (row: Float64Array) => row.reduce((a, b) => a + b, 0);
  const drop = (x: Values) => ({ ...x, shape: x.shape.slice(0, -1) });
  await checkGradient(
    'sum',
    [draw([3, 7])],
    (x) => sum(x),
    (x) => drop(reference.rows(x, (row) => [total(row)])),
  );
  await checkGradient(
    'mean',
    [draw([3, 7])],
    (x) => mean(x),
    (x) => drop(reference.rows(x, (row) => [total(row) / 7])),
    [{ ulps: 2 }],
  );
});

test('sums, means and maxima along any axis', async () => {
  const draw = sampler(17);
  const cases = { sum: [sum, reference.sumOf], mean: [mean, (values: Float64Array) => reference.sumOf(values) / values.length] } as const;
  for (const [name, [f, exact]] of Object.entries(cases))
    for (const axis of [0, 1, 2])
      await checkGradient(
        `${name} along ${axis}`,
        [draw([3, 5, 4])],
        (x) => f(x, { axis, keep: true }),
        (x) => reference.reduced(x, axis, exact),
        [{ ulps: 2 }],
      );
  for (const axis of [0, 1, 2])
    await checkGradient(
      `max along ${axis}`,
      [draw([3, 5, 4])],
      (x) => max(x, { axis, keep: true }),
      (x) => reference.reduced(x, axis, (values) => Math.max(...values)),
    );
  const ties = constant(Float32Array.of(1, 3, 3, 0, 3), [5]);
  const [slope] = gradient(max(ties), [ties]);
  const shared = await evaluate(await testDevice(), slope);
  assert.equal([...shared], [...Float32Array.of(0, 1 / 3, 1 / 3, 0, 1 / 3)]);
});

test('choices, and comparisons that have no derivative', async () => {
  const draw = sampler(18);
  const condition = draw([3, 1, 5]);
  await checkGradient(
    'where',
    [draw([2, 3, 4, 5]), draw([4, 1])],
    (a, b) => where(greater(condition.tensor, constant(new Float32Array(1), [1])), a, b),
    (a, b) =>
      reference.where(
        reference.map(condition, (value) => Number(value > 0)),
        a,
        b,
      ),
  );
  const x = constant(Float32Array.of(1, 2), [2]);
  for (const compare of [greater, less, equal])
    assert.throws(() => gradient(sum(compare(x, affine(x, 2, 0))), [x]), refused(/does not depend/));
});

test('a cross-entropy written with these', async () => {
  const draw = sampler(19);
  const [rows, classes] = [5, 7];
  const labels = Float32Array.from({ length: rows * classes }, (_, i) => (i % classes === (3 * Math.floor(i / classes)) % classes ? 1 : 0));
  const chosen = constant(labels, [rows, classes]);
  const loss = (x: Tensor) => {
    const shifted = sub(x, max(x, { keep: true }));
    const logs = sub(shifted, log(sum(exp(shifted), { keep: true })));
    return affine(mean(sum(mul(logs, chosen)), { axis: 0 }), -1, 0);
  };
  const exact = (x: Values) => {
    const logs = reference.rows(x, (row) => row.map((value) => value - Math.log(row.reduce((all, each) => all + Math.exp(each), 0))));
    return { shape: [1], data: Float64Array.of(-logs.data.reduce((all, value, i) => all + value * labels[i], 0) / rows) };
  };
  const x = draw([rows, classes], { std: 3 });
  await check('cross-entropy', loss(x.tensor), exact(x), { terms: 7, ulps: 16 });
  await checkGradient('cross-entropy', [x], loss, exact, [{ terms: 7, ulps: 16 }]);
});

test('what moves data', async () => {
  const draw = sampler(8);
  await checkGradient(
    'reshape',
    [draw([3, 4, 5])],
    (x) => reshape(x, [6, 10]),
    (x) => ({ ...x, shape: [6, 10] }),
  );
  await checkGradient(
    'permute',
    [draw([3, 4, 5, 2])],
    (x) => permute(x, [2, 0, 3, 1]),
    (x) => reference.permute(x, [2, 0, 3, 1]),
  );
  await checkGradient(
    'slice',
    [draw([3, 8, 5])],
    (x) => slice(x, 1, 2, 7),
    (x) => reference.slice(x, 1, 2, 7),
  );
  const amounts: [number, number][] = [
    [0, 0],
    [1, 2],
    [3, 0],
  ];
  await checkGradient(
    'pad',
    [draw([3, 4, 5])],
    (x) => pad(x, amounts),
    (x) => reference.pad(x, amounts),
  );
  for (const c of [3, 4])
    await checkGradient(
      'upsampleNearest',
      [draw([2, 3, 5, c])],
      (x) => upsampleNearest(x, 2),
      (x) => reference.upsampleNearest(x, 2),
      [{ terms: 4 }],
    );
  await checkGradient(
    'upsampleNearest',
    [draw([1, 2, 3, 4])],
    (x) => upsampleNearest(x, 3),
    (x) => reference.upsampleNearest(x, 3),
    [{ terms: 9 }],
  );
  const thrice = (x: Values) => reference.build([2, 3, 9], ([i, j, k]) => reference.at(x, [i, j, Math.floor(k / 3)]));
  await checkGradient('repeat', [draw([2, 3, 3])], (x) => repeat(x, -1, 3), thrice, [{ terms: 3 }]);
  for (const axis of [0, 1, 2]) {
    const parts = [2, 4, 3].map((size) => draw([3, 5, 2].with(axis, size)));
    await checkGradient(
      'concat',
      parts,
      (...x) => concat(x, axis),
      (...x) => reference.concat(x, axis),
    );
  }
  const rows = [4, 0, 4, 2];
  const index = constant(Uint32Array.from(rows), [4]);
  for (const c of [3, 8])
    await checkGradient(
      'gatherRows',
      [draw([5, c])],
      (x) => gatherRows(x, index),
      (x) => reference.gatherRows(x, rows),
    );
});

test('modulation', async () => {
  const draw = sampler(9);
  const inputs = [0, 1, 2, 3].map(() => draw([3, 5, 7]));
  const f = (...[x, gamma, beta, raw]: Tensor[]) => modulate(x, gamma, beta, raw, 0.7);
  const g = (...[x, gamma, beta, raw]: Values[]) => reference.modulate(x, gamma, beta, raw, 0.7);
  await checkGradient('modulate', inputs, f, g, [{ ulps: 4 }]);
  const whole = inputs.slice(0, 3);
  const raw = inputs[3].tensor;
  await checkGradient(
    'modulate fully',
    whole,
    (x, gamma, beta) => modulate(x, gamma, beta, raw, 1),
    (x, gamma, beta) => reference.modulate(x, gamma, beta, inputs[3], 1),
    [{ ulps: 4 }],
  );
});

test('what has no rule says so', () => {
  const x = sampler(10)([3, 5]).tensor;
  const g = gradient(sum(sum(silu(x))), [x])[0];
  assert.throws(() => gradient(sum(sum(g)), [x]), refused(/'unaryGradient'.* has no gradient rule/));
});

test.run();
