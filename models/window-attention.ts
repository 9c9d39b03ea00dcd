/**
 * Attention within windows of a feature map, with a learnt bias for each relative position; every other block shifts the windows by half their
 * size. (Swin Transformer: Liu et al. 2021, arXiv 2103.14030, sec. 3.2)
 */
import { constant, type Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { concat, permute, slice } from '../kernels/copy.ts';
import { gatherRows } from '../kernels/gather-rows.ts';
import { matmul } from '../kernels/linear.ts';
import { reshape } from '../kernels/reshape.ts';
import { softmax } from '../kernels/softmax.ts';
import { affine } from '../kernels/unary.ts';

/** x (N, H, W, C) -> (N H W / s s, s s, C): windows row by row, s a divisor of the sides. */
export function windowsOf(x: Tensor, s: number): Tensor {
  const [n, h, w, c] = x.shape;
  return reshape(permute(reshape(x, [(n * h) / s, s, w / s, s * c]), [0, 2, 1, 3]), [(n * h * w) / s ** 2, s * s, c]);
}

/** The map (N, H, W, C) that windows are of. */
export function mapOf(windows: Tensor, [n, h, w, c]: readonly number[], s: number): Tensor {
  return reshape(permute(reshape(windows, [(n * h) / s, w / s, s, s * c]), [0, 2, 1, 3]), [n, h, w, c]);
}

/** x (N, H, W, C) with its first `by` rows and columns moved to the end; a negative `by` moves the last ones to the front. */
export function roll(x: Tensor, by: number): Tensor {
  return [1, 2].reduce((map, axis) => {
    const size = map.shape[axis];
    const cut = (by + size) % size;
    if (cut === 0) return map;
    return concat([slice(map, axis, cut, size), slice(map, axis, 0, cut)], axis);
  }, x);
}

/** For each pair of query and key of a window, the row of a table of (2 s - 1)^2 relative positions: (dy + s - 1)(2 s - 1) + dx + s - 1. u32 (s^4) */
export function relativePositions(s: number): Tensor {
  const index = Uint32Array.from({ length: s ** 4 }, (_, i) => {
    const [query, key] = [Math.floor(i / s ** 2), i % s ** 2];
    const dy = Math.floor(query / s) - Math.floor(key / s);
    const dx = (query % s) - (key % s);
    return (dy + s - 1) * (2 * s - 1) + dx + s - 1;
  });
  return constant(index, [s ** 4]);
}

/** table ((2 s - 1)^2, heads) -> what is added to every window's scores (heads, s s, s s). */
export function relativeBias(table: Tensor, s: number): Tensor {
  return reshape(permute(gatherRows(table, relativePositions(s)), [1, 0]), [table.shape[1], s * s, s * s]);
}

/**
 * What is added to the scores of shifted windows, so that pixels which only the wrap brought together do not see each other: `blocked` between
 * pixels of different regions. f32 (h w / s s, s s, s s)
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

/**
 * Self-attention of windows. qkv (M, T, 3 C): queries, keys and values, heads inside each; bias (heads, T, T); mask (windows of a map, T, T) or null.
 * -> (M, T, C)
 */
export function windowAttention(qkv: Tensor, heads: number, bias: Tensor, mask: Tensor | null): Tensor {
  const [m, t, channels] = [qkv.shape[0], qkv.shape[1], qkv.shape[2] / 3];
  const d = channels / heads;
  const [q, k, v] = [0, 1, 2].map((i) => {
    const part = reshape(slice(qkv, -1, i * channels, (i + 1) * channels), [m, t, heads, d]);
    return reshape(permute(part, [0, 2, 1, 3]), [m * heads, t, d]);
  });
  const scores = reshape(affine(matmul(q, k, { transposed: true }), d ** -0.5, 0), [m, heads, t * t]);
  let biased = add(scores, reshape(bias, [1, heads, t * t]));
  if (mask) {
    const windows = mask.shape[0];
    biased = add(reshape(biased, [m / windows, windows, heads, t * t]), reshape(mask, [1, windows, 1, t * t]));
  }
  const shares = softmax(reshape(biased, [m * heads, t, t]));
  return reshape(permute(reshape(matmul(shares, v), [m, heads, t, d]), [0, 2, 1, 3]), [m, t, channels]);
}
