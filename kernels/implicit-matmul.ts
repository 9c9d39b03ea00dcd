/**
 * Implicit matmul: y[b, r, o] = act(sum over ky, kx, c of x[b, pixel of r under (ky, kx), c] w[b, o, ky, kx, c] + bias[o]) + residual[b, r, o].
 * With `lowRank` the sum goes on over another pair of factors, t[r, k] up[o, k]: adapters, whose ranks lie one behind the other in k.
 * A convolution is a matmul whose rows are gathered from the image instead of being stored (im2col without the columns; Chellapilla et al.
 * 2006). Linear layers are the case of a 1 x 1 window, in which every token is a pixel; products of two activations have a batch axis.
 *
 * Here is what the schedules share: sizes, bindings and the last step. The schedules are in files of their own.
 */
import { type Lowering, type Operand, width } from '../core/op.ts';
import { type Binding, type DType, elementType, type ShaderSpec } from '../core/shader.ts';
import { sizeOf } from '../core/tensor.ts';
import { type Activation, activationCode, activationWgsl } from './activation.ts';
import { subgroupMatmul, subgroupTile } from './implicit-matmul-subgroup.ts';
import { TILE, TILED_THREADS, tiledMatmul } from './implicit-matmul-tiled.ts';

export interface ImplicitMatmul {
  x: Operand;
  w: Operand;
  /** A value for each column: added, or with `scaled` multiplied by. */
  bias: Operand | null;
  scaled?: boolean;
  /** t (rows, R) f32, up (columns, R) f32, R a multiple of 4; of one batch only. */
  lowRank?: { t: Operand; up: Operand } | null;
  residual: Operand | null;
  /** Whether the residual is added before the activation instead of after it. */
  residualFirst?: boolean;
  output: Operand;
  /** Rows of the result in one batch, its columns, and channels of x. */
  rows: number;
  columns: number;
  channels: number;
  /** Size of x's image and of the result's. */
  image: { h: number; w: number; oh: number; ow: number };
  window: { kh: number; kw: number; stride: number; top: number; left: number };
  /** Number of independent products; each has its own x, w and y. */
  batch: number;
  activation: Activation;
}

type Float = 'f32' | 'f16';

/** Which shader: element types, and elements a load of x and w moves (along channels) and a store of y (along columns). */
export interface MatmulVariant {
  x: Float;
  w: DType;
  residual: Float;
  inWidth: 1 | 4;
  outWidth: 1 | 4;
  /** Whether there is a second pair of factors. */
  lowRank: boolean;
  /** Whether there is an activation. CPU drivers compute every branch of `activate`, which costs as much as many channels. */
  activated: boolean;
  /** False where rows of x are read as they are: a 1 x 1 window, stride 1, no padding. */
  windowed: boolean;
}

/** Rows and columns of the result that one workgroup, or one thread, computes. */
export interface Tile {
  rows: number;
  columns: number;
}

/** Emits the dispatch of an implicit matmul, in the schedule of the adapter. */
export function lowerImplicitMatmul(to: Lowering, m: ImplicitMatmul): void {
  const { kh, kw, stride, top, left } = m.window;
  const variant: MatmulVariant = {
    x: m.x.dtype as Float,
    w: m.w.dtype,
    residual: (m.residual?.dtype ?? 'f32') as Float,
    inWidth: m.channels % 4 === 0 ? 4 : 1,
    outWidth: width(m.output.shape),
    lowRank: Boolean(m.lowRank),
    activated: m.activation !== 'none',
    windowed: kh * kw * stride > 1 || top > 0 || left > 0 || m.image.oh > m.image.h || m.image.ow > m.image.w,
  };
  const lanes = to.facts.subgroupSizes[0];
  const subgroup = to.facts.schedule === 'subgroup';
  const tile = subgroup ? subgroupTile(lanes) : TILE;
  const rowTiles = Math.ceil(m.rows / tile.rows);
  const columnTiles = Math.ceil(m.columns / tile.columns);
  to.dispatch({
    shader: subgroup ? subgroupMatmul(lanes, variant) : tiledMatmul(variant),
    operands: [m.x, m.w, m.bias, m.residual, m.output, ...(m.lowRank ? [m.lowRank.t, m.lowRank.up] : [])],
    params: [
      m.rows,
      m.columns,
      m.channels / variant.inWidth,
      (m.window.kh * m.window.kw * m.channels) / variant.inWidth,
      rowTiles,
      columnTiles,
      m.batch,
      sizeOf(m.x.shape) / variant.inWidth / m.batch,
      sizeOf(m.w.shape) / variant.inWidth / m.batch,
      m.image.h,
      m.image.w,
      m.image.oh,
      m.image.ow,
      m.window.kh,
      m.window.kw,
      m.window.stride,
      m.window.top,
      m.window.left,
      activationCode(m.activation),
      columnMode(m),
      residualMode(m),
      m.lowRank ? m.lowRank.t.shape[m.lowRank.t.shape.length - 1] / 4 : 0,
    ],
    threads: rowTiles * columnTiles * m.batch * (subgroup ? lanes : TILED_THREADS),
    flops: 2 * m.batch * m.rows * m.columns * kh * kw * m.channels,
  });
}

/** Uniform parameters of every schedule. */
export const MATMUL_PARAMS: ShaderSpec['params'] = [
  'rows: u32',
  'columns: u32',
  'channels: u32', // of x, in loads
  'k: u32', // window elements of one output channel, in loads
  'row_tiles: u32',
  'column_tiles: u32',
  'batch: u32',
  'x_batch: u32', // elements of x and w in one batch, in loads
  'w_batch: u32',
  'h: u32',
  'width: u32',
  'oh: u32',
  'ow: u32',
  'kh: u32',
  'kw: u32',
  'stride: u32',
  'top: u32',
  'left: u32',
  'activation: u32',
  'column_mode: u32',
  'residual_mode: u32',
  'rank: u32', // of t and up, in loads of four
];

/** What `finish` does with `bias` and `residual`. */
export const columnMode = ({ bias, scaled }: Pick<ImplicitMatmul, 'bias' | 'scaled'>): number => (bias ? (scaled ? 2 : 1) : 0);
export const residualMode = ({ residual, residualFirst }: Pick<ImplicitMatmul, 'residual' | 'residualFirst'>): number =>
  residual ? (residualFirst ? 2 : 1) : 0;

export function matmulBindings({ x, w, residual, inWidth, outWidth, lowRank }: MatmulVariant): Binding[] {
  return [
    { name: 'x', dtype: x, width: inWidth },
    { name: 'w', dtype: w, width: inWidth },
    { name: 'bias', dtype: 'f32', width: outWidth },
    { name: 'residual', dtype: residual, width: outWidth },
    { name: 'y', dtype: 'f32', width: outWidth, write: true },
    ...(lowRank ? LOW_RANK : []),
  ];
}

const LOW_RANK: Binding[] = ['t', 'up'].map((name) => ({ name, dtype: 'f32', width: 4 }));

/** WGSL of `finish4(batch, row, column, sums: vec4<f32>)`: bias, activation, residual and store of four columns; what lies outside is dropped. */
export function finishWgsl(outWidth: 1 | 4, activated: boolean): string {
  const type = elementType({ dtype: 'f32', width: outWidth }) as 'f32' | 'vec4<f32>';
  return `
${activated ? activationWgsl(type) : ''}
fn finish(batch: u32, row: u32, column: u32, sum: ${type}) {
  if (row >= p.rows || column >= p.columns) { return; }
  var v = sum;
  let i = ((batch * p.rows + row) * p.columns + column) / ${outWidth}u;
  if (p.column_mode == 1u) { v += bias_load(column / ${outWidth}u); }
  if (p.column_mode == 2u) { v *= bias_load(column / ${outWidth}u); }
  if (p.residual_mode == 2u) { v += residual_load(i); }
  ${activated ? 'v = activate(p.activation, v);' : ''}
  if (p.residual_mode == 1u) { v += residual_load(i); }
  y_store(i, v);
}
fn finish4(batch: u32, row: u32, column: u32, sums: vec4<f32>) {
  ${outWidth === 4 ? 'finish(batch, row, column, sums);' : 'for (var j = 0u; j < 4u; j++) { finish(batch, row, column + j, sums[j]); }'}
}`;
}
