/**
 * windowAttention: self-attention within the windows of a map, with a learnt bias for every pair of places in a window, which all windows share. Shifted
 * windows are those of the map whose first `shift` rows and columns were moved to its end; pixels that only this made neighbours have `blocked`
 * added to their scores. (Swin Transformer: Liu et al. 2021, arXiv 2103.14030, sec. 3.2)
 *   y = softmax(scale q k^T + bias + blocked between regions) v in heads and windows, scale = width^-1/2
 * qkv (N, H, W, 3 heads d): queries, keys and values, heads inside each; bias (heads, s s, s s); y (N, H, W, heads d); all f32.
 *
 * The kernels are those of attention, which read tokens where they lie in the map: windows are never copied out, and moved, and masks never made.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { constant, describe, type Tensor } from '../core/tensor.ts';
import { queriesPerLane, subgroupAttention } from './attention-subgroup.ts';
import { attentionTile, loopLengths, tiledAttention, tileQueries } from './attention-tiled.ts';
import { WIDEST_HEAD } from './attention-wide.ts';
import { add } from './binary.ts';
import { concat, permute, slice } from './copy.ts';
import { gatherRows } from './gather-rows.ts';
import { gradient } from './gradient.ts';
import { matmul } from './linear.ts';
import { reshape } from './reshape.ts';
import { softmax } from './softmax.ts';
import { affine } from './unary.ts';
import { WIDEST_WINDOW, windowParams } from './window-place.ts';

export interface WindowAttrs {
  heads: number;
  /** Side of a window, s, in pixels. */
  window: number;
  /** Rows and columns by which windows are shifted, below `window`. */
  shift: number;
  /** What is added to the scores of pixels that only the shift made neighbours, below 0. */
  blocked: number;
}

/** qkv (N, H, W, 3 heads d), sides multiples of the window; bias (heads, s s, s s) -> (N, H, W, heads d). Throws ShapeError. */
export function windowAttention(qkv: Tensor, bias: Tensor, attrs: WindowAttrs): Tensor {
  return apply(windowAttentionOp, { qkv, bias }, attrs);
}

export const windowAttentionOp: Op<WindowAttrs, { qkv: Tensor; bias: Tensor }> = {
  name: 'windowAttention',

  infer({ qkv, bias }, { heads, window, shift }) {
    const fail = (why: string) => new ShapeError(`windowAttention: ${why}. qkv is ${describe(qkv)}, the bias ${describe(bias)}.`);
    const [n, h, w, channels] = qkv.shape;
    if (qkv.shape.length !== 4 || qkv.dtype !== 'f32' || channels % (3 * heads))
      throw fail(`qkv must be f32 (N, H, W, 3 x ${heads} heads of some channels)`);
    if (window > WIDEST_WINDOW || h % window || w % window)
      throw fail(`windows of ${window} pixels, at most ${WIDEST_WINDOW}, must divide the sides`);
    if (!(shift >= 0 && shift < window)) throw fail(`windows of ${window} pixels cannot be shifted by ${shift}`);
    const tokens = window * window;
    if (bias.dtype !== 'f32' || String(bias.shape) !== String([heads, tokens, tokens]))
      throw fail(`the bias must be f32 (${heads}, ${tokens}, ${tokens})`);
    return { shape: [n, h, w, channels / 3], dtype: 'f32' };
  },

  lower({ qkv, bias }, output, { heads, window, shift, blocked }, to) {
    const [n, h, w, channels] = output.shape;
    const tokens = window * window;
    const perHead = channels / heads;
    const windows = (n * h * w) / tokens;
    const types = { q: qkv.dtype, k: qkv.dtype, v: qkv.dtype };
    const operands = { q: qkv, k: qkv, v: qkv, bias, y: output };
    const common = {
      ...{ queries: tokens, keys: tokens, heads, scale: perHead ** -0.5 * Math.LOG2E, causal: false },
      ...{ ...windowParams(output.shape, window, shift), channels: perHead, blocked: blocked * Math.LOG2E },
    };
    const lanes = to.facts.subgroupSizes[0];
    if (to.facts.schedule === 'subgroup' && channels % 4 === 0 && tokens % 4 === 0 && perHead <= WIDEST_HEAD - 4) {
      const ragged = perHead % 4 !== 0;
      // A head that begins between fours reaches into one more, if its end does not make up for it.
      const vectors = Math.max(...Array.from({ length: heads }, (_, head) => Math.ceil((((head * perHead) % 4) + perHead) / 4)));
      const blocks = Math.ceil(tokens / (lanes * queriesPerLane(lanes, vectors)));
      const mine = Math.ceil(tokens / (lanes * blocks));
      const groups = blocks * heads * windows;
      return to.dispatch({
        shader: subgroupAttention(lanes, vectors, types, false, { mine, ragged }),
        operands,
        params: { ...common, groups, blocks, held: vectors * mine, stride: (3 * channels) / 4, third: channels / 4 },
        threads: groups * lanes,
      });
    }
    const loads = perHead % 4 === 0 ? 4 : 1;
    const quads = Math.ceil(perHead / 4);
    const tile = attentionTile(quads);
    const blocks = Math.ceil(tokens / tileQueries(tile));
    const chunks = Math.ceil(quads / (tile.channels * tile.across));
    const groups = windows * heads * chunks * blocks;
    to.dispatch({
      shader: tiledAttention(tile, loads, types, false, true),
      operands,
      params: {
        ...{ ...common, groups, blocks, chunks, head: perHead / loads, quads, ...loopLengths(tile) },
        ...{ stride: (3 * channels) / loads, third: channels / loads },
      },
      threads: groups * tile.threads,
    });
  },

  /** Differentiates the formula written in smaller operations: cleaners are rarely trained, and this needs no kernels of its own. */
  gradient({ source: { inputs, attrs } }, upstream) {
    const [qkv, bias] = gradient(composed(inputs.qkv, inputs.bias, attrs), [inputs.qkv, inputs.bias], { upstream });
    return { qkv, bias };
  },

  flops: ({ qkv }, { shape }, { window }) => 4 * shape[0] * shape[1] * shape[2] * (qkv.shape[3] / 3) * window ** 2,
};

/** The same of products of matrices, with scores, mask and windows all written down. */
function composed(qkv: Tensor, bias: Tensor, { heads, window: s, shift, blocked }: WindowAttrs): Tensor {
  const [n, h, w, channels] = qkv.shape;
  const c = channels / 3;
  const [t, d, windows] = [s * s, c / heads, (h * w) / s ** 2];
  const rows = windowsOf(roll(qkv, shift), s);
  const [q, k, v] = [0, 1, 2].map((i) => {
    const part = reshape(slice(rows, -1, i * c, (i + 1) * c), [n * windows, t, heads, d]);
    return reshape(permute(part, [0, 2, 1, 3]), [n * windows * heads, t, d]);
  });
  const scores = reshape(affine(matmul(q, k, { transposed: true }), d ** -0.5, 0), [n, windows, heads, t * t]);
  let biased = add(scores, reshape(bias, [1, 1, heads, t * t]));
  if (shift > 0) biased = add(biased, reshape(shiftMask(h, w, s, shift, blocked), [1, windows, 1, t * t]));
  const shares = softmax(reshape(biased, [n * windows * heads, t, t]));
  const y = permute(reshape(matmul(shares, v), [n * windows, heads, t, d]), [0, 2, 1, 3]);
  return roll(mapOf(reshape(y, [n * windows, t, c]), [n, h, w, c], s), -shift);
}

/** x (N, H, W, C) -> (N H W / s s, s s, C): windows row by row. */
function windowsOf(x: Tensor, s: number): Tensor {
  const [n, h, w, c] = x.shape;
  return reshape(permute(reshape(x, [(n * h) / s, s, w / s, s * c]), [0, 2, 1, 3]), [(n * h * w) / s ** 2, s * s, c]);
}

/** The map (N, H, W, C) that windows are of. */
function mapOf(windows: Tensor, [n, h, w, c]: readonly number[], s: number): Tensor {
  return reshape(permute(reshape(windows, [(n * h) / s, w / s, s, s * c]), [0, 2, 1, 3]), [n, h, w, c]);
}

/** x (N, H, W, C) with its first `by` rows and columns moved to the end; a negative `by` moves the last ones to the front. */
function roll(x: Tensor, by: number): Tensor {
  return [1, 2].reduce((map, axis) => {
    const size = map.shape[axis];
    const cut = (by + size) % size;
    if (cut === 0) return map;
    return concat([slice(map, axis, cut, size), slice(map, axis, 0, cut)], axis);
  }, x);
}

/**
 * What is added to the scores of shifted windows: `blocked` between pixels of different regions, which only the shift brought together. f32
 * (h w / s s, s s, s s)
 */
export function shiftMask(h: number, w: number, s: number, shift: number, blocked: number): Tensor {
  const region = (at: number, length: number) => (at < length - s ? 0 : at < length - shift ? 1 : 2);
  const across = w / s;
  const tokens = s * s;
  const data = new Float32Array(h * w * tokens);
  for (let window = 0; window < (h * w) / tokens; window++) {
    const [top, left] = [Math.floor(window / across) * s, (window % across) * s];
    const regions = Array.from({ length: tokens }, (_, i) => 3 * region(top + Math.floor(i / s), h) + region(left + (i % s), w));
    for (let q = 0; q < tokens; q++)
      for (let k = 0; k < tokens; k++) if (regions[q] !== regions[k]) data[(window * tokens + q) * tokens + k] = blocked;
  }
  return constant(data, [(h * w) / tokens, tokens, tokens]);
}

/** For each pair of query and key of a window, the row of a table of (2 s - 1)^2 relative positions: (dy + s - 1)(2 s - 1) + dx + s - 1. u32 (s^4) */
function relativePositions(s: number): Tensor {
  const index = Uint32Array.from({ length: s ** 4 }, (_, i) => {
    const [query, key] = [Math.floor(i / s ** 2), i % s ** 2];
    const dy = Math.floor(query / s) - Math.floor(key / s);
    const dx = (query % s) - (key % s);
    return (dy + s - 1) * (2 * s - 1) + dx + s - 1;
  });
  return constant(index, [s ** 4]);
}

/** table ((2 s - 1)^2, heads), a row for each relative position -> the bias of `windowAttention` (heads, s s, s s). */
export function relativeBias(table: Tensor, s: number): Tensor {
  return reshape(permute(gatherRows(table, relativePositions(s)), [1, 0]), [table.shape[1], s * s, s * s]);
}
