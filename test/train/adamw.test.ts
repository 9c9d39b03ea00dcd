/** AdamW on the GPU against its formula in f64: weights, moments, moving average, regulariser, sums over passes; and what is read back. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { Parameter } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { input, sizeOf } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { add, mul } from '../../kernels/binary.ts';
import { mean } from '../../kernels/reduce.ts';
import { reshape } from '../../kernels/reshape.ts';
import { WeightPart } from '../../kernels/weight-part.ts';
import { AdamW } from '../../train/adamw.ts';
import { TrainingStep } from '../../train/step.ts';
import { sampleOf } from '../../verify/sample.ts';
import { testDevice } from '../support/device.ts';

const device = await testDevice();

/** Odd sizes, one of more loads than a workgroup takes, and one that lies in another order on the GPU. */
const WEIGHTS = [
  { name: 'vector', shape: [5], kind: 'vector' },
  { name: 'conv', shape: [3, 2, 3, 5], kind: 'conv' },
  { name: 'matrix', shape: [67, 65], kind: 'matrix' },
] as const;
/** A weight in f32. */
const named = <P extends Parameter>(parameter: P, name: string): P => Object.assign(parameter, { name, dtype: 'f32' as const });
const parameters = WEIGHTS.map(({ name, shape, kind }) => named(new Parameter([...shape], kind), name));
const sizes = parameters.map(({ shape }) => sizeOf(shape));

/** Terms are of about 1 here, and a sum is rounded to 2^-24 of the largest. */
const near = (actual: ArrayLike<number>, expected: ArrayLike<number>, relative: number, what: string) => {
  assert.is(actual.length, expected.length, what);
  for (let i = 0; i < expected.length; i++)
    assert.ok(
      Math.abs(actual[i] - expected[i]) <= relative * Math.max(1, Math.abs(expected[i])),
      `${what} ${i}: ${actual[i]}, expected ${expected[i]}`,
    );
};

test('AdamW with all that it keeps is its formula', async () => {
  const random = new TorchRandom(1);
  const { buffers } = device.memory;
  const values = sizes.map((size) => random.randn(size));
  const options = { betas: [0.8, 0.95], epsilon: 1e-6, weightDecay: 0.1, lambda: 0.02, ema: 0.5 };
  const adam = new AdamW(device, parameters, values, options);
  await adam.place();
  const given = sizes.map((_, n) => input(`g${n}`, parameters[n].storedShape));
  const collect = await compile(device, { squares: adam.collect(given) });

  const expected = values.map((each) => Array.from(each, (w) => ({ w, m: 0, v: 0, mean: w, g: 0 })));
  const squareOf = (value: (each: { w: number; g: number }) => number) => expected.flat().reduce((sum, each) => sum + value(each) ** 2, 0);
  for (let t = 1; t <= 4; t++) {
    for (const each of expected.flat()) each.g = 2 * 0.02 * each.w;
    for (const before of [0, 1]) {
      const gradients = sizes.map((size) => random.randn(size));
      const stored = Object.fromEntries(gradients.map((g, n) => [`g${n}`, n === 1 ? storedConv(g) : g]));
      const { squares } = await collect.run({ ...stored, before, share: 0.5 });
      for (const [n, list] of expected.entries()) for (const [i, each] of list.entries()) each.g += gradients[n][i] / 2;
      // After the first of two passes half of the regulariser's derivative is in the sum.
      const missing = before === 0 ? 0.02 : 0;
      const derivatives = gradients.reduce((sum, g) => sum + g.reduce((all, value) => all + value ** 2, 0), 0);
      near(squares, [derivatives, squareOf(({ g, w }) => g - missing * w), squareOf(({ w }) => w), 0], 1e-5, `squares of step ${t}`);
    }
    const sums = await adam.read('gradient');
    for (const [n, list] of expected.entries())
      near(
        sums[n],
        list.map(({ g }) => g),
        1e-6,
        `gradient ${n}`,
      );
    await adam.update(0.01, 0.7);
    for (const each of expected.flat()) {
      const g = 0.7 * each.g;
      each.m = 0.8 * each.m + 0.2 * g;
      each.v = 0.95 * each.v + 0.05 * g * g;
      each.w -= 0.01 * 0.1 * each.w + (0.01 * (each.m / (1 - 0.8 ** t))) / (Math.sqrt(each.v / (1 - 0.95 ** t)) + 1e-6);
      each.mean += (1 - Math.min(0.5, (1 + t) / (10 + t))) * (each.w - each.mean);
    }
  }
  assert.is(adam.step, 4);
  // Each update rounds every number some times, to 2^-24 of it.
  for (const [kept, key] of Object.entries({ weight: 'w', first: 'm', second: 'v', average: 'mean' } as const)) {
    const read = await adam.read(kept as 'weight');
    for (const [n, list] of expected.entries())
      near(
        read[n],
        list.map((each) => each[key]),
        2e-6,
        `${kept} ${n}`,
      );
  }
  const [weights, averages] = [await adam.read('weight'), await adam.read('average')];
  await adam.exchange();
  assert.equal([await adam.read('weight'), await adam.read('average')], [averages, weights]);
  await adam.exchange();
  assert.equal(await adam.read('weight'), weights);
  adam.write('first', 1, values[1]);
  assert.equal((await adam.read('first'))[1], values[1]);

  collect.dispose();
  await adam.dispose();
  for (const parameter of parameters) device.residency.release(parameter);
  assert.is(device.memory.buffers, buffers);
});

test('what was in the sum before a first pass does not matter, were it no number', async () => {
  const adam = new AdamW(
    device,
    parameters,
    sizes.map((size) => new Float32Array(size).fill(1)),
  );
  await adam.place();
  const collect = await compile(device, { squares: adam.collect(parameters.map(({ storedShape }, n) => input(`g${n}`, storedShape))) });
  const fill = (value: number) => Object.fromEntries(sizes.map((size, n) => [`g${n}`, new Float32Array(size).fill(value)]));
  const { squares } = await collect.run({ ...fill(Number.NaN), before: 0, share: 1 });
  assert.ok(Number.isNaN(squares[1]));
  const all = sizes.reduce((sum, size) => sum + size, 0);
  assert.equal([...(await collect.run({ ...fill(2), before: 0, share: 1 })).squares], [4 * all, 4 * all, 0, 0]);
  collect.dispose();
  await adam.dispose();
  for (const parameter of parameters) device.residency.release(parameter);
});

test('weights that lie in another are read and written by themselves, and change as if they had places of their own', async () => {
  const shapes = [
    [4, 2, 4, 4],
    [4, 16],
  ];
  const kinds = ['conv', 'matrix'] as const;
  const wholes = kinds.map((kind, n) => named(new Parameter([3 * shapes[n][0], ...shapes[n].slice(1)], kind), `whole ${n}`));
  const alone = [0, 1, 0, 1, 0, 1].map((n, i) => named(new Parameter(shapes[n], kinds[n]), `weight ${i}`));
  const parts = alone.map(({ shape, kind, name }, i) => named(new WeightPart(shape, kind, wholes[i % 2], (i >> 1) * sizeOf(shape)), name));
  const random = new TorchRandom(2);
  const values = alone.map(({ shape }) => random.randn(sizeOf(shape)));
  const upstream = alone.map(({ storedShape }) => sampleOf(random.randn(sizeOf(storedShape)), storedShape).tensor);
  const results = [];
  for (const weights of [alone, parts]) {
    const adam = new AdamW(device, weights, values, { lambda: 0.02, ema: 0.5 });
    await adam.place();
    const loss = weights.map(({ tensor }, i) => reshape(mean(reshape(mul(tensor, upstream[i]), [1, tensor.size])), [1])).reduce(add);
    const step = await TrainingStep.compile(device, { loss }, adam, { checkpointing: false });
    await step.run({}, { share: 1, first: true });
    await adam.update(0.01);
    adam.write('average', 3, values[5]);
    const kept = ['weight', 'first', 'second', 'average', 'gradient'] as const;
    results.push(await Promise.all(kept.map((each) => adam.read(each))));
    step.dispose();
    await adam.dispose();
    for (const whole of adam.wholes) device.residency.release(whole);
  }
  assert.equal(results[1], results[0]);
});

test('options out of range are refused', () => {
  assert.throws(
    () => new AdamW(device, [], [], { epsilon: 0 }),
    (error: Error) => error instanceof UserError && /epsilon 0/.test(error.message),
  );
});

/** (3, 2, 3, 5) -> (3, 3, 5, 2) */
function storedConv(values: Float32Array): Float32Array {
  const stored = new Float32Array(values.length);
  for (let o = 0, i = 0; o < 3; o++)
    for (let c = 0; c < 2; c++) for (let tap = 0; tap < 15; tap++, i++) stored[(o * 15 + tap) * 2 + c] = values[i];
  return stored;
}

test.run();
