/** Weights in blocks of 8 and 4 bits, read inside the kernels: results and derivatives against f64 loops over the values that the records stand for. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlockDType } from '../../core/blocks.ts';
import type { Tensor } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import { add } from '../../kernels/binary.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { slice } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { gradient } from '../../kernels/gradient.ts';
import { linear } from '../../kernels/linear.ts';
import { type LayerTensor, lowRankDown, withLowRank } from '../../kernels/low-rank.ts';
import { gelu, silu } from '../../kernels/unary.ts';
import { type Accuracy, assertClose } from '../../verify/accuracy.ts';
import { blockWeight } from '../../verify/block-weight.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampler, type Values } from '../../verify/sample.ts';
import { testDevices } from '../support/device.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

const BOTH: BlockDType[] = ['q8', 'q4'];

/** As support/check.ts, with the weight loaded again on each device. */
async function check(what: string, weight: Sample, y: Tensor, expected: Values, accuracy: Accuracy): Promise<void> {
  assert.equal([...y.shape], [...expected.shape], `${what}: shape`);
  const { source } = weight.tensor;
  if (source.kind !== 'parameter') throw new Error('no weight');
  for (const device of await testDevices()) {
    try {
      assertClose(`${what}, ${device.facts.schedule}`, await evaluate(device, y), expected, accuracy);
    } finally {
      device.residency.release(source.parameter);
    }
  }
}

test('linear: odd numbers of rows, rows of an odd number of blocks', async () => {
  const draw = sampler(1);
  for (const dtype of BOTH) {
    for (const [rows, inner, out] of [
      [37, 96, 160],
      [5, 32, 32],
      [131, 320, 64],
    ]) {
      const [x, bias] = [draw([rows, inner]), draw([out])];
      const w = blockWeight(draw([out, inner], { std: 0.1 }), dtype);
      const name = `linear ${dtype}, ${rows} ${inner} to ${out}`;
      await check(name, w, linear(x.tensor, w.tensor, bias.tensor), reference.linear(x, w, bias), { terms: inner });
    }
  }
});

test('linear: f16 tokens, a long sum, bias, activation and residual', async () => {
  const draw = sampler(2);
  for (const dtype of BOTH) {
    const [x, bias] = [draw([13, 2080], { dtype: 'f16' }), draw([96])];
    const w = blockWeight(draw([96, 2080], { std: 0.03 }), dtype);
    const plain = reference.linear(x, w, bias);
    const residual = draw(plain.shape);
    const expected = reference.add(reference.map(plain, reference.gelu), residual);
    const y = add(gelu(linear(x.tensor, w.tensor, bias.tensor)), residual.tensor);
    await check(`linear ${dtype} + gelu + residual`, w, y, expected, { terms: 2080, ulps: 12 });
    await check(`linear ${dtype} + geglu`, w, geglu(linear(x.tensor, w.tensor, bias.tensor)), reference.geglu(plain), {
      terms: 4160,
      ulps: 12,
    });
  }
});

test('conv2d: windows, strides and paddings', async () => {
  const draw = sampler(3);
  for (const dtype of BOTH) {
    for (const [shape, [o, kh, kw], options] of [
      [[2, 5, 7, 96], [64, 3, 3], { padding: 1 }],
      [[1, 6, 9, 32], [96, 3, 2], { padding: [0, 1, 0, 1] as [number, number, number, number], stride: 2 }],
      [[3, 5, 7, 160], [32, 1, 1], {}],
      [[1, 5, 7, 64], [5, 3, 3], { padding: 1 }],
    ] as const) {
      const [x, bias] = [draw(shape), draw([o])];
      const w = blockWeight(draw([o, kh, kw, shape[3]], { std: 0.1 }), dtype);
      const padding = 'padding' in options ? options.padding : 0;
      const expected = reference.conv2d(x, w, bias, {
        ...options,
        padding: typeof padding === 'number' ? Array(4).fill(padding) : padding,
      });
      const name = `conv2d ${dtype}, ${shape} by ${[o, kh, kw]}`;
      await check(name, w, conv2d(x.tensor, w.tensor, bias.tensor, options), expected, { terms: kh * kw * shape[3] });
    }
  }
});

test("conv2d by Winograd transforms the values of the blocks' windows", async () => {
  const draw = sampler(4);
  for (const dtype of BOTH) {
    const x = draw([2, 21, 27, 64]);
    const w = blockWeight(draw([96, 3, 3, 64], { std: 0.2 }), dtype);
    const convolution = conv2d(x.tensor, w.tensor, null, { padding: 1 });
    const kernels = plan({ convolution }, FACTS, LIMITS).dispatches.map(({ shader }) => shader.name);
    assert.ok(kernels.includes(`winograd windows ${dtype}`));
    const expected = reference.map(reference.conv2d(x, w, null, { padding: [1, 1, 1, 1] }), reference.silu);
    await check(`conv2d by Winograd ${dtype}`, w, silu(convolution), expected, { terms: 576, ulps: 18 });
  }
});

test('derivatives by the input pass through the weight', async () => {
  const draw = sampler(5);
  for (const dtype of BOTH) {
    const [x, g] = [draw([7, 96]), draw([7, 64])];
    const w = blockWeight(draw([64, 96], { std: 0.1 }), dtype);
    const [dx] = gradient(linear(x.tensor, w.tensor), [x.tensor], { upstream: g.tensor });
    const expected = reference.build([7, 96], ([row, i]) => {
      let sum = 0;
      for (let o = 0; o < 64; o++) sum += g.data[row * 64 + o] * w.data[o * 96 + i];
      return sum;
    });
    await check(`gradient of linear ${dtype}`, w, dx, expected, { terms: 64 });

    const [image, up] = [draw([2, 5, 7, 96]), draw([2, 3, 4, 32])];
    const window = blockWeight(draw([32, 3, 3, 96], { std: 0.1 }), dtype);
    const y = conv2d(image.tensor, window.tensor, null, { padding: 1, stride: 2 });
    const [dimage] = gradient(y, [image.tensor], { upstream: up.tensor });
    const back = reference.build([2, 5, 7, 96], ([n, py, px, c]) => {
      let sum = 0;
      for (let ky = 0; ky < 3; ky++) {
        for (let kx = 0; kx < 3; kx++) {
          const [oy, ox] = [(py + 1 - ky) / 2, (px + 1 - kx) / 2];
          if (!Number.isInteger(oy) || !Number.isInteger(ox) || oy < 0 || ox < 0 || oy >= 3 || ox >= 4) continue;
          for (let o = 0; o < 32; o++) sum += reference.at(up, [n, oy, ox, o]) * reference.at(window, [o, ky, kx, c]);
        }
      }
      return sum;
    });
    await check(`gradient of conv2d ${dtype}`, window, dimage, back, { terms: 9 * 32 });
  }
});

test('adapters on a weight in blocks: the result, and derivatives by both factors and the input', async () => {
  const draw = sampler(7);
  for (const dtype of BOTH) {
    const [x, down, up, g] = [draw([5, 96]), draw([8, 96], { std: 0.2 }), draw([64, 8], { std: 0.2 }), draw([5, 64])];
    const w = blockWeight(draw([64, 96], { std: 0.1 }), dtype);
    const layer = linear(x.tensor, w.tensor) as LayerTensor;
    const y = withLowRank(layer, lowRankDown(layer, x.tensor, down.tensor, null), up.tensor);
    const both = (a: Values) => reference.linear(reference.linear(a, down, null), up, null);
    await check(`adapter on ${dtype}`, w, y, reference.add(reference.linear(x, w, null), both(x)), { terms: 104 });
    const [dx, ddown, dup] = gradient(y, [x.tensor, down.tensor, up.tensor], { upstream: g.tensor });
    const product = (rows: number, columns: number, inner: number, term: (r: number, c: number, k: number) => number) =>
      reference.build([rows, columns], ([r, c]) => Array.from({ length: inner }, (_, k) => term(r, c, k)).reduce((a, b) => a + b));
    const t = reference.linear(x, down, null);
    const dt = product(5, 8, 64, (r, c, k) => reference.at(g, [r, k]) * reference.at(up, [k, c]));
    await check(
      `adapter on ${dtype}, d up`,
      w,
      dup,
      product(64, 8, 5, (r, c, k) => reference.at(g, [k, r]) * reference.at(t, [k, c])),
      { terms: 101 },
    );
    await check(
      `adapter on ${dtype}, d down`,
      w,
      ddown,
      product(8, 96, 5, (r, c, k) => reference.at(dt, [k, r]) * reference.at(x, [k, c])),
      { terms: 69 },
    );
    const through = product(5, 96, 64, (r, c, k) => reference.at(g, [r, k]) * reference.at(w, [k, c]));
    const beside = product(5, 96, 8, (r, c, k) => reference.at(dt, [r, k]) * reference.at(down, [k, c]));
    await check(`adapter on ${dtype}, d x`, w, dx, reference.add(through, beside), { terms: 136 });
  }
});

test('any kernel reads a weight in blocks element by element', async () => {
  const draw = sampler(6);
  for (const dtype of BOTH) {
    const w = blockWeight(draw([32, 96]), dtype);
    const expected = reference.build([32, 41], ([row, i]) => reference.at(w, [row, i + 7]));
    await check(`slice ${dtype}`, w, slice(w.tensor, 1, 7, 48), expected, { terms: 0, ulps: 0 });
  }
});

test('adapters over weights in blocks', async () => {
  const draw = sampler(9);
  for (const dtype of BOTH) {
    const [x, down, up] = [draw([1, 37, 96]), draw([8, 96]), draw([64, 8])];
    const w = blockWeight(draw([64, 96], { std: 0.1 }), dtype);
    const layer = linear(x.tensor, w.tensor) as LayerTensor;
    const y = withLowRank(layer, lowRankDown(layer, x.tensor, down.tensor, null), up.tensor);
    const expected = reference.add(reference.linear(x, w, null), reference.linear(reference.linear(x, down, null), up, null));
    await check(`linear ${dtype} with adapters`, w, y, expected, { terms: 200, ulps: 8 });
  }
});

test.run();
