/** Names of uniforms, operands and inputs: what is missing or misspelt does not compile, and where types cannot know it, planning says so. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { apply, type Op } from '../../core/op.ts';
import { shader, when } from '../../core/shader.ts';
import { input, scalar, type Tensor } from '../../core/tensor.ts';
import { plan } from '../../kernels/fusion.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

const SHADER = shader({
  name: 'scaled',
  bindings: { x: { dtype: 'f32', width: 1 }, y: { dtype: 'f32', width: 1, write: true } },
  params: { count: 'u32', scale: 'f32' },
  workgroup: 64,
  code: 'fn run(id: u32, group: u32, local: u32) { if (id < p.count) { y_store(id, p.scale * x_load(id)); } }',
});

const variant = (biased: boolean) =>
  shader({ ...SHADER, bindings: { ...SHADER.bindings, ...when(biased, { bias: { dtype: 'f32', width: 1 } }) } });

/** An operation that is lowered by `lower`. */
const op = (lower: NonNullable<Op<null, { x: Tensor }>['lower']>): Op<null, { x: Tensor }> => ({
  name: 'test',
  infer: ({ x }) => ({ shape: x.shape, dtype: 'f32' }),
  lower,
});

const planned = (lower: NonNullable<Op<null, { x: Tensor }>['lower']>) => () =>
  plan({ y: apply(op(lower), { x: input('x', [3]) }, null) }, FACTS, LIMITS);

test('a dispatch is planned in the order of the declaration, however it is written', () => {
  const { dispatches } = planned(({ x }, y, _, to) =>
    to.dispatch({ shader: SHADER, operands: { y, x }, params: { scale: scalar('s'), count: 3 }, threads: 3 }),
  )();
  assert.equal(
    dispatches[0].operands.map(({ label }) => label),
    ['x (3)', 'test (3)'],
  );
  assert.is(dispatches[0].params[0], 3);
});

test('missing, misspelt and exchanged names are refused', () => {
  const missing = planned(({ x }, y, _, to) => {
    // @ts-expect-error scale is missing
    to.dispatch({ shader: SHADER, operands: { x, y }, params: { count: 3 }, threads: 3 });
  });
  assert.throws(missing, /nothing is given for scale/);
  const misspelt = planned(({ x }, y, _, to) => {
    // @ts-expect-error no shader declares sclae
    to.dispatch({ shader: SHADER, operands: { x, y }, params: { count: 3, scale: 1, sclae: 2 }, threads: 3 });
  });
  assert.throws(misspelt, /declares no sclae/);
  const unbound = planned(({ x }, _y, _, to) => {
    // @ts-expect-error y is missing
    to.dispatch({ shader: SHADER, operands: { x }, params: { count: 3, scale: 1 }, threads: 3 });
  });
  assert.throws(unbound, /nothing is given for y/);
  const exchanged = planned(({ x }, y, _, to) => {
    // @ts-expect-error a scalar of the program is no u32
    to.dispatch({ shader: SHADER, operands: { x, y }, params: { count: scalar('s'), scale: 3 }, threads: 3 });
  });
  assert.type(exchanged, 'function');
  const nothing = op(() => undefined);
  // @ts-expect-error the input x is missing
  assert.throws(() => apply(nothing, {}, null));
});

test('what only a variant declares may be null, and is missed where it is declared', () => {
  const dispatch = (biased: boolean, given: boolean) =>
    planned(({ x }, y, _, to) =>
      to.dispatch({ shader: variant(biased), operands: { x, y, bias: given ? x : null }, params: { count: 3, scale: 1 }, threads: 3 }),
    );
  assert.is(dispatch(true, true)().dispatches[0].operands.length, 3);
  assert.is(dispatch(false, false)().dispatches[0].operands.length, 2);
  assert.throws(dispatch(true, false), /nothing is given for bias/);
  assert.throws(dispatch(false, true), /no bias/);
});

test.run();
