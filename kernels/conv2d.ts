/**
 * conv2d: y[n, oy, ox, o] = act(sum over ky, kx, c of x[n, oy s + ky - top, ox s + kx - left, c] w[o, ky, kx, c] + bias[o]) + residual.
 * x (N, H, W, C) f32 | f16; w (O, kh, kw, C) f32 | f16; bias (O) f32; residual and y (N, OH, OW, O). Outside x is zero. Accumulates in f32.
 *
 * A convolution is a matmul whose rows are gathered, so this one kernel also computes linear layers (kh = kw = 1, every token a pixel) and
 * batched products of two activations (w with a batch axis). A thread computes ROWS x COLUMNS results from registers, with no workgroup
 * memory: each loaded vec4 of x serves COLUMNS results, each of w ROWS.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, isOp, type Lowering, type Op, type Operand, width } from '../core/op.ts';
import { elementType, type ShaderSpec } from '../core/shader.ts';
import { describe, type Shape, sameShape, showShape, sizeOf, type Tensor } from '../core/tensor.ts';
import { type Activation, activationCode, activationWgsl } from './activation.ts';
import { binaryOp } from './binary.ts';
import { unaryOp } from './unary.ts';

export interface Conv2dOptions {
  /** Step of the window in pixels. Default 1. */
  stride?: number;
  /** Zero pixels at [top, bottom, left, right]; a number means all four. Default 0. The VAE's downsampling pads [0, 1, 0, 1]. */
  padding?: number | [number, number, number, number];
}

interface Attrs {
  stride: number;
  padding: [number, number, number, number];
  activation: Activation;
  hasBias: boolean;
  hasResidual: boolean;
}

const ROWS = 4;
const COLUMNS = 8;

/** Convolves x (N, H, W, C) with w (O, kh, kw, C). -> (N, OH, OW, O), OH = floor((H + top + bottom - kh) / stride) + 1. Throws ShapeError. */
export function conv2d(x: Tensor, w: Tensor, bias: Tensor | null = null, options: Conv2dOptions = {}): Tensor {
  const padding = options.padding ?? 0;
  return apply(conv2dOp, bias ? [x, w, bias] : [x, w], {
    stride: options.stride ?? 1,
    padding: typeof padding === 'number' ? [padding, padding, padding, padding] : padding,
    activation: 'none',
    hasBias: bias !== null,
    hasResidual: false,
  });
}

export const conv2dOp: Op<Attrs> = {
  name: 'conv2d',

  infer(inputs, { stride, padding, hasBias }) {
    const [x, w] = inputs;
    const fail = (why: string) => new ShapeError(`conv2d: ${why}. x is ${describe(x)}, the weight is ${describe(w)}.`);
    if (x.shape.length !== 4 || w.shape.length !== 4) throw fail('x must be (N, H, W, C) and the weight (O, kh, kw, C)');
    const [n, h, width, c] = x.shape;
    const [o, kh, kw, wc] = w.shape;
    if (c !== wc) throw fail(`x has ${c} channels, the weight expects ${wc}`);
    if (hasBias && (!sameShape(inputs[2].shape, [o]) || inputs[2].dtype !== 'f32'))
      throw fail(`the bias must be (${o}) f32, not ${showShape(inputs[2].shape)} ${inputs[2].dtype}`);
    const oh = Math.floor((h + padding[0] + padding[1] - kh) / stride) + 1;
    const ow = Math.floor((width + padding[2] + padding[3] - kw) / stride) + 1;
    if (oh < 1 || ow < 1) throw fail('the window is larger than the padded image');
    return { shape: [n, oh, ow, o], dtype: 'f32' };
  },

  lower(inputs, output, attrs, to) {
    const [x, w] = inputs;
    const [, h, wid, c] = x.shape;
    const [, kh, kw] = w.shape;
    const [, oh, ow, o] = output.shape;
    lowerWindowed(to, {
      x,
      w,
      bias: attrs.hasBias ? inputs[2] : null,
      residual: attrs.hasResidual ? inputs[inputs.length - 1] : null,
      output,
      rows: sizeOf(output.shape) / o,
      columns: o,
      channels: c,
      image: { h, w: wid, oh, ow },
      window: { kh, kw, stride: attrs.stride, top: attrs.padding[0], left: attrs.padding[2] },
      batch: 1,
      activation: attrs.activation,
    });
  },

  absorb(producer, consumer, index) {
    const { inputs, attrs } = producer.source;
    return absorbEpilogue(producer, consumer, index, attrs, (residual, activation) =>
      apply(conv2dOp, residual ? [...inputs, residual] : inputs, {
        ...attrs,
        activation,
        hasResidual: attrs.hasResidual || residual !== null,
      }),
    );
  },

  flops([, w], output) {
    return 2 * sizeOf(output.shape) * (sizeOf(w.shape) / w.shape[0]);
  },
};

/** Shared by conv2d and matmul: an activation, or a sum with a tensor of the same shape, becomes part of the producer's last step. */
export function absorbEpilogue(
  producer: Tensor,
  consumer: Tensor,
  index: number,
  state: { activation: Activation; hasResidual: boolean },
  rebuild: (residual: Tensor | null, activation: Activation) => Tensor,
): Tensor | null {
  if (state.hasResidual) return null;
  if (isOp(consumer, unaryOp) && state.activation === 'none') {
    const { fn } = consumer.source.attrs;
    return fn === 'silu' || fn === 'gelu' || fn === 'quickGelu' ? rebuild(null, fn) : null;
  }
  if (isOp(consumer, binaryOp) && consumer.source.attrs.fn === 'add') {
    const other = consumer.source.inputs[1 - index];
    return sameShape(other.shape, producer.shape) ? rebuild(other, state.activation) : null;
  }
  return null;
}

interface Windowed {
  x: Operand;
  w: Operand;
  bias: Operand | null;
  residual: Operand | null;
  output: Operand;
  /** Rows of the result in one batch, its columns, and channels of x. */
  rows: number;
  columns: number;
  channels: number;
  image: { h: number; w: number; oh: number; ow: number };
  window: { kh: number; kw: number; stride: number; top: number; left: number };
  /** Number of independent products; each has its own x, w and y. */
  batch: number;
  activation: Activation;
}

/** Emits the dispatch of a gathered matmul; see the head of the file. */
export function lowerWindowed(to: Lowering, m: Windowed): void {
  const inWidth = m.channels % 4 === 0 ? 4 : 1;
  const outWidth = width(m.output.shape);
  const rowTiles = Math.ceil(m.rows / ROWS);
  const columnTiles = Math.ceil(m.columns / COLUMNS);
  const k = m.window.kh * m.window.kw * m.channels;
  to.dispatch({
    shader: windowedShader(
      inWidth,
      outWidth,
      m.x.dtype as 'f32' | 'f16',
      m.w.dtype as 'f32' | 'f16',
      (m.residual?.dtype ?? 'f32') as 'f32' | 'f16',
    ),
    operands: [m.x, m.w, m.bias, m.residual, m.output],
    params: [
      m.rows,
      m.columns,
      m.channels / inWidth,
      k / inWidth,
      rowTiles,
      columnTiles,
      m.batch,
      sizeOf(m.x.shape) / inWidth / m.batch,
      sizeOf(m.w.shape) / inWidth / m.batch,
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
      m.bias !== null,
      m.residual !== null,
    ],
    threads: rowTiles * columnTiles * m.batch,
  });
}

const each = (count: number, line: (i: number) => string) => Array.from({ length: count }, (_, i) => line(i)).join('\n');

function windowedShader(inWidth: 1 | 4, outWidth: 1 | 4, x: 'f32' | 'f16', w: 'f32' | 'f16', residual: 'f32' | 'f16'): ShaderSpec {
  const element = elementType({ dtype: 'f32', width: inWidth });
  const out = elementType({ dtype: 'f32', width: outWidth }) as 'f32' | 'vec4<f32>';
  const product = (a: string, b: string) => (inWidth === 4 ? `dot(${a}, ${b})` : `${a} * ${b}`);
  const store = (row: number) =>
    outWidth === 4
      ? each(
          COLUMNS / 4,
          (j) =>
            `finish(batch, row + ${row}u, column + ${4 * j}u, vec4<f32>(${[0, 1, 2, 3].map((q) => `s${row}_${4 * j + q}`).join(', ')}));`,
        )
      : each(COLUMNS, (j) => `finish(batch, row + ${row}u, column + ${j}u, s${row}_${j});`);
  const bias =
    outWidth === 4
      ? 'vec4<f32>(bias_load(column), bias_load(column + 1u), bias_load(column + 2u), bias_load(column + 3u))'
      : 'bias_load(column)';
  return {
    name: `conv2d ${x}x${inWidth} ${w} -> x${outWidth}`,
    bindings: [
      { name: 'x', dtype: x, width: inWidth },
      { name: 'w', dtype: w, width: inWidth },
      { name: 'bias', dtype: 'f32', width: 1 },
      { name: 'residual', dtype: residual, width: outWidth },
      { name: 'y', dtype: 'f32', width: outWidth, write: true },
    ],
    params: [
      'rows: u32',
      'columns: u32',
      'channels: u32', // of x, in loads
      'k: u32', // window elements of one output channel, in loads
      'row_tiles: u32',
      'column_tiles: u32',
      'batch: u32',
      'x_batch: u32',
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
      'has_bias: u32',
      'has_residual: u32',
    ],
    workgroup: 64,
    code: `
${activationWgsl(out)}
fn finish(batch: u32, row: u32, column: u32, sum: ${out}) {
  if (row >= p.rows || column >= p.columns) { return; }
  var v = sum;
  if (p.has_bias == 1u) { v += ${bias}; }
  v = activate(p.activation, v);
  let i = ((batch * p.rows + row) * p.columns + column) / ${outWidth}u;
  if (p.has_residual == 1u) { v += residual_load(i); }
  y_store(i, v);
}
fn run(id: u32, group: u32, local: u32) {
  let tiles = p.row_tiles * p.column_tiles;
  if (id >= tiles * p.batch) { return; }
  let batch = id / tiles;
  let tile = id % tiles;
  let row = (tile / p.column_tiles) * ${ROWS}u;
  let column = (tile % p.column_tiles) * ${COLUMNS}u;
  // Rows and columns beyond the edge repeat the last one; finish() drops them.
  ${each(COLUMNS, (j) => `let w${j} = batch * p.w_batch + min(column + ${j}u, p.columns - 1u) * p.k;`)}
  ${each(ROWS, (i) => {
    return `let r${i} = min(row + ${i}u, p.rows - 1u);
  let n${i} = r${i} / (p.oh * p.ow);
  let top${i} = i32(((r${i} / p.ow) % p.oh) * p.stride) - i32(p.top);
  let left${i} = i32((r${i} % p.ow) * p.stride) - i32(p.left);
  ${each(COLUMNS, (j) => `var s${i}_${j} = 0.0;`)}`;
  })}
  var tap = 0u;
  for (var ky = 0u; ky < p.kh; ky++) {
    for (var kx = 0u; kx < p.kw; kx++) {
      ${each(ROWS, (i) => {
        return `let y${i} = top${i} + i32(ky);
      let x${i} = left${i} + i32(kx);
      let inside${i} = y${i} >= 0 && y${i} < i32(p.h) && x${i} >= 0 && x${i} < i32(p.width);
      let a${i} = batch * p.x_batch + select(0u, ((n${i} * p.h + u32(y${i})) * p.width + u32(x${i})) * p.channels, inside${i});`;
      })}
      for (var c = 0u; c < p.channels; c++) {
        ${each(ROWS, (i) => `let v${i} = select(${element}(0.0), x_load(a${i} + c), inside${i});`)}
        ${each(COLUMNS, (j) => `let u${j} = w_load(w${j} + tap + c);`)}
        ${each(ROWS, (i) => each(COLUMNS, (j) => `s${i}_${j} += ${product(`v${i}`, `u${j}`)};`))}
      }
      tap += p.channels;
    }
  }
  ${each(ROWS, store)}
}`,
  };
}

/** Shape of a row-major tensor seen as rows of its last axis. */
export function rowsOf(shape: Shape): number {
  return sizeOf(shape) / shape[shape.length - 1];
}
