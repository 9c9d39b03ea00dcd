/**
 * The gradients of attention in heads that do not fit a thread's registers, y = p v with p = softmax(scale q k^T): products of matrices, scores and all.
 *   dv = p^T g, ds = p (g v^T - sum of p (g v^T)), dq = scale ds k, dk = scale ds^T q
 * Where there are many scores, some queries are taken at a time.
 */
import { constant, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { add } from './binary.ts';
import { concat, permute, slice } from './copy.ts';
import { matmul } from './linear.ts';
import { reshape } from './reshape.ts';
import { softmax } from './softmax.ts';
import { softmaxGradient } from './softmax-gradient.ts';
import { affine } from './unary.ts';

/** Bytes of scores at most. */
const MOST_SCORES = 2 ** 26;

/** Stands for minus infinity where a query does not see a key. */
const UNSEEN = -3e38;

/** The derivatives by q, k and v, given g by attention's result, all (N, ..., heads d). */
export function wideAttentionGradient(
  { g, q, k, v }: Readonly<Record<'g' | 'q' | 'k' | 'v', Tensor>>,
  { heads, causal }: { heads: number; causal: boolean },
): { q: Tensor; k: Tensor; v: Tensor } {
  const [images, channels] = [q.shape[0], q.shape[q.shape.length - 1]];
  const perHead = channels / heads;
  const scale = perHead ** -0.5;
  /** (N, ..., heads d) <-> (N heads, tokens, d) */
  const split = (x: Tensor) => {
    const tokens = x.size / images / channels;
    const turned = heads === 1 ? x : permute(reshape(x, [images, tokens, heads, perHead]), [0, 2, 1, 3]);
    return reshape(turned, [images * heads, tokens, perHead]);
  };
  const joined = (x: Tensor, shape: Shape) =>
    reshape(heads === 1 ? x : permute(reshape(x, [images, heads, x.shape[1], perHead]), [0, 2, 1, 3]), shape);
  const transposed = (x: Tensor) => permute(x, [0, 2, 1]);

  const [gs, qs, ks, vs] = [split(g), affine(split(q), scale, 0), split(k), split(v)];
  const [queries, keys] = [qs.shape[1], ks.shape[1]];
  const some = Math.max(1, Math.min(queries, Math.floor(MOST_SCORES / (4 * images * heads * keys))));
  const dqs: Tensor[] = [];
  let [dk, dv]: (Tensor | null)[] = [null, null];
  for (let from = 0; from < queries; from += some) {
    const part = (x: Tensor) => (some === queries ? x : slice(x, 1, from, Math.min(from + some, queries)));
    const [gp, qp] = [part(gs), part(qs)];
    const scores = matmul(qp, ks, { transposed: true });
    const p = softmax(causal ? add(scores, unseen(from, qp.shape[1], keys)) : scores);
    const ds = softmaxGradient(matmul(gp, vs, { transposed: true }), p);
    const [ofK, ofV] = [matmul(transposed(ds), qp), matmul(transposed(p), gp)];
    dqs.push(affine(matmul(ds, ks), scale, 0));
    [dk, dv] = [dk ? add(dk, ofK) : ofK, dv ? add(dv, ofV) : ofV];
  }
  return { q: joined(concat(dqs, 1), q.shape), k: joined(dk!, k.shape), v: joined(dv!, v.shape) };
}

/** What keeps queries from `first` on from seeing later keys. */
function unseen(first: number, queries: number, keys: number): Tensor {
  const shape = [1, queries, keys];
  return constant(
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => (i % keys > first + Math.floor(i / keys) ? UNSEEN : 0)),
    shape,
  );
}
