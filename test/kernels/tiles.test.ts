/** Both tiles of the schedules for GPUs, and sums along k in parts: against f64, and between tiles the same bits. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type TileSize, type TileSizes, USUAL_TILES } from '../../core/adapter.ts';
import type { Tensor } from '../../core/tensor.ts';
import type { Device } from '../../gpu/device.ts';
import { evaluate } from '../../gpu/program.ts';
import { attention } from '../../kernels/attention.ts';
import { add } from '../../kernels/binary.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { gradient } from '../../kernels/gradient.ts';
import { linear } from '../../kernels/linear.ts';
import { type LayerTensor, withLowRank } from '../../kernels/low-rank.ts';
import { partsAlong, TILES, tileSize } from '../../kernels/tile-choice.ts';
import { silu } from '../../kernels/unary.ts';
import { type Accuracy, assertClose } from '../../verify/accuracy.ts';
import * as reference from '../../verify/reference.ts';
import { sampler, type Values } from '../../verify/sample.ts';
import { testDevices } from '../support/device.ts';
import { FACTS } from '../support/facts.ts';

const of = (size: TileSize) => Object.fromEntries(Object.keys(USUAL_TILES).map((work) => [work, size])) as TileSizes;

/** The tests' tiled device, with its tiles of one size: pipelines of small ones are those of other tests. */
async function inTiles<T>(size: TileSize, work: (device: Device) => Promise<T>): Promise<T> {
  const device = (await testDevices()).find(({ facts }) => facts.schedule === 'tiled')!;
  device.facts.tiles = of(size);
  try {
    return await work(device);
  } finally {
    device.facts.tiles = undefined;
  }
}

const namesOf = (y: Tensor, { facts, gpu }: Device) => plan({ y }, facts, gpu.limits).dispatches.map(({ shader }) => shader.name);

/** Compares both tiles with the reference and with one another. */
async function check(what: string, y: Tensor, expected: Values, accuracy: Accuracy): Promise<void> {
  const results: Float32Array[] = [];
  for (const size of ['large', 'small'] as const) {
    const values = await inTiles(size, (device) => {
      const names = namesOf(y, device);
      assert.is(names.length, 1, `${what}: ${names}`);
      assert.is(/tiled small/.test(names[0]), size === 'small', `${what}: ${names[0]}`);
      return evaluate(device, y);
    });
    results.push(values);
    assertClose(`${what}, ${size} tiles`, values, expected, accuracy);
  }
  assert.equal(results[0], results[1], `${what}: the same bits`);
}

const w16 = { dtype: 'f16' } as const;

test('matmuls and convolutions over all edges of both tiles', async () => {
  const draw = sampler(1);
  for (const [rows, ins, outs] of [
    [131, 20, 76],
    [1, 12, 4],
    [70, 7, 5],
  ]) {
    const [x, w, bias] = [draw([rows, ins]), draw([outs, ins], w16), draw([outs])];
    await check(`linear ${[rows, ins, outs]}`, linear(x.tensor, w.tensor, bias.tensor), reference.linear(x, w, bias), { terms: ins });
  }
  const [x, w, bias] = [draw([2, 67, 28]), draw([88, 28], w16), draw([88])];
  const layer = linear(x.tensor, w.tensor, bias.tensor);
  await check('gated', geglu(layer), reference.geglu(reference.linear(x, w, bias)), { terms: 28, ulps: 12 });
  const [t, up] = [draw([2, 67, 8]), draw([88, 8])];
  const adapted = reference.add(reference.linear(x, w, bias), reference.linear(t, up, null));
  await check('adapted', withLowRank(layer as LayerTensor, t.tensor, up.tensor), adapted, { terms: 36 });
  const [image, window] = [draw([2, 9, 14, 12]), draw([20, 3, 2, 12], w16)];
  const padding: [number, number, number, number] = [1, 0, 0, 2];
  const convolved = reference.conv2d(image, window, null, { stride: 2, padding });
  await check('convolution', conv2d(image.tensor, window.tensor, null, { stride: 2, padding }), convolved, { terms: 72 });
});

test('derivatives by inputs, for which weights are read turned, over all edges of both tiles', async () => {
  const draw = sampler(6);
  for (const [rows, ins, outs] of [
    [131, 76, 20],
    [70, 5, 7],
  ]) {
    const [x, w, g] = [draw([rows, ins]), draw([outs, ins], w16), draw([rows, outs])];
    const [dx] = gradient(linear(x.tensor, w.tensor), [x.tensor], { upstream: g.tensor });
    await check(`linear ${[rows, ins, outs]}`, dx, reference.linear(g, reference.permute(w, [1, 0]), null), { terms: outs });
  }
  const [image, w, g] = [draw([2, 9, 14, 36]), draw([20, 3, 2, 36], w16), draw([2, 8, 14, 20])];
  const convolved = conv2d(image.tensor, w.tensor, null, { padding: [1, 0, 0, 1] });
  const [dx] = gradient(convolved, [image.tensor], { upstream: g.tensor });
  const window = reference.build([36, 3, 2, 20], ([c, y, x, o]) => reference.at(w, [o, 2 - y, 1 - x, c]));
  await check('convolution', dx, reference.conv2d(g, window, null, { padding: [1, 2, 1, 0] }), { terms: 120 });
});

test('attention over all edges of both tiles', async () => {
  const draw = sampler(2);
  for (const [width, queries, keys, causal] of [
    [20, 70, 45, false],
    [20, 37, 37, true],
  ] as const) {
    const [q, k, v] = [draw([2, queries, 2 * width]), draw([2, keys, 2 * width]), draw([2, keys, 2 * width])];
    const expected = reference.attention(q, k, v, 2, causal);
    const result = attention(q.tensor, k.tensor, v.tensor, 2, { causal });
    await check(`attention, heads of ${width}`, result, expected, { terms: keys + width, ulps: 32 });
  }
});

test('sums along k in parts: whatever they end in', async () => {
  const draw = sampler(3);
  const [x, w, bias, residual] = [draw([9, 1304]), draw([2900, 1304], w16), draw([2900]), draw([9, 2900])];
  assert.is(partsAlong(1304, { rows: 9, columns: 2900, batch: 1 }), 2);
  const plain = reference.linear(x, w, bias);
  const layer = linear(x.tensor, w.tensor, bias.tensor);
  const accuracy = { terms: 1304, ulps: 12 };
  const activated = reference.add(reference.map(plain, reference.silu), residual);
  const both = async (what: string, y: Tensor, expected: Values) => {
    const values = await inTiles('small', (device) => {
      const names = namesOf(y, device);
      assert.is(names.length, 2, `${what}: ${names}`);
      assert.match(names[1], /^sum of parts/);
      return evaluate(device, y);
    });
    assertClose(what, values, expected, accuracy);
  };
  await both('activation and residual', add(silu(layer), residual.tensor), activated);
  await both('gates', geglu(layer), reference.geglu(plain));
  const [t, up] = [draw([9, 8]), draw([2900, 8])];
  const adapted = reference.add(plain, reference.linear(t, up, null));
  await both('adapters', withLowRank(layer as LayerTensor, t.tensor, up.tensor), adapted);
  const [image, window, shift] = [draw([2, 8, 9, 116]), draw([2900, 3, 3, 116], w16), draw([2900])];
  const convolved = reference.conv2d(image, window, shift, { stride: 3, padding: [1, 1, 1, 1] });
  await both('a window', conv2d(image.tensor, window.tensor, shift.tensor, { stride: 3, padding: 1 }), convolved);
});

test('which tile and how many parts', () => {
  const large = { rows: 4096, columns: 640, batch: 1 };
  assert.is(tileSize(FACTS, large, 'Rows'), 'large');
  assert.is(tileSize({ ...FACTS, tiles: { ...USUAL_TILES, manyRows: 'small' } }, large, 'Rows'), 'small');
  assert.is(tileSize(FACTS, { ...large, rows: 512 }, 'Windows'), 'small', 'few workgroups');
  assert.is(tileSize(FACTS, { rows: 8, columns: 640, batch: 36 }, 'Rows'), 'small', 'few rows');
  assert.is(partsAlong(1280, large), 1);
  assert.is(partsAlong(5120, { rows: 128, columns: 1280, batch: 1 }), 4);
  assert.is(partsAlong(640, { rows: 128, columns: 1280, batch: 1 }), 1, 'a short sum');
  assert.is(partsAlong(1280, { rows: 2, columns: 1280, batch: 1 }), 1, 'too little to be worth it');
  assert.is(partsAlong(1e6, { rows: 64, columns: 64, batch: 1 }), 8);
  for (const { rows, columns } of Object.values(TILES)) assert.is(rows, 2 * columns);
});

test.run();
