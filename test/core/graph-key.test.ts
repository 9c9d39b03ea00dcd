import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { graphKey } from '../../core/graph-key.ts';
import { Parameter, scalar } from '../../core/tensor.ts';
import { add, affine, concat, constant, input, linear, mul, silu, type Tensor } from '../../index.ts';
import { plan } from '../../kernels/fusion.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

const weight = new Parameter([4, 4], 'matrix');
const bias = Float32Array.of(1, 2, 3, 4);

interface Choice {
  rows: number;
  name: string;
  factor: number;
  data: Float32Array;
  sum: typeof add;
  by: Parameter;
}

const USUAL: Choice = { rows: 3, name: 'x', factor: 2, data: bias, sum: add, by: weight };

function graph(change: Partial<Choice> = {}): { y: Tensor } {
  const { rows, name, factor, data, sum, by } = { ...USUAL, ...change };
  const x = input(name, [rows, 4]);
  return { y: sum(affine(linear(x, by.tensor), factor, 0), constant(data, [4])) };
}

test('graphs that are traced alike have one key, and one plan', () => {
  assert.is(graphKey(graph()), graphKey(graph()));
  const [one, other] = [plan(graph(), FACTS, LIMITS), plan(graph(), FACTS, LIMITS)];
  assert.ok(one === other);
  assert.not(plan(graph(), FACTS, LIMITS) === plan(graph(), FACTS, LIMITS, { kept: ['y'] }));
  assert.not(plan(graph(), FACTS, LIMITS) === plan(graph(), { ...FACTS }, LIMITS));
  assert.not(plan(graph(), FACTS, LIMITS) === plan(graph(), FACTS, { ...LIMITS, minUniformBufferOffsetAlignment: 512 }));
});

test('whatever a plan depends on changes the key', () => {
  const changes: Partial<Choice>[] = [
    { rows: 5 },
    { name: 'z' },
    { factor: 3 },
    { factor: Number.NaN },
    { factor: Number.POSITIVE_INFINITY },
    { data: bias.slice() },
    { sum: mul },
    { by: new Parameter([4, 4], 'matrix') },
  ];
  const keys = [{}, ...changes].map((change) => graphKey(graph(change)));
  assert.is(new Set(keys).size, keys.length);
  const [x, z] = [input('x', [2, 4]), input('z', [2, 4])];
  assert.not(graphKey({ y: concat([x, z], 0) }) === graphKey({ y: concat([z, x], 0) }));
  assert.not(graphKey({ y: x }) === graphKey({ y: input('x', [2, 4], 'f32', 'seldom') }));
  assert.not(graphKey({ y: affine(x, scalar('a'), 0) }) === graphKey({ y: affine(x, scalar('b'), 0) }));
  const y = silu(x);
  assert.not(graphKey({ y }) === graphKey({ z: y }));
});

test('a weight that is stored otherwise, or trained from now on, is planned again', () => {
  const parameter = new Parameter([4, 4], 'matrix');
  const key = () => graphKey(graph({ by: parameter }));
  const first = key();
  parameter.changes = 'every run';
  const trained = key();
  parameter.dtype = 'f32';
  assert.is(new Set([first, trained, key()]).size, 3);
});

test.run();
