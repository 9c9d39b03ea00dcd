/**
 * Attention of one wide head on adapters that compute a subgroup at a time (CPU drivers): as products of matrices, scores and all, a block of queries
 * after the other. A head that does not fit the first-level cache leaves an online softmax nothing to reuse, and its text is long, where the matmul
 * of these adapters is quick and compiled for others too.
 */
import type { AdapterFacts } from '../core/adapter.ts';
import type { Lowering, Operand } from '../core/op.ts';
import { sizeOf } from '../core/shape.ts';
import { lowerRows, lowerTranspose } from './copy.ts';
import { lowerImplicitMatmul, plainRows } from './implicit-matmul.ts';
import { lowerSoftmax } from './softmax.ts';

/** Channels of a head up to which its queries and results stay in the cache (attention-subgroup.ts). */
export const WIDEST_HEAD = 128;
/** Channels of one head from which on products of matrices are the quicker way. */
const WIDE = 96;
/** Bytes of a block's scores at most, where 32 queries have no more. */
const BLOCK = 2 ** 22;

/** Whether an adapter computes heads of `perHead` channels, `heads` of them, by `wideAttention`. */
export function onMatmuls({ schedule }: AdapterFacts, heads: number, perHead: number): boolean {
  return schedule === 'subgroup' && heads === 1 && perHead >= WIDE;
}

/** q (N, ..., d), k and v (N, ..., d); output q's shape. */
export function wideAttention({ q, k, v }: Readonly<Record<'q' | 'k' | 'v', Operand>>, output: Operand, to: Lowering): void {
  const images = q.shape[0];
  const channels = q.shape[q.shape.length - 1];
  const [queries, keys] = [q, k].map(({ shape }) => sizeOf(shape) / images / channels);
  const block = Math.min(queries, 32 * Math.max(1, Math.floor(BLOCK / (4 * images * keys) / 32)));
  const scores = to.scratch('scores', [images, block, keys]);
  const weights = to.scratch('weights', [images, block, keys]);
  const columns = to.scratch('values by channel', [images, channels, keys]);
  const some = (operand: Operand, ...sizes: number[]): Operand => ({ ...operand, shape: [images, ...sizes] });
  const product = (x: Operand, w: Operand, y: Operand) => {
    const [, rows, inner] = x.shape;
    lowerImplicitMatmul(to, {
      x,
      w,
      bias: null,
      residual: null,
      output: y,
      rows,
      columns: w.shape[1],
      channels: inner,
      ...plainRows(rows),
      batch: images,
      activation: 'none',
    });
  };
  const attend = (x: Operand, y: Operand) => {
    const [, rows] = x.shape;
    product(x, some(k, keys, channels), some(scores, rows, keys));
    lowerSoftmax(to, some(scores, rows, keys), some(weights, rows, keys), channels ** -0.5);
    product(some(weights, rows, keys), columns, y);
  };
  lowerTranspose(to, some(v, keys, channels), columns);
  if (block === queries) {
    attend(some(q, queries, channels), some(output, queries, channels));
    return;
  }
  const asked = to.scratch('queries', [images, block, channels]);
  const answers = to.scratch('results', [images, block, channels]);
  for (let first = 0; first < queries; first += block) {
    const rows = Math.min(block, queries - first);
    const [x, y] = [some(asked, rows, channels), some(answers, rows, channels)];
    lowerRows(to, some(q, queries, channels), x, first, 0);
    attend(x, y);
    lowerRows(to, y, some(output, queries, channels), 0, first);
  }
}
