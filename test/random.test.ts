import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../core/random.ts';
import { checkGolden, goldenCases } from './support/golden.ts';

for (const c of await goldenCases('rng')) {
  test(`golden ${c.id}`, async () => {
    const { seed, draws } = c.config as { seed: number; draws: { kind: string; shape?: number[] }[] };
    const outputs = Object.keys(c.outputs);
    let random = new TorchRandom(seed);
    let compared = 0;
    for (const { kind, shape = [] } of draws) {
      const n = shape.reduce((a, b) => a * b, 1);
      if (kind === 'reseed') random = new TorchRandom(BigInt(seed));
      else if (kind === 'uint32')
        await checkGolden(
          c,
          outputs[compared++],
          Array.from({ length: n }, () => random.uint32()),
        );
      else if (kind === 'rand') await checkGolden(c, outputs[compared++], random.rand(n));
      else await checkGolden(c, outputs[compared++], random.randn(n));
    }
    assert.is(compared, outputs.length);
  });
}

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
