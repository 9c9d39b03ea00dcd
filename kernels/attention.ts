/**
 * attention: y = softmax(scale q k^T) v in heads, scale = width^-1/2, optionally causal. (Vaswani et al. 2017; online softmax: Milakov &
 * Gimelshein 2018, which is why scores are never stored and any length fits)
 * q (N, ..., heads d), k, v (N, ..., heads d) f32 | f16, the middle axes together Lq queries and Lk keys; y q's shape, f32.
 *
 * The schedules are in files of their own; heads that are not in fours or wider than 128 channels are always computed in tiles.
 */
import { USUAL_TILES } from '../core/adapter.ts';
import { ShapeError } from '../core/errors.ts';
import { apply, type Lowering, type Op, type Operand } from '../core/op.ts';
import { describe, sizeOf, type Tensor } from '../core/tensor.ts';
import { attentionGradient, inRegisters } from './attention-gradient.ts';
import { queriesPerLane, subgroupAttention } from './attention-subgroup.ts';
import { attentionTile, loopLengths, tiledAttention, tileQueries } from './attention-tiled.ts';
import { onMatmuls, WIDEST_HEAD, wideAttention } from './attention-wide.ts';
import { wideAttentionGradient } from './attention-wide-gradient.ts';
import { MANY } from './tile-choice.ts';

export interface AttentionAttrs {
  heads: number;
  causal: boolean;
}

/** q (N, ..., heads d), k and v (N, ..., heads d). -> q's shape. A causal query sees keys up to its own position. Throws ShapeError. */
export function attention(q: Tensor, k: Tensor, v: Tensor, heads: number, { causal = false } = {}): Tensor {
  return apply(attentionOp, { q, k, v }, { heads, causal });
}

export const attentionOp: Op<AttentionAttrs, { q: Tensor; k: Tensor; v: Tensor }> = {
  name: 'attention',

  infer({ q, k, v }, { heads, causal }) {
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

  lower: (inputs, output, attrs, to) => lowerAttention(inputs, output, attrs, to, false),

  gradient(result, upstream) {
    const { q, k, v } = result.source.inputs;
    const { attrs } = result.source;
    if (!inRegisters(q, attrs.heads)) return wideAttentionGradient({ g: upstream, q, k, v }, attrs);
    return attentionGradient({ g: upstream, a: result, q, k, v }, attrs);
  },

  flops({ q, k }, _output, { causal }) {
    return (4 * sizeOf(q.shape) * (sizeOf(k.shape) / k.shape[0] / k.shape[k.shape.length - 1])) / (causal ? 2 : 1);
  },
};

/** `states`: whether the output is attention's result, or the states of attention-parts.ts. */
export function lowerAttention(
  { q, k, v }: Readonly<Record<'q' | 'k' | 'v', Operand>>,
  output: Operand,
  { heads, causal }: AttentionAttrs,
  to: Lowering,
  states: boolean,
): void {
  const images = q.shape[0];
  const channels = q.shape[q.shape.length - 1];
  const queries = sizeOf(q.shape) / images / channels;
  const keys = sizeOf(k.shape) / images / channels;
  const perHead = channels / heads;
  const loads = perHead % 4 === 0 ? 4 : 1;
  const vectors = perHead / loads;
  const lanes = to.facts.subgroupSizes[0];
  const types = { q: q.dtype, k: k.dtype, v: v.dtype };
  if (!states && !causal && onMatmuls(to.facts, heads, perHead)) {
    wideAttention({ q, k, v }, output, to);
    return;
  }
  if (to.facts.schedule === 'subgroup' && loads === 4 && perHead <= WIDEST_HEAD) {
    const blocks = Math.ceil(queries / (lanes * queriesPerLane(lanes, vectors)));
    const groups = blocks * heads * images;
    to.dispatch({
      shader: subgroupAttention(lanes, vectors, types, states),
      operands: { q, k, v, y: output },
      params: {
        groups,
        blocks,
        queries,
        keys,
        heads,
        scale: perHead ** -0.5 * Math.LOG2E,
        causal,
        held: vectors * queriesPerLane(lanes, vectors),
      },
      threads: groups * lanes,
    });
    return;
  }
  const quads = Math.ceil(perHead / 4);
  const few = images * heads * Math.ceil(queries / tileQueries(attentionTile(quads))) < MANY;
  const tile = attentionTile(quads, few ? (to.facts.tiles ?? USUAL_TILES).fewQueries : 'large');
  const blocks = Math.ceil(queries / tileQueries(tile));
  const chunks = Math.ceil(quads / (tile.channels * tile.across));
  const groups = images * heads * chunks * blocks;
  to.dispatch({
    shader: tiledAttention(tile, loads, types, states),
    operands: { q, k, v, y: output },
    params: {
      groups,
      blocks,
      chunks,
      queries,
      keys,
      heads,
      head: perHead / loads,
      quads,
      scale: perHead ** -0.5 * Math.LOG2E,
      causal,
      ...loopLengths(tile),
    },
    threads: groups * tile.threads,
  });
}
