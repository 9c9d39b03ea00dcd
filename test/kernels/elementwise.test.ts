/** unary, binary, geglu, modulate and casts. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { fromF16, toF16 } from '../../core/half.ts';
import { constant, input, type Tensor } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import * as binary from '../../kernels/binary.ts';
import { geglu } from '../../kernels/geglu.ts';
import * as unary from '../../kernels/unary.ts';
import { where } from '../../kernels/where.ts';
import { modulate } from '../../kernels/zero-sft.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampleOf, sampler } from '../../verify/sample.ts';
import { check, checkExact } from '../support/check.ts';
import { testDevice, testDevices } from '../support/device.ts';

// exp is accurate to 3 + 2 |x| ulps by WGSL's rules, |x| up to 4 here, and a ulp is two units of 2^-24; the polynomial of erf to 1.5e-7.
const UNARY: [string, (x: Tensor) => Tensor, (x: number) => number, number][] = [
  ['silu', unary.silu, reference.silu, 8],
  ['gelu', unary.gelu, reference.gelu, 8],
  ['quickGelu', unary.quickGelu, reference.quickGelu, 8],
  ['exp', unary.exp, Math.exp, 12],
  ['sigmoid', unary.sigmoid, reference.sigmoid, 8],
  ['tanh', unary.tanh, Math.tanh, 8],
  ['abs', unary.abs, Math.abs, 0],
  ['square', unary.square, (x) => x * x, 1],
  ['relu', unary.relu, (x) => Math.max(x, 0), 0],
  ['leakyRelu', (x) => unary.leakyRelu(x, 0.3), (x) => (x > 0 ? x : 0.3 * x), 1],
  ['sin', unary.sin, Math.sin, 2],
  ['cos', unary.cos, Math.cos, 2],
  ['affine', (x) => unary.affine(x, -1.5, 0.25), (x) => -1.5 * x + 0.25, 2],
];

test('unary functions, of both widths and of f16', async () => {
  const draw = sampler(1);
  for (const x of [draw([2, 3, 5, 7]), draw([3, 5, 4]), draw([3, 5, 4], { dtype: 'f16' })]) {
    for (const [name, f, exact, ulps] of UNARY)
      await check(`${name}, ${x.tensor.dtype} ${x.shape}`, f(x.tensor), reference.map(x, exact), { ulps });
    // By WGSL's rules 3 ulps, but 2^-21 in absolute value between 0.5 and 2, where a logarithm may be as small as one likes.
    await check('log', unary.log(unary.exp(x.tensor)), x, { ulps: 24 });
    await check('sqrt', unary.sqrt(unary.square(x.tensor)), reference.map(x, Math.abs), { ulps: 6 });
  }
});

test('unary functions far from zero neither overflow nor become NaN', async () => {
  const x = sampleOf([-1e30, -1000, -100, -88, -30, -10, 10, 30, 80, 100, 1000, 1e30], [12]);
  const finite = (name: string) => !['exp', 'square', 'sin', 'cos'].includes(name);
  for (const [name, f, exact, ulps] of UNARY.filter(([name]) => finite(name))) {
    const values = await evaluate(await testDevice(), f(x.tensor));
    x.data.forEach((at, i) => {
      const error = Math.abs(values[i] - exact(at));
      assert.ok(error <= 2 ** -22 * (ulps + 1) * Math.abs(exact(at)) + 3e-6, `${name}(${at}) is ${values[i]}, expected ${exact(at)}`);
    });
  }
  const powers = await evaluate(await testDevice(), unary.exp(constant(Float32Array.of(-1e30, -1000, -104, 0, 88), [5])));
  assert.ok(powers.slice(0, 3).every((value) => value >= 0 && value < 1.2e-38) && powers[3] === 1, `exp gives ${powers}`);
  assert.ok(Math.abs(powers[4] / Math.exp(88) - 1) < 2e-5, `exp(88) is ${powers[4]}`);
});

test('tanh of small numbers keeps their digits', async () => {
  const x = sampleOf([1e-30, -1e-8, 3e-5, -0.01, 0.3, 0.6249, 0.6251, -0.9, 4, -9.5, 20, 0], [12]);
  for (const device of await testDevices()) {
    const values = await evaluate(device, unary.tanh(x.tensor));
    x.data.forEach((at, i) => {
      const exact = Math.tanh(at);
      assert.ok(Math.abs(values[i] - exact) <= 2 ** -22 * Math.abs(exact), `tanh(${at}) is ${values[i]}, expected ${exact}`);
    });
  }
});

test('sin and cos of large angles', async () => {
  const x = sampleOf([8000, -8000.5, 6144.25, 1000, -355, 22, Math.PI, 1.5707964, -1.5707964, 0.7853982, -6.2831855, 1e-20], [12]);
  for (const device of await testDevices())
    for (const [name, f, exact] of [['sin', unary.sin, Math.sin] as const, ['cos', unary.cos, Math.cos] as const]) {
      const values = await evaluate(device, f(x.tensor));
      x.data.forEach((at, i) => {
        assert.ok(Math.abs(values[i] - exact(at)) < 3e-7, `${name}(${at}) is ${values[i]}, expected ${exact(at)}`);
      });
    }
});

test('comparisons, and choices between broadcast operands', async () => {
  const draw = sampler(31);
  const round = ({ tensor, shape, data }: Sample) => sampleOf(data.map(Math.round), shape, tensor.dtype as 'f32');
  const b = round(draw([3, 1, 4]));
  for (const a of [round(draw([2, 3, 5, 4])), round(draw([2, 3, 5, 4], { dtype: 'f16' })), round(draw([5, 1]))]) {
    const compared: [string, (a: Tensor, b: Tensor) => Tensor, (a: number, b: number) => boolean][] = [
      ['greater', binary.greater, (p, q) => p > q],
      ['less', binary.less, (p, q) => p < q],
      ['equal', binary.equal, (p, q) => p === q],
    ];
    for (const [name, f, exact] of compared)
      await checkExact(
        name,
        f(a.tensor, b.tensor),
        reference.broadcast(a, b, (p, q) => Number(exact(p, q))),
      );
    const shape = reference.add(a, b).shape;
    for (const other of [draw(shape), draw([1])]) {
      const expected = reference.where(
        reference.broadcast(a, b, (p, q) => Number(p > q)),
        a,
        other,
      );
      await checkExact('where', where(binary.greater(a.tensor, b.tensor), a.tensor, other.tensor), expected);
    }
  }
  const [zero, bad] = [constant(Float32Array.of(0, 1, 0), [3]), constant(Float32Array.of(Infinity, 2, Number.NaN), [3])];
  assert.equal([...(await evaluate(await testDevice(), where(zero, bad, input('x', [3])), { x: Float32Array.of(5, 6, 7) }))], [5, 2, 7]);
  assert.throws(
    () => where(zero, bad, constant(new Float32Array(2), [2])),
    (error: unknown) => error instanceof ShapeError,
  );
});

test('binary functions broadcast', async () => {
  const draw = sampler(2);
  const pairs: [number[], number[]][] = [
    [
      [3, 5, 8],
      [3, 5, 8],
    ],
    [[2, 3, 5, 8], [8]],
    [
      [2, 3, 5, 8],
      [2, 1, 1, 8],
    ],
    [
      [2, 1, 5, 8],
      [3, 1, 8],
    ],
    [
      [2, 3, 5, 7],
      [3, 1, 7],
    ],
    [
      [2, 3, 5, 7],
      [2, 3, 5, 1],
    ],
    [[5, 8], [1]],
    [
      [1, 1],
      [3, 1],
    ],
    [
      [2, 1, 5, 1],
      [1, 3, 1, 4],
    ],
  ];
  for (const [sa, sb] of pairs) {
    const [a, b] = [draw(sa), draw(sb)];
    for (const [x, y] of [
      [a, b],
      [b, a],
    ])
      await check(
        `sub, ${x.shape} and ${y.shape}`,
        binary.sub(x.tensor, y.tensor),
        reference.broadcast(x, y, (p, q) => p - q),
      );
  }
});

test('binary functions, of f32 and f16', async () => {
  const draw = sampler(3);
  const functions: [string, (a: Tensor, b: Tensor) => Tensor, (a: number, b: number) => number, number][] = [
    ['add', binary.add, (a, b) => a + b, 1],
    ['sub', binary.sub, (a, b) => a - b, 1],
    ['mul', binary.mul, (a, b) => a * b, 1],
    ['div', binary.div, (a, b) => a / b, 5],
    ['maximum', binary.maximum, Math.max, 0],
    ['minimum', binary.minimum, Math.min, 0],
    ['addProduct', binary.addProduct, (a, b) => a + a * b, 2],
  ];
  const b = draw([3, 1, 4], { mean: 8 });
  for (const a of [draw([2, 3, 5, 4]), draw([2, 3, 5, 4], { dtype: 'f16' })])
    for (const [name, f, exact, ulps] of functions)
      await check(`${name}, ${a.tensor.dtype}`, f(a.tensor, b.tensor), reference.broadcast(a, b, exact), { ulps });
});

test('more than 65535 workgroups: the grid has two dimensions', async () => {
  const size = 65536 * 64 + 67;
  const data = Float32Array.from({ length: size }, (_, i) => i % 8191);
  const result = await evaluate(await testDevice(), unary.affine(constant(data, [size]), 2, 1));
  const wrong = result.findIndex((value, i) => value !== 2 * data[i] + 1);
  assert.is(wrong, -1, `element ${wrong} is ${result[wrong]}`);
});

test('cast to f16 and back rounds to a neighbour, and f16 results decode', async () => {
  const draw = sampler(4);
  for (const shape of [
    [3, 5, 4],
    [3, 7],
  ]) {
    const x = draw(shape, { std: 100 });
    const device = await testDevice();
    const half = unary.cast(x.tensor, 'f16');
    assert.is(half.dtype, 'f16');
    const [halves, back] = [await evaluate(device, half), await evaluate(device, unary.cast(half, 'f32'))];
    x.data.forEach((value, i) => {
      const nearest = toF16(value);
      const neighbours = [-1, 0, 1].map((step) => fromF16(nearest + step));
      const within = neighbours.includes(halves[i]) && Math.abs(halves[i] - value) < 2 ** -10 * Math.abs(value);
      assert.ok(within, `${value} became ${halves[i]}, nearest is ${neighbours[1]}`);
      assert.is(back[i], halves[i]);
    });
  }
});

test('values that f16 holds survive a cast exactly', async () => {
  const x = sampleOf([0, 1, -2, 0.5, 65504, -65504, 2 ** -14, 1 / 3, 1e-5, -7.25], [10], 'f16');
  await checkExact('cast', unary.cast(unary.cast(x.tensor, 'f32'), 'f16'), x);
});

test('geglu', async () => {
  const draw = sampler(5);
  for (const x of [draw([2, 3, 10]), draw([3, 5, 24]), draw([3, 5, 24], { dtype: 'f16' })])
    await check(`geglu, ${x.tensor.dtype} ${x.shape}`, geglu(x.tensor), reference.geglu(x), { ulps: 8 });
});

test('modulate blends by the scale, and a scale of 0 returns the raw bits', async () => {
  const draw = sampler(6);
  for (const shape of [
    [2, 3, 5, 7],
    [2, 3, 5, 8],
  ]) {
    const [x, gamma, beta, raw] = [draw(shape), draw(shape), draw(shape), draw(shape)];
    for (const scale of [1, 0.3])
      await check(
        'modulate',
        modulate(x.tensor, gamma.tensor, beta.tensor, raw.tensor, scale),
        reference.modulate(x, gamma, beta, raw, scale),
        { ulps: 4 },
      );
    const huge = constant(new Float32Array(x.data.length).fill(Number.POSITIVE_INFINITY), shape);
    await checkExact('modulate by 0', modulate(huge, gamma.tensor, beta.tensor, raw.tensor, 0), raw);
  }
});

test('shapes that do not fit are refused by name', () => {
  const refused = (make: () => Tensor, ...words: string[]) =>
    assert.throws(make, (error: Error) => error instanceof ShapeError && words.every((word) => error.message.includes(word)));
  refused(() => binary.add(input('left', [2, 3]), input('right', [2, 4])), 'add', 'left (2, 3)', 'right (2, 4)');
  refused(() => geglu(input('gate', [2, 3])), 'geglu', 'gate (2, 3)');
  refused(() => modulate(input('x', [4]), input('gamma', [5]), input('beta', [4]), input('raw', [4]), 1), 'modulate', 'gamma (5)', 'x (4)');
  refused(() => binary.add(input('left', [4]), input('index', [4], 'u32')), 'index (4)', 'u32');
  refused(
    () => binary.mul(input('left', [2, 3, 1, 5, 1]), input('right', [1, 3, 7, 5, 4])),
    'mul',
    'left (2, 3, 1, 5, 1)',
    'right',
    'four',
  );
});

test('numbers beyond f16 become infinity, and what is no number stays none', async () => {
  const values = [70000, -70000, Infinity, -Infinity, 65504, -65519, 65520, -65520, Number.NaN, 1e30, 0, -3];
  const expected = [Infinity, -Infinity, Infinity, -Infinity, 65504, -65504, Infinity, -Infinity, Number.NaN, Infinity, 0, -3];
  for (const device of await testDevices()) {
    const x = Float32Array.from(values);
    assert.equal([...(await evaluate(device, unary.cast(input('x', [12]), 'f16'), { x }))], expected);
  }
});

test.run();
