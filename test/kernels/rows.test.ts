/** Kernels that reduce: groupNorm, layerNorm, softmax, sum, mean and max. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { constant, input, type Tensor } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import { groupNorm } from '../../kernels/group-norm.ts';
import { layerNorm } from '../../kernels/layer-norm.ts';
import { max, mean, sum } from '../../kernels/reduce.ts';
import { softmax } from '../../kernels/softmax.ts';
import { gelu, silu } from '../../kernels/unary.ts';
import * as reference from '../../verify/reference.ts';
import { sampleOf, sampler, type Values } from '../../verify/sample.ts';
import { check, checkExact } from '../support/check.ts';
import { testDevice } from '../support/device.ts';

/** Mean and variance of n elements are each good to u sqrt(n) or better, 1 / sqrt and the final products to some ulps. */
const norm = (n: number) => ({ terms: n / 64, ulps: 8 });

test('groupNorm: channels per group that are 1, 3, 4 and 10, images apart, several slices', async () => {
  const draw = sampler(1);
  const cases: [number[], number, 'f32' | 'f16'][] = [
    [[2, 5, 7, 12], 3, 'f32'],
    [[3, 5, 7, 12], 12, 'f32'],
    [[2, 5, 7, 20], 2, 'f32'],
    [[2, 5, 7, 15], 5, 'f32'],
    [[2, 3, 64], 8, 'f16'],
    [[2, 7], 1, 'f32'],
    [[1, 97, 89, 8], 2, 'f32'],
  ];
  for (const [shape, groups, dtype] of cases) {
    const channels = shape[shape.length - 1];
    const [x, gamma, beta] = [draw(shape, { dtype, mean: 0.5 }), draw([channels]), draw([channels])];
    const expected = reference.groupNorm(x, gamma, beta, groups, 1e-5);
    const n = x.data.length / shape[0] / groups;
    await check(`groupNorm, ${shape} in ${groups}`, groupNorm(x.tensor, gamma.tensor, beta.tensor, groups), expected, norm(n));
  }
});

test('groupNorm fuses an activation', async () => {
  const draw = sampler(2);
  for (const shape of [
    [2, 5, 7, 12],
    [2, 5, 7, 15],
  ]) {
    const [x, gamma, beta] = [draw(shape), draw([shape[3]]), draw([shape[3]])];
    const plain = reference.groupNorm(x, gamma, beta, 3, 1e-6);
    const y = () => groupNorm(x.tensor, gamma.tensor, beta.tensor, 3, 1e-6);
    await check('groupNorm + silu', silu(y()), reference.map(plain, reference.silu), { terms: 4, ulps: 16 });
    await check('groupNorm + gelu', gelu(y()), reference.map(plain, reference.gelu), { terms: 4, ulps: 16 });
  }
});

test('norms of a large mean with a small variance do not cancel', async () => {
  const draw = sampler(3);
  // The mean itself is stored in f32, so a result is off by mean / std units of u.
  const ratio = 4000;
  const x = draw([2, 33, 17, 12], { mean: 1000, std: 0.25 });
  const [gamma, beta] = [draw([12]), draw([12])];
  const grouped = groupNorm(x.tensor, gamma.tensor, beta.tensor, 3, 1e-6);
  await check('groupNorm of a large mean', grouped, reference.groupNorm(x, gamma, beta, 3, 1e-6), { ulps: ratio });
  const y = draw([7, 1280], { mean: 1000, std: 0.25 });
  const [g, b] = [draw([1280]), draw([1280])];
  await check('layerNorm of a large mean', layerNorm(y.tensor, g.tensor, b.tensor), reference.layerNorm(y, g, b, 1e-5), { ulps: ratio });
});

test('groupNorm with one outlier, wherever it is, keeps its variance', async () => {
  const draw = sampler(4);
  for (const at of [0, 1, 8, 40_000]) {
    const x = draw([1, 97, 89, 8]);
    const values = Float32Array.from(x.data, (value, i) => (i === at ? 20_000 : value));
    const outlier = sampleOf(values, x.shape);
    const [gamma, beta] = [draw([8]), draw([8])];
    const expected = reference.groupNorm(outlier, gamma, beta, 2, 1e-5);
    await check('groupNorm with an outlier', groupNorm(outlier.tensor, gamma.tensor, beta.tensor, 2), expected, norm(34_532));
  }
});

test('a constant has variance 0 and normalizes to beta', async () => {
  const draw = sampler(5);
  const x = draw([1, 5, 7, 12], { mean: 3, std: 0 });
  const [gamma, beta] = [draw([12]), draw([12])];
  const expected = { shape: x.shape, data: x.data.map((_, i) => beta.data[i % 12]) };
  await checkExact('groupNorm of a constant', groupNorm(x.tensor, gamma.tensor, beta.tensor, 3), expected);
  await checkExact('layerNorm of a constant', layerNorm(x.tensor, gamma.tensor, beta.tensor), expected);
});

test('layerNorm: rows short and long, f16', async () => {
  const draw = sampler(6);
  for (const [shape, dtype] of [
    [[2, 5, 7], 'f32'],
    [[77, 128], 'f32'],
    [[3, 2049], 'f32'],
    [[4, 1], 'f32'],
    [[3, 96], 'f16'],
  ] as const) {
    const columns = shape[shape.length - 1];
    const [x, gamma, beta] = [draw(shape, { dtype, mean: 2 }), draw([columns]), draw([columns])];
    const expected = reference.layerNorm(x, gamma, beta, 1e-5);
    await check(`layerNorm, ${shape}`, layerNorm(x.tensor, gamma.tensor, beta.tensor), expected, norm(columns));
  }
});

test('softmax: rows short and long, f16, and scores of ±80 and beyond', async () => {
  const draw = sampler(7);
  for (const [shape, std, dtype] of [
    [[3, 5, 7], 1, 'f32'],
    [[5, 77], 1, 'f16'],
    [[3, 4099], 2, 'f32'],
    [[70, 1], 1, 'f32'],
    [[9, 130], 80, 'f32'],
  ] as const) {
    const x = draw(shape, { std, dtype });
    // exp is accurate to 3 + 2 |x| ulps, and only |x| up to 20 below the maximum leaves a trace.
    await check(`softmax, ${shape}`, softmax(x.tensor), reference.softmax(x), {
      terms: shape[shape.length - 1] / 64,
      ulps: std > 2 ? 80 : 24,
    });
  }
  const extreme = sampleOf([-80, 80, 0, 1e30, -1e30, 0, -80, -80, -80], [3, 3]);
  await check('softmax of extremes', softmax(extreme.tensor), reference.softmax(extreme), { ulps: 8 });
});

test('sum, mean and max over rows short and long, f16', async () => {
  const draw = sampler(8);
  for (const [shape, dtype] of [
    [[2, 5, 7], 'f32'],
    [[3, 5003], 'f32'],
    [[130], 'f32'],
    [[4, 1], 'f32'],
    [[5, 65], 'f16'],
  ] as const) {
    const x = draw(shape, { dtype });
    const exact = (f: (row: Float64Array) => number) => {
      const { shape, data } = reference.rows(x, (row) => [f(row)]);
      return { shape: shape.length > 1 ? shape.slice(0, -1) : shape, data };
    };
    const total = (row: Float64Array) => row.reduce((a, b) => a + b, 0);
    const columns = shape[shape.length - 1];
    await check(`sum, ${shape}`, sum(x.tensor), exact(total), { terms: columns, ulps: 2 });
    await check(
      `mean, ${shape}`,
      mean(x.tensor),
      exact((row) => total(row) / row.length),
      { terms: columns, ulps: 2 },
    );
    await checkExact(
      `max, ${shape}`,
      max(x.tensor),
      exact((row) => row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)),
    );
  }
});

test('sum, mean and max along other axes, long and short, f16', async () => {
  const draw = sampler(28);
  const largest = (values: Float64Array) => values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  for (const [shape, dtype, axis] of [
    [[2, 5, 7], 'f32', 0],
    [[3, 131, 4], 'f32', 1],
    [[2, 300, 3], 'f16', -2],
    [[5, 2, 1], 'f32', 0],
  ] as const) {
    const x = draw(shape, { dtype });
    const at = axis < 0 ? axis + shape.length : axis;
    const terms = shape[at];
    const kept = (f: (values: Float64Array) => number) => reference.reduced(x, at, f);
    const dropped = (values: Values) => ({ ...values, shape: values.shape.filter((_, i) => i !== at) });
    await check(`sum, axis ${axis}`, sum(x.tensor, { axis }), dropped(kept(reference.sumOf)), { terms, ulps: 2 });
    const exact = kept((values) => reference.sumOf(values) / terms);
    await check(`mean, axis ${axis}`, mean(x.tensor, { axis, keep: true }), exact, { terms, ulps: 2 });
    await checkExact(`max, axis ${axis}`, max(x.tensor, { axis, keep: true }), kept(largest));
  }
  const x = draw([2, 3, 5]);
  await checkExact('max, of all', max(x.tensor, { axis: [0, 1, 2] }), { shape: [1], data: Float64Array.of(largest(x.data)) });
  const least = constant(new Float32Array(6).fill(Number.NEGATIVE_INFINITY), [2, 3]);
  for (const axis of [0, 1])
    assert.ok((await evaluate(await testDevice(), max(least, { axis }))).every((value) => value === Number.NEGATIVE_INFINITY));
  for (const axis of [3, [0, -3]]) assert.throws(() => sum(x.tensor, { axis }), /no axis/);
});

test('many rows: more workgroups than one dimension holds', async () => {
  const rows = 65_537;
  const x = sampleOf(
    Float32Array.from({ length: rows * 2 }, (_, i) => i % 1021),
    [rows, 2],
  );
  await checkExact('sum, many rows', sum(x.tensor), { shape: [rows], data: reference.rows(x, ([a, b]) => [a + b]).data });
});

test('shapes that do not fit are refused', () => {
  const refused = (make: () => Tensor, ...words: string[]) =>
    assert.throws(make, (error: Error) => error instanceof ShapeError && words.every((word) => error.message.includes(word)));
  const x = input('feature', [2, 9, 12]);
  const [twelve, ten, half] = [input('scale', [12]), input('shift', [10]), input('half', [12], 'f16')];
  refused(() => groupNorm(x, twelve, twelve, 5), 'groupNorm', '5 groups', 'feature (2, 9, 12)');
  refused(() => groupNorm(x, twelve, ten, 3), 'groupNorm', 'shift (10)', 'feature');
  refused(() => groupNorm(x, half, twelve, 3), 'groupNorm', 'half (12)', 'f32');
  refused(() => groupNorm(twelve, twelve, twelve, 3), 'groupNorm', 'scale (12)');
  refused(() => layerNorm(x, twelve, ten), 'layerNorm', 'shift (10)', 'feature');
  refused(() => layerNorm(x, twelve, half), 'layerNorm', 'half (12)', 'f32');
});

test.run();
