/**
 * Implicit matmul: y[b, r, o] = act(sum over ky, kx, c of x[b, pixel of r under (ky, kx), c] w[b, o, ky, kx, c] + bias[o]) + residual[b, r, o].
 * With t and up the sum goes on over another pair of factors, t[r, k] up[o, k]: adapters, whose ranks are concatenated in k.
 * Backward it is x's derivative: w is read where it lies, with its window turned by half a turn and in and out exchanged.
 * A convolution is a matmul whose rows are gathered from the image instead of being stored (im2col without the columns; Chellapilla et al.
 * 2006). Linear layers are the case of a 1 x 1 window, in which every token is a pixel; products of two activations have a batch axis.
 * What the schedules share is in matmul-variant.ts; each is in a file of its own.
 */
import { type Lowering, type Operand, width } from '../core/op.ts';
import { when } from '../core/shader.ts';
import { sizeOf } from '../core/tensor.ts';
import { type EpilogueOperands, epilogueOf, epilogueOperands, epilogueParams, imagesOf } from './epilogue.ts';
import { MATRIX_THREADS, matrixMatmul, matrixTile, suitsMatrices } from './implicit-matmul-matrix.ts';
import { subgroupMatmul, subgroupTile } from './implicit-matmul-subgroup.ts';
import { tiledMatmul, tiledThreads, tiledTile } from './implicit-matmul-tiled.ts';
import type { Float, MatmulVariant } from './matmul-variant.ts';
import { sumParts } from './sum-parts.ts';
import { type Extent, partsAlong, tileSize } from './tile-choice.ts';

export interface ImplicitMatmul extends EpilogueOperands {
  x: Operand;
  w: Operand;
  /** Adapters: t (rows, R) f32, up (columns, R) f32, R a multiple of 4, both or none; of one batch only. */
  t?: Operand | null;
  up?: Operand | null;
  /** Rows of the result in one batch, its columns, and channels of x. */
  rows: number;
  columns: number;
  channels: number;
  /** Size of the image under the window and of the result's; with `zoom` x has a pixel for each 2 x 2 of the image. */
  image: { h: number; w: number; oh: number; ow: number; zoom?: 0 | 1 };
  window: { kh: number; kw: number; stride: number; top: number; left: number };
  /** Number of independent products; each has its own x, w and y. */
  batch: number;
  /** Whether w lies as (batch, channels, kh, kw, columns) and its window is turned by half a turn: the backward pass of a layer of this w. */
  turned?: boolean;
  /** Whether w holds activations, which may be larger than weights are. Default: weights, or what is made of them. */
  activations?: boolean;
  /** Into how many parts of as many columns the result is divided, which lie one after the other, so many elements apart. On CPU drivers, without a residual. Default: one. */
  planes?: { count: number; apart: number };
}

/** The image and window of a matmul whose `rows` of x are read as they are. */
export function plainRows(rows: number): Pick<ImplicitMatmul, 'image' | 'window'> {
  return { image: { h: 1, w: rows, oh: 1, ow: rows }, window: { kh: 1, kw: 1, stride: 1, top: 0, left: 0 } };
}

/** Values of WINDOW_PARAMS. */
export function windowParams({ image, window }: Pick<ImplicitMatmul, 'image' | 'window'>) {
  const { h, w, oh, ow, zoom = 0 } = image;
  return { h, width: w, oh, ow, ...window, zoom };
}

/** Whether a window of x is not a row of it as it lies. */
export function isWindowed({ image, window }: Pick<ImplicitMatmul, 'image' | 'window'>): boolean {
  const { h, w, oh, ow, zoom } = image;
  const { kh, kw, stride, top, left } = window;
  return kh * kw * stride > 1 || Boolean(zoom) || top !== 0 || left !== 0 || oh !== h || ow !== w;
}

/** Emits an implicit matmul, in the schedule of the adapter: one dispatch, or where that would leave a GPU idle some parts of it and their sum. */
export function lowerImplicitMatmul(to: Lowering, m: ImplicitMatmul): void {
  const { rows, columns, batch } = m;
  const extent = { rows, columns: m.activation === 'geglu' ? 2 * columns : columns, batch };
  const k = m.window.kh * m.window.kw * m.channels;
  const parts = to.facts.schedule === 'tiled' ? partsAlong(k, extent) : 1;
  if (parts === 1) {
    emit(to, m, extent, { parts, part: k });
    return;
  }
  const sums = to.scratch('partial sums', [parts, batch, rows, extent.columns]);
  const bare = { bias: null, scale: null, residual: null, activation: 'none' } as const;
  const part = ALIGNED * Math.ceil(k / parts / ALIGNED);
  emit(to, { ...m, ...bare, output: sums, columns: extent.columns }, extent, { parts, part });
  sumParts(to, m, { sums, parts, batch, rows, columns });
}

/**
 * The same without adapters: they and the residual, where there is one (without an activation then), are a sum that is added to the results. For ways to
 * compute a convolution whose sums are not over rows of windows.
 */
export function adaptersAsResidual(to: Lowering, m: ImplicitMatmul): ImplicitMatmul {
  const { t, up } = m;
  if (!t || !up) return m;
  const residual = to.scratch('adapters', m.output.shape);
  lowerImplicitMatmul(to, {
    x: t,
    w: up,
    bias: null,
    residual: m.residual,
    output: residual,
    rows: m.rows,
    columns: m.columns,
    channels: up.shape[1],
    ...plainRows(m.rows),
    batch: 1,
    activation: 'none',
  });
  return { ...m, t: null, up: null, residual, residualFirst: true };
}

/** Elements of k of which a part of a sum has a multiple: whole tiles of any kernel. */
const ALIGNED = 32;

function emit(to: Lowering, m: ImplicitMatmul, extent: Extent, { parts, part }: { parts: number; part: number }): void {
  const { kh, kw } = m.window;
  const gated = m.activation === 'geglu';
  const turned = m.turned ?? false;
  const subgroup = to.facts.schedule === 'subgroup';
  const variant: MatmulVariant = {
    x: m.x.dtype as Float,
    w: m.w.dtype,
    inWidth: m.channels % 4 === 0 && (!turned || m.columns % 4 === 0) ? 4 : 1,
    epilogue: epilogueOf(m, gated && subgroup ? 1 : width([m.columns / (m.planes?.count ?? 1)]), subgroup),
    lowRank: Boolean(m.t),
    turned,
    windowed: isWindowed(m),
  };
  const lanes = to.facts.subgroupSizes[0];
  const { count: planes, apart } = m.planes ?? { count: 1, apart: 0 };
  const unit = to.facts.schedule === 'matrix' && suitsMatrices(variant, m.activations ?? false) ? to.facts.matrixUnit : undefined;
  const size = tileSize(to.facts, extent, variant.windowed ? 'Windows' : 'Rows');
  const tile = subgroup ? subgroupTile(lanes, gated) : unit ? matrixTile(gated) : tiledTile(size, gated);
  const rowTiles = Math.ceil(m.rows / tile.rows);
  const columnTiles = Math.ceil(m.columns / tile.columns);
  to.dispatch({
    shader: subgroup ? subgroupMatmul(lanes, variant) : unit ? matrixMatmul(variant, unit, to.facts.features) : tiledMatmul(variant, size),
    operands: { x: m.x, w: m.w, ...epilogueOperands(m, subgroup ? m.x : null), t: m.t, up: m.up },
    params: {
      rows: m.rows,
      columns: m.columns,
      channels: m.channels / variant.inWidth,
      k: (kh * kw * m.channels) / variant.inWidth,
      row_tiles: rowTiles,
      column_tiles: columnTiles,
      batch: m.batch,
      parts,
      part: part / variant.inWidth,
      x_batch: sizeOf(m.x.shape) / variant.inWidth / m.batch,
      w_batch: sizeOf(m.w.shape) / variant.inWidth / m.batch,
      ...windowParams(m),
      rank: m.up ? m.up.shape[1] / 4 : 0,
      ...when(subgroup, {
        tile_rows: tile.rows,
        image_rows: m.rows / imagesOf(m),
        plane: apart,
        plane_columns: m.columns / planes,
        plane_share: planes / m.columns,
      }),
      ...epilogueParams(m, m.rows),
    },
    threads: rowTiles * columnTiles * m.batch * parts * (subgroup ? lanes : unit ? MATRIX_THREADS : tiledThreads(size)),
    flops: 2 * m.rows * sizeOf(m.w.shape),
  });
}
