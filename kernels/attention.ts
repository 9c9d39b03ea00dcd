/**
 * attention: y = softmax(scale q k^T) v in heads, scale = width^-1/2, optionally causal. (Vaswani et al. 2017; online softmax: Milakov &
 * Gimelshein 2018, which is why scores are never stored and any length fits)
 * q (N, ..., heads d), k, v (N, ..., heads d) f32 | f16, the middle axes together Lq queries and Lk keys; y q's shape, f32.
 *
 * A thread owns one query of one head and walks over the keys four at a time. Heads of up to 64 channels keep q and the result in
 * registers; wider ones (the VAE's single head) are cut into chunks of 64 result channels, each thread computing its scores anew.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { type DType, elementType, type ShaderSpec } from '../core/shader.ts';
import { describe, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { attentionGradient } from './attention-gradient.ts';
import { queriesPerLane, subgroupAttention } from './attention-subgroup.ts';
import { reshape, slice } from './copy.ts';

interface Attrs {
  heads: number;
  causal: boolean;
}

/** Loads of one head that fit in registers. */
const CHUNK = 16;
const KEYS = 4;
/** Widest head of the subgroup schedule. */
const WIDEST = 128;

/** q (N, ..., heads d), k and v (N, ..., heads d). -> q's shape. A causal query sees keys up to its own position. Throws ShapeError. */
export function attention(q: Tensor, k: Tensor, v: Tensor, heads: number, { causal = false } = {}): Tensor {
  return apply(attentionOp, [q, k, v], { heads, causal });
}

export const attentionOp: Op<Attrs> = {
  name: 'attention',

  infer([q, k, v], { heads, causal }) {
    const fail = (why: string) => new ShapeError(`attention: ${why}. q is ${describe(q)}, k ${describe(k)}, v ${describe(v)}.`);
    const channels = q.shape[q.shape.length - 1];
    if ([q, k, v].some(({ shape }) => shape.length < 3 || shape[0] !== q.shape[0] || shape[shape.length - 1] !== channels)) {
      throw fail('q, k and v must be (N, ..., channels) with the same N and channels');
    }
    if (channels % heads) throw fail(`${heads} heads do not divide ${channels} channels`);
    if (k.size !== v.size) throw fail('k and v must have the same number of tokens');
    if (causal && k.size !== q.size) throw fail('causal attention needs as many keys as queries');
    return { shape: q.shape, dtype: 'f32' };
  },

  lower([q, k, v], output, { heads, causal }, to) {
    const images = q.shape[0];
    const channels = q.shape[q.shape.length - 1];
    const queries = sizeOf(q.shape) / images / channels;
    const keys = sizeOf(k.shape) / images / channels;
    const perHead = channels / heads;
    const loads = perHead % 4 === 0 ? 4 : 1;
    const vectors = perHead / loads;
    const lanes = to.facts.subgroupSizes[0];
    if (to.facts.schedule === 'subgroup' && loads === 4 && perHead <= WIDEST) {
      const blocks = Math.ceil(queries / (lanes * queriesPerLane(vectors)));
      const groups = blocks * heads * images;
      to.dispatch({
        shader: subgroupAttention(lanes, vectors, [q.dtype, k.dtype, v.dtype]),
        operands: [q, k, v, output],
        params: [groups, blocks, queries, keys, heads, perHead ** -0.5, causal, vectors * queriesPerLane(vectors)],
        threads: groups * lanes,
      });
      return;
    }
    const chunks = Math.ceil(vectors / CHUNK);
    const threads = images * heads * chunks * queries;
    to.dispatch({
      shader: attentionShader(loads, vectors, [q.dtype, k.dtype, v.dtype]),
      operands: [q, k, v, output],
      params: [threads, queries, keys, heads, chunks, vectors, perHead ** -0.5, causal],
      threads,
    });
  },

  gradient(result, upstream) {
    const [q, k, v] = result.source.inputs;
    const { dq, dkv } = attentionGradient(upstream, result, q, k, v, result.source.attrs);
    const half = (i: number, shape: Shape) => reshape(slice(reshape(dkv, [2, k.size]), 0, i, i + 1), shape);
    return [dq, half(0, k.shape), half(1, v.shape)];
  },

  flops([q, k], _output, { causal }) {
    return (4 * sizeOf(q.shape) * (sizeOf(k.shape) / k.shape[0] / k.shape[k.shape.length - 1])) / (causal ? 2 : 1);
  },
};

const each = (count: number, line: (i: number) => string) => Array.from({ length: count }, (_, i) => line(i)).join('\n  ');

function attentionShader(loads: 1 | 4, vectors: number, dtypes: DType[]): ShaderSpec {
  const inRegisters = vectors <= CHUNK;
  const held = Math.min(vectors, CHUNK);
  const type = elementType({ dtype: 'f32', width: loads });
  const product = (a: string, b: string) => (loads === 4 ? `dot(${a}, ${b})` : `${a} * ${b}`);
  const score = inRegisters
    ? each(held, (i) => `s += ${product(`q${i}`, `k_load(at + ${i}u)`)};`)
    : `for (var i = 0u; i < p.vectors; i++) { s += ${product('q_load(q_at + i)', 'k_load(at + i)')}; }`;
  return {
    name: `attention x${loads} ${inRegisters ? vectors : 'wide'} ${dtypes.join(' ')}`,
    bindings: [
      ...['q', 'k', 'v'].map((name, i) => ({ name, dtype: dtypes[i], width: loads })),
      { name: 'y', dtype: 'f32', width: loads, write: true },
    ],
    params: ['count: u32', 'queries: u32', 'keys: u32', 'heads: u32', 'chunks: u32', 'vectors: u32', 'scale: f32', 'causal: u32'],
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let query = id % p.queries;
  let chunk = (id / p.queries) % p.chunks;
  let head = (id / (p.queries * p.chunks)) % p.heads;
  let image = id / (p.queries * p.chunks * p.heads);
  let stride = p.heads * p.vectors;
  let q_at = (image * p.queries + query) * stride + head * p.vectors;
  let k_at = image * p.keys * stride + head * p.vectors;
  let first = chunk * ${CHUNK}u;
  let end = select(p.keys, query + 1u, p.causal == 1u);
  ${inRegisters ? each(held, (i) => `let q${i} = q_load(q_at + ${i}u);`) : ''}
  ${each(held, (i) => `let c${i} = min(first + ${i}u, p.vectors - 1u); var y${i} = ${type}(0.0);`)}
  var largest = -3.4e38;
  var total = 0.0;
  for (var key = 0u; key < end; key += ${KEYS}u) {
    var scores = vec4<f32>(-3.4e38);
    let known = min(end - key, ${KEYS}u);
    for (var j = 0u; j < known; j++) {
      let at = k_at + (key + j) * stride;
      var s = 0.0;
      ${score}
      scores[j] = s * p.scale;
    }
    let now = max(largest, max(max(scores.x, scores.y), max(scores.z, scores.w)));
    let fade = exp(largest - now);
    let weights = exp(scores - vec4<f32>(now));
    total = total * fade + weights.x + weights.y + weights.z + weights.w;
    largest = now;
    ${each(held, (i) => `y${i} *= fade;`)}
    for (var j = 0u; j < known; j++) {
      let at = k_at + (key + j) * stride;
      let weight = weights[j];
      ${each(held, (i) => `y${i} += weight * v_load(at + c${i});`)}
    }
  }
  ${each(held, (i) => `if (first + ${i}u < p.vectors) { y_store(q_at + c${i}, y${i} / total); }`)}
}`,
  };
}
