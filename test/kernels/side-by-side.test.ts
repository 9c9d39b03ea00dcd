/** Linear layers of the same x as one: against sums in f64, and which layers are left alone. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { input, type Tensor } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { add, mul } from '../../kernels/binary.ts';
import { plan } from '../../kernels/fusion.ts';
import { linear } from '../../kernels/linear.ts';
import { part } from '../../kernels/part.ts';
import { silu } from '../../kernels/unary.ts';
import { assertClose } from '../../verify/accuracy.ts';
import * as reference from '../../verify/reference.ts';
import { sampler } from '../../verify/sample.ts';
import { testDevice } from '../support/device.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

const ON_PROCESSORS = { ...FACTS, schedule: 'subgroup', subgroupSizes: [8, 8] as [number, number] } as const;
const draw = sampler(7);
const [rows, ins] = [37, 20];
const x = input('x', [1, rows, ins]);
/** What changes seldom, so that the graph is one of a program that runs again and again. */
const text = input('text', [1], 'f32', 'seldom');
const factor = input('factor', [1]);
const weights = (outs: number, dtype: 'f16' | 'f32' = 'f16') => draw([outs, ins], { dtype });

test('layers of one x, with bias and without, whose results begin between loads of four and not', async () => {
  for (const [outs, layers, biased] of [
    [12, 3, false],
    [44, 2, true],
  ] as const) {
    const all = Array.from({ length: layers }, () => ({ w: weights(outs), bias: biased ? draw([outs]) : null }));
    const results = Object.fromEntries(all.map(({ w, bias }, i) => [`${i}`, mul(linear(x, w.tensor, bias?.tensor ?? null), text)]));
    const values = draw([1, rows, ins]);
    const device = await testDevice();
    const program = await compile(device, results);
    const given = await device.settle(program.run({ x: Float32Array.from(values.data), text: Float32Array.of(1) }));
    for (const [i, { w, bias }] of all.entries())
      assertClose(`layers side by side, ${layers} of ${outs} columns, ${i}`, given[i], reference.linear(values, w, bias), {
        terms: ins,
        ulps: 4,
      });
    program.dispose();
  }
});

/** How many dispatches multiply matrices in every run. */
function matmuls(outputs: Record<string, Tensor>, facts: Parameters<typeof plan>[1] = ON_PROCESSORS): number {
  const { dispatches, once } = plan(outputs, facts, LIMITS);
  return dispatches.slice(once).filter(({ shader }) => shader.name.startsWith('matmul')).length;
}

test('layers are joined where they are alike, small and read what changes, and a program runs again and again on a CPU driver', () => {
  const [a, b] = [linear(x, weights(12).tensor), linear(x, weights(12).tensor)];
  const read = (...all: Tensor[]) => Object.fromEntries(all.map((tensor, i) => [`${i}`, mul(tensor, text)]));
  assert.is(matmuls(read(a, b)), 1);
  assert.is(matmuls(read(a, b), FACTS), 2, 'on a GPU');
  assert.is(matmuls({ a: silu(silu(a)), b: silu(silu(b)) }), 2, 'nothing changes seldom');
  assert.is(matmuls(read(a, linear(x, weights(16).tensor))), 2, 'of another width');
  assert.is(matmuls(read(a, linear(x, weights(12, 'f32').tensor, draw([12]).tensor))), 2, 'one has a bias');
  assert.is(matmuls(read(a, add(b, draw([1, rows, 12]).tensor))), 2, 'one ends in a sum');
  assert.is(matmuls(read(...[0, 1].map(() => linear(x, draw([8192, ins]).tensor)))), 2, 'large');
  const steady = mul(draw([1, rows, ins]).tensor, text);
  assert.is(
    matmuls({ a: mul(linear(steady, weights(12).tensor), factor), b: mul(linear(steady, weights(12).tensor), factor) }),
    0,
    'steady',
  );
});

test('so are layers whose weights change with every run and lie one after the other', async () => {
  const [outs, layers, size] = [16, 4, 16 * ins];
  const [w, values, g] = [draw([layers * outs, ins]), draw([1, rows, ins]), input('g', [layers * outs, ins])];
  const lying = add(w.tensor, g);
  const at = (i: number) => linear(x, part(lying, i * size, [outs, ins]));
  const results = { 0: mul(at(0), text), 1: mul(at(1), text), 3: mul(at(3), text) };
  assert.is(matmuls(results), 2, 'the second follows the first, and the last does not');
  const device = await testDevice();
  const program = await compile(device, results);
  const given = await device.settle(
    program.run({ x: Float32Array.from(values.data), text: Float32Array.of(1), g: new Float32Array(w.data.length) }),
  );
  for (const i of [0, 1, 3]) {
    const own = { shape: [outs, ins], data: w.data.slice(i * size, (i + 1) * size) };
    assertClose(`weights that lie together, ${i}`, given[i as 0], reference.linear(values, own, null), { terms: ins, ulps: 4 });
  }
  program.dispose();
});

test.run();
