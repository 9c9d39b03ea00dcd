/** attention: self, cross and causal; heads narrow, wide and odd; extreme scores. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { input, type Tensor } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import { attention } from '../../kernels/attention.ts';
import * as reference from '../../verify/reference.ts';
import { sampleOf, sampler } from '../../verify/sample.ts';
import { check } from '../support/check.ts';
import { testDevice } from '../support/device.ts';

interface Case {
  queries: number[];
  keys: number[];
  heads: number;
  width: number;
  causal?: boolean;
}

// A score is summed from `width` terms, a result from `keys`; exp is accurate to 3 + 2 |x| ulps, |x| up to 6 here.
const accuracy = (width: number, keys: number) => ({ terms: width + keys, ulps: 24 });

const CASES: Case[] = [
  { queries: [2, 5, 7], keys: [2, 5, 7], heads: 3, width: 64 },
  { queries: [1, 67], keys: [1, 77], heads: 2, width: 64 },
  { queries: [1, 77], keys: [1, 77], heads: 2, width: 64, causal: true },
  { queries: [2, 3], keys: [2, 1], heads: 2, width: 64 },
  { queries: [2, 13], keys: [2, 6], heads: 3, width: 8 },
  { queries: [2, 9], keys: [2, 9], heads: 3, width: 8, causal: true },
  { queries: [2, 11], keys: [2, 7], heads: 3, width: 5 },
  { queries: [1, 65], keys: [1, 131], heads: 1, width: 92 },
  { queries: [2, 3], keys: [2, 5], heads: 2, width: 100 },
  { queries: [1, 71], keys: [1, 71], heads: 2, width: 100, causal: true },
  { queries: [2, 33], keys: [2, 67], heads: 2, width: 97 },
  { queries: [1, 37], keys: [1, 37], heads: 2, width: 148, causal: true },
  { queries: [1, 5, 7], keys: [1, 133], heads: 1, width: 512 },
  { queries: [1, 3], keys: [1, 6], heads: 2, width: 1028 },
  // More scores than one block of queries has.
  { queries: [3, 75], keys: [3, 4699], heads: 1, width: 96 },
];

test('attention against the plain formula', async () => {
  const draw = sampler(1);
  for (const { queries, keys, heads, width, causal = false } of CASES) {
    const channels = heads * width;
    const [q, k, v] = [draw([...queries, channels]), draw([...keys, channels]), draw([...keys, channels])];
    const expected = reference.attention(q, k, v, heads, causal);
    const name = `attention, ${queries} on ${keys}, ${heads} heads of ${width}${causal ? ', causal' : ''}`;
    await check(name, attention(q.tensor, k.tensor, v.tensor, heads, { causal }), expected, accuracy(width, k.data.length / channels));
  }
});

test('attention of f16 operands', async () => {
  const draw = sampler(2);
  for (const [width, queryType] of [
    [64, 'f32'],
    [100, 'f16'],
    [5, 'f16'],
  ] as const) {
    const shape = [2, 7, 2 * width];
    const [q, k, v] = [draw(shape, { dtype: queryType }), draw(shape, { dtype: 'f16' }), draw(shape, { dtype: 'f16' })];
    const expected = reference.attention(q, k, v, 2, false);
    await check(`attention, f16 ${width}`, attention(q.tensor, k.tensor, v.tensor, 2), expected, accuracy(width, 7));
  }
});

test('attention with scores of hundreds: one key wins, nothing overflows', async () => {
  const draw = sampler(3);
  for (const [heads, width] of [
    [2, 64],
    [1, 100],
  ]) {
    const shape = [1, 33, heads * width];
    const [q, k, v] = [draw(shape, { std: 80 }), draw(shape), draw(shape)];
    const expected = reference.attention(q, k, v, heads, false);
    // A score of 300 is itself wrong by 300 u sqrt(width), and so is the logarithm of its weight.
    await check(`attention of extremes, ${width}`, attention(q.tensor, k.tensor, v.tensor, heads), expected, {
      terms: 300 * width,
      ulps: 600,
    });
  }
});

test('attention with all scores at -80 or at 80 averages the values', async () => {
  const draw = sampler(4);
  const v = draw([1, 21, 64]);
  const mean = reference.build([1, 5, 64], ([, , c]) => reference.rows(v, (row) => [row[c]]).data.reduce((a, b) => a + b, 0) / 21);
  for (const sign of [-1, 1]) {
    const q = draw([1, 5, 64], { mean: 8, std: 0 });
    const k = draw([1, 21, 64], { mean: sign * 1.25, std: 0 });
    await check('attention of equal scores', attention(q.tensor, k.tensor, v.tensor, 1), mean, { terms: 21, ulps: 4 });
  }
});

test('a causal query ignores later keys altogether', async () => {
  const draw = sampler(5);
  const [q, k, v] = [draw([1, 9, 8]), draw([1, 9, 8]), draw([1, 9, 8])];
  const changed = (x: typeof k) => ({ ...x, data: x.data.map((value, i) => (i < 5 * 8 ? value : value + 100)) });
  const device = await testDevice();
  const before = await evaluate(device, attention(q.tensor, k.tensor, v.tensor, 1, { causal: true }));
  const [k2, v2] = [sampleOf(changed(k).data, k.shape), sampleOf(changed(v).data, v.shape)];
  const after = await evaluate(device, attention(q.tensor, k2.tensor, v2.tensor, 1, { causal: true }));
  assert.equal(after.slice(0, 40), before.slice(0, 40));
  assert.not.equal(after.slice(40), before.slice(40));
});

test('shapes that do not fit are refused', () => {
  const refused = (make: () => Tensor, ...words: string[]) =>
    assert.throws(make, (error: Error) => error instanceof ShapeError && words.every((word) => error.message.includes(word)));
  const q = input('q', [2, 9, 12]);
  refused(() => attention(q, q, q, 5), 'attention', '5 heads', 'q (2, 9, 12)');
  refused(() => attention(q, input('k', [2, 9, 8]), q, 2), 'attention', 'k (2, 9, 8)');
  refused(() => attention(q, input('k', [1, 9, 12]), q, 2), 'attention', 'k (1, 9, 12)');
  refused(() => attention(q, input('k', [2, 8, 12]), q, 2), 'attention', 'k (2, 8, 12)', 'tokens');
  const k = input('k', [2, 8, 12]);
  refused(() => attention(q, k, k, 2, { causal: true }), 'attention', 'causal');
});

test.run();
