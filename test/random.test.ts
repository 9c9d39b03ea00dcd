import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../core/random.ts';

test('a small draw keeps its second value, which a big draw leaves alone', () => {
  const a = new TorchRandom(7);
  const pair = new TorchRandom(7).randn(2);
  assert.is(a.randn(1)[0], pair[0]);
  a.randn(32);
  assert.is(a.randn(1)[0], pair[1]);
});

test('seeds count by their low 32 bits, of either sign', () => {
  assert.is(new TorchRandom(2 ** 32 + 3).uint32(), new TorchRandom(3).uint32());
  assert.is(new TorchRandom(-1).uint32(), new TorchRandom(0xffffffffn).uint32());
  assert.throws(() => new TorchRandom(1.5), /not a whole number/);
  assert.throws(() => new TorchRandom(Number.NaN), /not a whole number/);
});

test('the normals are normal', () => {
  const values = new TorchRandom(99).randn(1 << 16);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((a, b) => a + b * b, 0) / values.length - mean * mean;
  assert.ok(Math.abs(mean) < 0.02, `mean ${mean}`); // five standard errors
  assert.ok(Math.abs(variance - 1) < 0.03, `variance ${variance}`);
});

test.run();
