/** What a dispatch has computed is not computed again by the next ones, and what is no repeat stays. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type PlannedDispatch, read, type Storage, written } from '../../core/dispatch.ts';
import { withoutRepeats } from '../../core/repeats.ts';
import { shader } from '../../core/shader.ts';
import { constant, input } from '../../core/tensor.ts';
import { add } from '../../kernels/binary.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { plan } from '../../kernels/fusion.ts';
import { exp } from '../../kernels/unary.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

const doubling = shader({
  name: 'double',
  bindings: { x: { dtype: 'f32', width: 1 }, y: { dtype: 'f32', width: 1, write: true } },
  params: { times: 'f32' },
  workgroup: 64,
  code: '',
});
const storage = (): Storage => ({ kind: 'pooled', bytes: 64, slot: -1 });
const value = (of: Storage, begins?: number) => ({ shape: [16], dtype: 'f32' as const, label: '', storage: of, begins });
const dispatch = (x: Storage, y: Storage, times = 1, begins?: number): PlannedDispatch => ({
  ...{ shader: doubling, operands: [value(x, begins), value(y)], params: [times], threads: 16 },
  ...{ label: '', module: null, flops: 0, bytes: 0 },
});

test('a repeat is left out, what reads it reads the first result, and so does a repeat of that', () => {
  const [x, a, b, c, d] = [storage(), storage(), storage(), storage(), storage()];
  const kept = withoutRepeats([dispatch(x, a), dispatch(x, b), dispatch(a, c), dispatch(b, d)], new Set());
  assert.equal(kept.map(written), [[a], [c]]);
  assert.ok(read(kept[1])[0] === a);
});

test('no repeat: other numbers, another place, what lasts, what is written twice, what was written between, what lies far behind', () => {
  const [x, a, b, between] = [storage(), storage(), storage(), storage()];
  const all = (dispatches: PlannedDispatch[], lasting: Storage[] = []) =>
    assert.equal(withoutRepeats(dispatches, new Set(lasting)), dispatches);
  all([dispatch(x, a), dispatch(x, b, 2)]);
  all([dispatch(x, a), dispatch(x, b, 1, 256)]);
  all([dispatch(x, a), dispatch(x, b)], [b]);
  all([dispatch(x, a), dispatch(x, b)], [a]);
  all([dispatch(x, a), dispatch(x, b), dispatch(x, b, 2)]);
  all([dispatch(x, a), dispatch(between, x), dispatch(x, b)]);
  all([dispatch(x, a), ...Array.from({ length: 8 }, (_, i) => dispatch(a, storage(), 3 + i)), dispatch(x, b)]);
});

test('two convolutions of one map share its transformed pixels', () => {
  const x = input('x', [1, 64, 64, 64]);
  const convolved = () => conv2d(x, constant(new Float32Array(64 * 9 * 64), [64, 3, 3, 64]), null, { padding: 1 });
  const names = plan({ y: add(exp(convolved()), exp(convolved())) }, FACTS, LIMITS).dispatches.map(({ shader }) => shader.name);
  assert.is(names.filter((name) => name.startsWith('winograd pixels')).length, 1);
  assert.is(names.filter((name) => name.startsWith('winograd results')).length, 2);
});

test.run();
