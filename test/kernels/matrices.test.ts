/**
 * The matrix schedule: products of halves that together are as exact as f32, at odd sizes and over the whole range. Native on adapters that
 * have subgroup matrices, emulated on all others.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MATRIX_FEATURE, type MatrixUnit } from '../../core/adapter.ts';
import { DeviceError } from '../../core/errors.ts';
import type { ShaderSpec } from '../../core/shader.ts';
import type { Tensor } from '../../core/tensor.ts';
import { Device, openDevice } from '../../gpu/device.ts';
import { tryUnits } from '../../gpu/matrix-probe.ts';
import { matrixUnits } from '../../gpu/matrix-units.ts';
import { evaluate } from '../../gpu/program.ts';
import { add } from '../../kernels/binary.ts';
import { allShaders } from '../../kernels/catalogue.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { linear, matmul } from '../../kernels/linear.ts';
import { type LayerTensor, withLowRank } from '../../kernels/low-rank.ts';
import { unitName } from '../../kernels/matrices.ts';
import { silu } from '../../kernels/unary.ts';
import { type Accuracy, assertClose } from '../../verify/accuracy.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampleOf, sampler, type Values } from '../../verify/sample.ts';
import { emulated, testDevice, testDevices } from '../support/device.ts';
import { FACTS, HALVES, LIMITS } from '../support/facts.ts';
import { refusal } from '../support/refused.ts';
import { skip } from '../support/skip.ts';

/** Of Apple's GPUs, and of Intel's; HALVES of AMD's and NVIDIA's. */
const SINGLES: MatrixUnit = { input: 'f32', m: 8, n: 8, k: 8, lanes: 32 };
const FLAT: MatrixUnit = { input: 'f16', m: 8, n: 16, k: 16, lanes: 16 };

/** Of the kernels that compute a tensor in the matrix schedule. */
const names = (tensor: Tensor, matrixUnit: MatrixUnit) =>
  plan({ tensor }, { ...FACTS, schedule: 'matrix', matrixUnit }, LIMITS).dispatches.map(({ shader }) => shader.name);

async function check(what: string, actual: Tensor, expected: Values, accuracy: Accuracy, units = [HALVES]): Promise<void> {
  for (const unit of units) {
    const found = names(actual, unit);
    assert.ok(
      found.some((name) => name.includes('matrix')),
      `${what}: ${found}`,
    );
    assertClose(`matrices ${unitName(unit)}, ${what}`, await evaluate(await emulated(unit), actual), expected, accuracy);
  }
}

// Splitting x rounds it by up to two units, and a weight as well.
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
  await check('gated', geglu(layer), reference.geglu(plain), accuracy, [HALVES, SINGLES, FLAT]);
});

test('convolutions that step and pad, and weights in f32, which are split too', async () => {
  const draw = sampler(2);
  const [x, w] = [draw([2, 9, 14, 12]), draw([20, 3, 2, 12], { std: 1e-3 })];
  const options = { stride: 2, padding: [1, 0, 0, 2] as [number, number, number, number] };
  const expected = reference.conv2d(x, w, null, options);
  const accuracy = { terms: 72, ulps: 1 + 2 * SPLIT };
  await check('convolution', conv2d(x.tensor, w.tensor, null, options), expected, accuracy);
});

test('activations in f16 as they are, with a batch axis', async () => {
  const draw = sampler(5);
  const [a, b] = [draw([3, 37, 8], w16), draw([3, 19, 8], w16)];
  const product = matmul(a.tensor, b.tensor, { transposed: true });
  await check('batch', product, reference.matmul(a, b, true), { terms: 8, ulps: 1 });
});

test('adapters of whole and of partly filled tiles, however small their factors are', async () => {
  const draw = sampler(6);
  const [x, w] = [draw([37, 28]), draw([67, 28], w16)];
  for (const rank of [4, 36]) {
    // A half keeps no more than three of such a number's digits.
    const [t, up] = [draw([37, rank], { std: 0.1 }), draw([67, rank], { std: 1e-4 })];
    const layer = linear(x.tensor, w.tensor) as LayerTensor;
    const expected = reference.add(reference.linear(x, w, null), reference.linear(t, up, null));
    await check(`rank ${rank}`, withLowRank(layer, t.tensor, up.tensor), expected, { terms: 28 + rank, ulps: 1 + 2 * SPLIT });
    const none = sampleOf(new Float64Array(37 * 28), [37, 28]);
    const alone = withLowRank(linear(none.tensor, w.tensor) as LayerTensor, t.tensor, up.tensor);
    await check(`rank ${rank} alone`, alone, reference.linear(t, up, null), { terms: rank, ulps: 1 + 2 * SPLIT });
  }
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
  assert.equal([...(await evaluate(await emulated(HALVES), linear(large.tensor, ones.tensor)))], [1.5, 65519], 'large ones cancel exactly');
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

test('what is read one by one and products of activations in f32 are left to the tiled schedule; Winograd multiplies here', () => {
  const draw = sampler(4);
  const winograd = conv2d(draw([1, 64, 64, 160]).tensor, draw([160, 3, 3, 160], w16).tensor, null, { padding: 1 });
  assert.is(names(winograd, HALVES).filter((name) => name.includes('matrix')).length, 1);
  for (const graph of [
    linear(draw([5, 7]).tensor, draw([6, 7], w16).tensor),
    matmul(draw([2, 5, 8]).tensor, draw([2, 6, 8]).tensor, { transposed: true }),
  ]) {
    assert.not(names(graph, HALVES).some((name) => name.includes('matrix')));
  }
});

const ALL = ['shader-f16', 'subgroups', 'subgroup-size-control', MATRIX_FEATURE];
const config = (componentType: string, resultComponentType: string, M: number, N: number, K: number) => ({
  ...{ componentType, resultComponentType, M, N, K },
});
const adapterOf = (features: string[], subgroupMatrixConfigs?: object[], [subgroupMinSize, subgroupMaxSize] = [32, 32], info = {}) =>
  ({
    features: new Set(features),
    info: { subgroupMatrixConfigs, subgroupMinSize, subgroupMaxSize, ...info },
    limits: {},
  }) as unknown as GPUAdapter;

test('every product that an adapter lists with sums in f32 is tried, in each size of its subgroups', () => {
  const listed = [
    config('f16', 'f16', 16, 16, 16),
    config('f16', 'f32', 16, 16, 16),
    config('u8', 'u32', 16, 16, 32),
    config('f32', 'f32', 8, 8, 8),
  ];
  assert.equal(matrixUnits(adapterOf(ALL, listed)), [HALVES, SINGLES]);
  assert.equal(matrixUnits(adapterOf(ALL.slice(1), listed)), [SINGLES]);
  const intel = matrixUnits(adapterOf(ALL, [config('f16', 'f32', 8, 16, 16)], [16, 32]));
  assert.equal(intel, [{ ...FLAT, lanes: 32 }, FLAT]);
  assert.equal(matrixUnits(adapterOf(ALL, [config('f16', 'f32', 16, 16, 16)], [64, 64])), [{ ...HALVES, lanes: 64 }]);
  assert.equal(matrixUnits(adapterOf(ALL.slice(0, 3), listed)), []);
});

test('the schedule is refused where the adapter lacks what it needs, by what is true of it', async () => {
  const halves = [config('f16', 'f32', 16, 16, 16)];
  const nvidia = { vendor: 'nvidia', description: 'NVIDIA: 610.10' };
  for (const [adapter, why] of [
    [adapterOf(ALL.slice(0, 2), halves), /does not offer chromium-experimental-subgroup-matrix/],
    [adapterOf(ALL, [config('f16', 'f16', 16, 16, 16)]), /sums in f32 .*f16 to f16 at 16 x 16 x 16; subgroups of 32 to 32/],
    [adapterOf(ALL), /it lists none/],
    [adapterOf(ALL.slice(1), halves), /does not offer shader-f16\./],
    [adapterOf(ALL.slice(1), halves, [32, 32], nvidia), /withholds it on NVIDIA's drivers before 615\.71, and this one is NVIDIA: 610\.10/],
  ] as const) {
    const gpu = { requestAdapter: async () => adapter } as unknown as GPU;
    const error = await refusal(openDevice({ gpu, schedule: 'matrix' }));
    assert.instance(error, DeviceError);
    assert.match(error.message, why);
  }
  const tried = async () => ({ unit: null, quicker: false, why: 'f16 16x16x16 of 32: wrong' });
  const gpu = { requestAdapter: async () => adapterOf(ALL, halves) } as unknown as GPU;
  assert.match((await refusal(openDevice({ gpu, schedule: 'matrix', chooseMatrixUnit: tried }))).message, /16x16x16 of 32: wrong/);
});

/** Forgets what is left of a number behind its first half. */
class CoarseDevice extends Device {
  override pipeline(spec: ShaderSpec): Promise<GPUComputePipeline> {
    return super.pipeline({ ...spec, code: spec.code.replaceAll('four(rest * 2048.0)', 'four(rest * 0.0)') });
  }
}

test('a unit is used where it computes right and is quicker; what does not is told, and so is what crashes', async () => {
  const first = await testDevice();
  const opened = async (unit: MatrixUnit | null) => {
    if (unit?.lanes === 16) throw new DeviceError('The kernel does not compile.');
    if (unit?.m === 8) {
      const { gpu, facts, settle } = await emulated(HALVES);
      return new CoarseDevice(gpu, facts, settle);
    }
    return unit ? emulated(unit) : first;
  };
  const open = async (unit: MatrixUnit | null) => Object.assign(Object.create(await opened(unit)), { close: () => {} }) as Device;
  const listed = [config('f16', 'f32', 16, 16, 16), config('f16', 'f32', 8, 16, 16)];
  const work = { tokens: 8, channels: 64 };
  const choice = await tryUnits(adapterOf(ALL, listed, [16, 32]), open, work);
  assert.equal(choice.unit, HALVES);
  // The emulation is slower than what it is measured against.
  assert.is(choice.quicker, false);
  assert.match(
    choice.why,
    /^f16 16x16x16 of 32: 0\.\d+ times as quick as without; f16 16x16x16 of 16: .*compile.*; f16 8x16x16 of 32: wrong; /,
  );
});

test('shaders with subgroup matrices compile', async () => {
  const device = (await testDevices()).find(({ facts }) => facts.schedule === 'matrix');
  if (!device) return skip(`no ${MATRIX_FEATURE}: not compiled here, and the tests above ran on emulated matrices`);
  const { gpu, settle } = device;
  for (const { name, wgsl } of allShaders().filter(({ name }) => name.includes(` matrix ${unitName(device.facts.matrixUnit!)}`))) {
    gpu.pushErrorScope('validation');
    gpu.createComputePipeline({ layout: 'auto', compute: { module: gpu.createShaderModule({ code: wgsl }) } });
    assert.is(await settle(gpu.popErrorScope()), null, name);
  }
});

test('emulated halves really are rounded: what a pair of halves cannot hold is gone', async () => {
  // 2^-10 + 2^-31 is a number of f32; as 64 (high + low / 2048) its last bit lies below the smallest half.
  const x = sampleOf(new Array(32).fill(2 ** -10 + 2 ** -31), [2, 16]);
  const w = sampleOf(new Array(64).fill(1), [4, 16], 'f16');
  const rounded = await evaluate(await emulated(HALVES), linear(x.tensor, w.tensor));
  assert.equal([...rounded], new Array(8).fill(2 ** -6));
});

test.run();
