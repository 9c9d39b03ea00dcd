/**
 * Attention over keys that come in parts. What a part's keys give is kept with each query's largest score and sum of weights, so that parts can be
 * put together in any number: the result is attention over all keys. (Milakov & Gimelshein 2018; the blocks of FlashAttention, Dao et al. 2022)
 *
 * A state is (N, ..., heads (d + 4)) f32 for queries (N, ..., heads d): each head's result over the keys so far, the largest score (times scale,
 * to the base 2), the sum of weights about it, and two values that nobody reads.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { elementType, shader } from '../core/shader.ts';
import { type Shape, sameShape, sizeOf } from '../core/shape.ts';
import { describe, type Tensor } from '../core/tensor.ts';
import { type AttentionAttrs, attentionOp, lowerAttention } from './attention.ts';
import { slice } from './copy.ts';
import { reshape } from './reshape.ts';

/** Values of a head's state beside its result. */
const BESIDE = 4;
/** The largest score where there were no keys yet. */
const NONE = -1e30;

/** q (N, ..., heads d), some keys k and their values v (N, ..., heads d). -> the state (N, ..., heads (d + 4)). Throws ShapeError. */
export function attentionPart(q: Tensor, k: Tensor, v: Tensor, heads: number): Tensor {
  return apply(attentionPartOp, { q, k, v }, { heads, causal: false });
}

/** Two states of the same queries -> that of the keys of both. Throws ShapeError. */
export function mergeAttention(a: Tensor, b: Tensor, heads: number): Tensor {
  return apply(mergeAttentionOp, { a, b }, { heads });
}

/** A state (N, ..., heads (d + 4)) -> attention's result (N, ..., heads d). */
export function attentionResult(state: Tensor, heads: number): Tensor {
  const channels = state.shape[state.shape.length - 1];
  const perHead = reshape(state, [state.size / channels, heads, channels / heads]);
  return reshape(slice(perHead, 2, 0, channels / heads - BESIDE), [...state.shape.slice(0, -1), channels - heads * BESIDE]);
}

/** Shape of the state of queries of shape (N, ..., heads d). */
export function stateShape(queries: Shape, heads: number): Shape {
  return [...queries.slice(0, -1), queries[queries.length - 1] + heads * BESIDE];
}

/** The state before the first key. */
export function emptyState(queries: Shape, heads: number): Float32Array {
  const state = new Float32Array(sizeOf(stateShape(queries, heads)));
  const perHead = queries[queries.length - 1] / heads + BESIDE;
  for (let at = perHead - BESIDE; at < state.length; at += perHead) state[at] = NONE;
  return state;
}

const attentionPartOp: Op<AttentionAttrs, { q: Tensor; k: Tensor; v: Tensor }> = {
  name: 'attentionPart',
  infer(inputs, attrs) {
    const { shape } = attentionOp.infer(inputs, attrs);
    return { shape: stateShape(shape, attrs.heads), dtype: 'f32' };
  },
  lower: (inputs, output, attrs, to) => lowerAttention(inputs, output, attrs, to, true),
  flops: attentionOp.flops,
};

const mergeAttentionOp: Op<{ heads: number }, { a: Tensor; b: Tensor }> = {
  name: 'mergeAttention',

  infer({ a, b }, { heads }) {
    const perHead = a.shape[a.shape.length - 1] / heads;
    if (!sameShape(a.shape, b.shape) || !Number.isInteger(perHead) || perHead <= BESIDE)
      throw new ShapeError(`mergeAttention: ${describe(a)} and ${describe(b)} are no two states of ${heads} heads.`);
    return { shape: a.shape, dtype: 'f32' };
  },

  lower({ a, b }, output, { heads }, to) {
    const perHead = a.shape[a.shape.length - 1] / heads;
    const loads = perHead % 4 === 0 ? 4 : 1;
    const count = sizeOf(a.shape) / loads;
    to.dispatch({
      shader: mergeShader(loads),
      operands: { a, b, y: output },
      params: { count, per_head: perHead / loads, beside: BESIDE / loads },
      threads: count,
    });
  },
};

function mergeShader(loads: 1 | 4) {
  const type = elementType({ dtype: 'f32', width: loads });
  const state = (name: string) => (loads === 4 ? `${name}_load(stats).xy` : `vec2<f32>(${name}_load(stats), ${name}_load(stats + 1u))`);
  return shader({
    name: `merge attention x${loads}`,
    bindings: {
      a: { dtype: 'f32', width: loads },
      b: { dtype: 'f32', width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { count: 'u32', per_head: 'u32', beside: 'u32' },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let i = id % p.per_head;
  let stats = id - i + p.per_head - p.beside;
  let of_a = ${state('a')};
  let of_b = ${state('b')};
  let largest = max(of_a.x, of_b.x);
  let weight_a = of_a.y * exp2(of_a.x - largest);
  let weight_b = of_b.y * exp2(of_b.x - largest);
  let total = weight_a + weight_b;
  var v = (a_load(id) * weight_a + b_load(id) * weight_b) / total;
  ${
    loads === 4
      ? 'if (id == stats) { v = vec4<f32>(largest, total, 0.0, 0.0); }'
      : 'if (id >= stats) { v = select(select(0.0, total, id == stats + 1u), largest, id == stats); }'
  }
  y_store(id, ${type}(v));
}`,
  });
}
