/** Attention over keys in parts is attention over all of them, however they are divided and in whatever order they come. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { constant, input } from '../../core/tensor.ts';
import { attentionPart, attentionResult, emptyState, mergeAttention, stateShape } from '../../kernels/attention-parts.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampleOf, sampler } from '../../verify/sample.ts';
import { check } from '../support/check.ts';

/** Tokens from..to of every image. */
function tokens(x: Sample, from: number, to: number): Sample {
  const [n, , channels] = x.shape;
  const perImage = x.data.length / n;
  const part = Array.from({ length: n }, (_, i) => [...x.data.subarray(i * perImage + from * channels, i * perImage + to * channels)]);
  return sampleOf(part.flat(), [n, to - from, channels]);
}

const CASES = [
  { queries: [1, 67], keys: 77, heads: 2, width: 24, cuts: [0, 33, 34, 77] },
  { queries: [2, 5, 7], keys: 19, heads: 3, width: 8, cuts: [0, 4, 19] },
  { queries: [2, 11], keys: 9, heads: 3, width: 5, cuts: [0, 1, 9] },
  { queries: [1, 33], keys: 131, heads: 1, width: 96, cuts: [0, 64, 128, 131] },
  { queries: [1, 5, 7], keys: 45, heads: 1, width: 512, cuts: [0, 32, 45] },
  { queries: [1, 3], keys: 6, heads: 2, width: 1028, cuts: [0, 5, 6] },
];

test('parts of the keys together give attention over all keys', async () => {
  const draw = sampler(1);
  for (const { queries, keys, heads, width, cuts } of CASES) {
    const channels = heads * width;
    const shape = [queries[0], keys, channels];
    const [q, k, v] = [draw([...queries, channels]), draw(shape), draw(shape)];
    const parts = cuts.slice(1).map((to, i) => {
      const [part, values] = [tokens(k, cuts[i], to), tokens(v, cuts[i], to)];
      return attentionPart(q.tensor, part.tensor, values.tensor, heads);
    });
    const empty = constant(emptyState(q.shape, heads), stateShape(q.shape, heads));
    const state = parts.reduceRight((sum, part) => mergeAttention(sum, part, heads), empty);
    const name = `attention in parts, ${queries} on ${cuts}, ${heads} heads of ${width}`;
    await check(name, attentionResult(state, heads), reference.attention(q, k, v, heads, false), { terms: width + keys, ulps: 32 });
  }
});

test('parts whose scores are hundreds apart', async () => {
  const draw = sampler(2);
  for (const width of [64, 100]) {
    const shape = [1, 33, width];
    const [q, k, v] = [draw(shape, { std: 80 }), draw(shape), draw(shape)];
    const part = (from: number, to: number) => attentionPart(q.tensor, tokens(k, from, to).tensor, tokens(v, from, to).tensor, 1);
    const state = mergeAttention(part(0, 16), part(16, 33), 1);
    const expected = reference.attention(q, k, v, 1, false);
    // As for attention of extremes: a score of 300 is itself wrong by 300 u sqrt(width).
    await check(`attention in parts of extremes, ${width}`, attentionResult(state, 1), expected, { terms: 300 * width, ulps: 600 });
  }
});

test('states that do not belong together are refused', () => {
  assert.throws(
    () => mergeAttention(input('a', [1, 3, 12]), input('b', [1, 4, 12]), 1),
    (error: Error) => error instanceof ShapeError && error.message.includes('b (1, 4, 12)'),
  );
  assert.throws(() => mergeAttention(input('a', [1, 3, 4]), input('b', [1, 3, 4]), 1), /mergeAttention/);
});

test.run();
