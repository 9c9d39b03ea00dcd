/**
 * The matrix schedule: products of halves that together are as exact as f32, at odd sizes and over the whole range. Native on adapters that
 * have subgroup matrices, emulated on all others.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MATRIX_FEATURE } from '../../core/adapter.ts';
import { DeviceError } from '../../core/errors.ts';
import type { Tensor } from '../../core/tensor.ts';
import { openDevice } from '../../gpu/device.ts';
import { evaluate } from '../../gpu/program.ts';
import { add } from '../../kernels/binary.ts';
import { allShaders } from '../../kernels/catalogue.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { linear, matmul } from '../../kernels/linear.ts';
import { silu } from '../../kernels/unary.ts';
import { type Accuracy, assertClose } from '../../verify/accuracy.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampleOf, sampler, type Values } from '../../verify/sample.ts';
import { testDevices } from '../support/device.ts';
import { FACTS, LIMITS } from '../support/facts.ts';
import { refusal } from '../support/refused.ts';
import { skip } from '../support/skip.ts';

async function matrixDevice() {
  return (await testDevices()).find(({ facts }) => facts.schedule === 'matrix')!;
}

/** Of the kernels that compute a tensor in the matrix schedule. */
const names = (tensor: Tensor) => plan({ tensor }, { ...FACTS, schedule: 'matrix' }, LIMITS).dispatches.map(({ shader }) => shader.name);

async function check(what: string, actual: Tensor, expected: Values, accuracy: Accuracy): Promise<void> {
  assert.ok(
    names(actual).some((name) => name.includes('matrix')),
    `${what}: ${names(actual)}`,
  );
  assertClose(`matrices, ${what}`, await evaluate(await matrixDevice(), actual), expected, accuracy);
}

// Splitting x rounds it by up to two units.
const SPLIT = 2;
const w16 = { dtype: 'f16' } as const;

test('linear layers: all edges of tiles, bias, activation, residual and gates', async () => {
  const draw = sampler(1);
  for (const [rows, ins, outs] of [
    [131, 20, 76],
    [1, 4, 1],
    [45, 36, 67],
    [300, 8, 132],
  ]) {
    const [x, w, bias] = [draw([rows, ins]), draw([outs, ins], w16), draw([outs])];
    const accuracy = { terms: ins, ulps: 1 + SPLIT };
    await check(`linear ${[rows, ins, outs]}`, linear(x.tensor, w.tensor, bias.tensor), reference.linear(x, w, bias), accuracy);
  }
  const [x, w, bias] = [draw([2, 77, 28]), draw([88, 28], w16), draw([88])];
  const plain = reference.linear(x, w, bias);
  const residual = draw([2, 77, 88]);
  const layer = linear(x.tensor, w.tensor, bias.tensor);
  const accuracy = { terms: 28, ulps: 12 + SPLIT };
  await check('all', add(silu(layer), residual.tensor), reference.add(reference.map(plain, reference.silu), residual), accuracy);
  await check('gated', geglu(layer), reference.geglu(plain), accuracy);
});

test('convolutions that step and pad, and products with a batch axis', async () => {
  const draw = sampler(2);
  const [x, w] = [draw([2, 9, 14, 12]), draw([20, 3, 2, 12], w16)];
  const expected = reference.conv2d(x, w, null, { stride: 2, padding: [1, 0, 0, 2] });
  const convolution = conv2d(x.tensor, w.tensor, null, { stride: 2, padding: [1, 0, 0, 2] });
  await check('convolution', convolution, expected, { terms: 72, ulps: 1 + SPLIT });
  const [a, b] = [draw([3, 37, 8], w16), draw([3, 19, 8], w16)];
  const product = matmul(a.tensor, b.tensor, { transposed: true });
  await check('batch', product, reference.matmul(a, b, true), { terms: 8, ulps: 1 });
});

test('as exact as f32 whatever the size of x, to a millionth and to four million', async () => {
  const draw = sampler(3);
  const w = draw([40, 64], w16);
  // Below 2^-6 errors are of a fixed size, 2^-30, against u of x.
  for (const [std, ulps] of [
    [1e-5, 2 ** -30 / (2 ** -24 * 1e-5)],
    [1e-3, SPLIT],
    [1, SPLIT],
    [1e4, SPLIT],
    [8e5, SPLIT],
  ]) {
    const x = draw([50, 64], { std });
    await check(`std ${std}`, linear(x.tensor, w.tensor), reference.linear(x, w, null), { terms: 64, ulps: 1 + ulps });
  }
  const large = sampleOf([4.19e6, -4.19e6, 1.5, 65519], [1, 4]);
  const ones = sampleOf([1, 1, 1, 0, 0, 0, 0, 1], [2, 4], 'f16');
  assert.equal([...(await evaluate(await matrixDevice(), linear(large.tensor, ones.tensor)))], [1.5, 65519], 'large ones cancel exactly');
});

test('whole numbers of f32 are exact', async () => {
  const sample = (count: number, shape: number[], value: (i: number) => number, dtype?: 'f16'): Sample =>
    sampleOf(
      Array.from({ length: count }, (_, i) => value(i)),
      shape,
      dtype,
    );
  // Of 21 bits; a half alone would keep 11.
  const x = sample(60, [5, 12], (i) => ((i * 2654435761) % 2 ** 22) - 2 ** 21);
  const w = sample(96, [8, 12], (i) => Number(i % 13 === 0), 'f16');
  await check('whole numbers', linear(x.tensor, w.tensor), reference.linear(x, w, null), { terms: 0, ulps: 0 });
});

test('weights that are not halves in fours, and what Winograd computes, are left to the tiled schedule', () => {
  const draw = sampler(4);
  for (const graph of [
    linear(draw([5, 8]).tensor, draw([6, 8]).tensor),
    linear(draw([5, 7]).tensor, draw([6, 7], w16).tensor),
    conv2d(draw([1, 64, 64, 64]).tensor, draw([64, 3, 3, 64], w16).tensor, null, { padding: 1 }),
  ]) {
    assert.not(names(graph).some((name) => name.includes('matrix')));
  }
});

test('the schedule is refused where the adapter lacks what it needs, by name', async () => {
  const features = ['shader-f16', 'subgroups', 'subgroup-size-control', MATRIX_FEATURE];
  const config = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 };
  const suitable = { subgroupMatrixConfigs: [config], subgroupMinSize: 32, subgroupMaxSize: 64 };
  const gpu = (offered: string[], info: object) =>
    ({ requestAdapter: async () => ({ features: new Set(offered), info, limits: {} }) }) as unknown as GPU;
  for (const [offered, info, why] of [
    [features.slice(0, 2), suitable, /does not offer subgroup-size-control, chromium-experimental-subgroup-matrix/],
    [features, { ...suitable, subgroupMatrixConfigs: [{ ...config, M: 8 }] }, /do not multiply f16 by f16 into f32/],
    [features, { ...suitable, subgroupMatrixConfigs: undefined }, /do not multiply f16 by f16 into f32/],
    [features, { ...suitable, subgroupMinSize: 64 }, /64 to 64 lanes, not 32/],
  ] as const) {
    const error = await refusal(openDevice({ gpu: gpu([...offered], info), schedule: 'matrix' }));
    assert.instance(error, DeviceError);
    assert.match(error.message, why);
  }
});

test('shaders with subgroup matrices compile', async () => {
  const { gpu, facts, settle } = await matrixDevice();
  if (!facts.features.has(MATRIX_FEATURE))
    return skip(`no ${MATRIX_FEATURE}: not compiled here, and the tests above ran on emulated matrices`);
  for (const { name, wgsl } of allShaders().filter(({ needs }) => needs.includes(MATRIX_FEATURE))) {
    gpu.pushErrorScope('validation');
    gpu.createComputePipeline({ layout: 'auto', compute: { module: gpu.createShaderModule({ code: wgsl }) } });
    assert.is(await settle(gpu.popErrorScope()), null, name);
  }
});

test('emulated halves really are rounded: what a pair of halves cannot hold is gone', async () => {
  const device = await matrixDevice();
  if (device.facts.features.has(MATRIX_FEATURE)) return skip('native subgroup matrices round as their GPU does');
  // 2^-10 + 2^-31 is a number of f32; as 64 (high + low / 2048) its last bit lies below the smallest half.
  const x = sampleOf(new Array(32).fill(2 ** -10 + 2 ** -31), [2, 16]);
  const w = sampleOf(new Array(64).fill(1), [4, 16], 'f16');
  const rounded = await evaluate(device, linear(x.tensor, w.tensor));
  assert.equal([...rounded], new Array(8).fill(2 ** -6));
});

test.run();
