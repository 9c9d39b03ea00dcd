/**
 * Attention of one wide head on adapters that compute a subgroup at a time (CPU drivers): as products of matrices, scores and all. A head that does
 * not fit the first-level cache leaves an online softmax nothing to reuse, and the matmul of these adapters is many times as quick.
 */
import type { AdapterFacts } from '../core/adapter.ts';
import type { Lowering, Operand } from '../core/op.ts';
import { sizeOf } from '../core/shape.ts';
import { lowerTranspose } from './copy.ts';
import { lowerImplicitMatmul } from './implicit-matmul.ts';
import { lowerSoftmax } from './softmax.ts';

/** Channels of a head up to which its queries and results stay in the cache (attention-subgroup.ts). */
export const WIDEST_HEAD = 128;
/** Bytes of scores at most; where there are more, they are never stored (attention-tiled.ts). */
const MOST_SCORES = 2 ** 26;

interface Sizes {
  images: number;
  queries: number;
  keys: number;
  heads: number;
  perHead: number;
}

/** Whether an adapter is better off with `wideAttention`. */
export function onMatmuls(facts: AdapterFacts, sizes: Sizes): boolean {
  return sizes.queries <= queriesOnMatmuls(facts, sizes);
}

/** The most queries for which it is, with scores of at most `bytes`; 0 for none. */
export function queriesOnMatmuls(
  { schedule }: AdapterFacts,
  { images, keys, heads, perHead }: Omit<Sizes, 'queries'>,
  bytes = MOST_SCORES,
): number {
  if (schedule !== 'subgroup' || heads > 1 || perHead <= WIDEST_HEAD) return 0;
  return Math.floor(Math.min(bytes, MOST_SCORES) / (4 * images * keys));
}

/** q (N, ..., d), k and v (N, ..., d); output q's shape. */
export function wideAttention({ q, k, v }: Readonly<Record<'q' | 'k' | 'v', Operand>>, output: Operand, to: Lowering): void {
  const images = q.shape[0];
  const channels = q.shape[q.shape.length - 1];
  const [queries, keys] = [q, k].map(({ shape }) => sizeOf(shape) / images / channels);
  const scores = to.scratch('scores', [images, queries, keys]);
  const weights = to.scratch('weights', [images, queries, keys]);
  const columns = to.scratch('values by channel', [images, channels, keys]);
  const product = (x: Operand, w: Operand, y: Operand, inner: number, across: number) =>
    lowerImplicitMatmul(to, {
      x,
      w,
      bias: null,
      residual: null,
      output: y,
      rows: queries,
      columns: across,
      channels: inner,
      image: { h: 1, w: queries, oh: 1, ow: queries },
      window: { kh: 1, kw: 1, stride: 1, top: 0, left: 0 },
      batch: images,
      activation: 'none',
    });
  product({ ...q, shape: [images, queries, channels] }, { ...k, shape: [images, keys, channels] }, scores, channels, keys);
  lowerTranspose(to, { ...v, shape: [images, keys, channels] }, columns);
  lowerSoftmax(to, scores, weights, channels ** -0.5);
  product(weights, columns, { ...output, shape: [images, queries, channels] }, keys, channels);
}
