/**
 * linear: y = act(x W^T + bias) + residual over the last axis of x, a 1x1 convolution in which every token is a pixel. A geglu that alone reads the
 * result becomes part of it: y (..., O / 2).
 * x (..., I) f32 | f16; w (O, I) f32 | f16; bias (O) f32; y (..., O) f32.
 *
 * matmul: y[b] = a[b] c[b] or a[b] c[b]^T for two activations; both run conv2d's kernel.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { describe, sameShape, showShape, sizeOf, type Tensor } from '../core/tensor.ts';
import { rowsOf } from './conv2d.ts';
import { permute } from './copy.ts';
import type { LastActivation } from './epilogue.ts';
import { lowerImplicitMatmul, plainRows } from './implicit-matmul.ts';
import { BARE, checkLowRank, type LayerInputs, unscaled } from './low-rank.ts';
import { placeBehind } from './part.ts';
import { sumRows } from './sum-axis.ts';
import { rowsGradient } from './weight-gradient.ts';

export interface LinearAttrs {
  /** True when the second operand has a batch axis of its own. */
  batched: boolean;
  activation: LastActivation;
  /** Whether w lies as (in, out): for derivatives, and products of matrices as they are. */
  turned: boolean;
  /** Of how many layers w and bias are, one after the other (side-by-side.ts), where it is more than one. */
  layers?: number;
}

/** x (..., I), w (O, I), bias (O) -> (..., O). Throws ShapeError. */
export function linear(x: Tensor, w: Tensor, bias: Tensor | null = null): Tensor {
  return apply(linearOp, { ...BARE, x, w, bias }, { activation: 'none', batched: false, turned: false });
}

/** x (..., O) times w (O, I), such as the derivative by the result of a linear layer of w. -> (..., I) */
export function turnedLinear(x: Tensor, w: Tensor): Tensor {
  return apply(linearOp, { ...BARE, x, w }, { activation: 'none', batched: false, turned: true });
}

/** a (B, M, K) times b (B, K, N), or b (B, N, K) with `transposed` -> (B, M, N). Throws ShapeError. */
export function matmul(a: Tensor, b: Tensor, { transposed = false } = {}): Tensor {
  if (a.shape.length !== 3 || b.shape.length !== 3)
    throw new ShapeError(`matmul: both operands must be (batch, rows, columns), not ${describe(a)} and ${describe(b)}.`);
  if (a.shape[0] !== b.shape[0] || a.shape[2] !== b.shape[transposed ? 2 : 1])
    throw new ShapeError(`matmul: ${describe(a)} and ${describe(b)}${transposed ? ' transposed' : ''} do not fit.`);
  return apply(linearOp, { ...BARE, x: a, w: b }, { activation: 'none', batched: true, turned: !transposed });
}

export const linearOp: Op<LinearAttrs, LayerInputs> = {
  name: 'linear',

  infer(inputs, attrs) {
    const { x, w, bias } = inputs;
    const fail = (why: string) => new ShapeError(`linear: ${why}. x is ${describe(x)}, the weight is ${describe(w)}.`);
    const inner = x.shape[x.shape.length - 1];
    const [out, expected] = attrs.turned ? w.shape.slice(-2).reverse() : w.shape.slice(-2);
    if (w.shape.length !== (attrs.batched ? 3 : 2)) throw fail('the weight must be (out, in)');
    if (inner !== expected) throw fail(`x has ${inner} columns, the weight expects ${expected}`);
    if (bias && (!sameShape(bias.shape, [out]) || bias.dtype !== 'f32'))
      throw fail(`the bias must be (${out}) f32, not ${showShape(bias.shape)} ${bias.dtype}`);
    const shape = (columns: number) => [...x.shape.slice(0, -1), columns];
    const { layers = 1 } = attrs;
    if (layers > 1) return { shape: [layers, placeBehind(rowsOf(x.shape) * (out / layers))], dtype: 'f32' };
    checkLowRank(inputs, shape(out));
    return { shape: shape(attrs.activation === 'geglu' ? out / 2 : out), dtype: 'f32' };
  },

  lower(inputs, output, attrs, to) {
    const { x, w } = inputs;
    const batch = attrs.batched ? w.shape[0] : 1;
    const rows = rowsOf(x.shape) / batch;
    const { layers = 1 } = attrs;
    lowerImplicitMatmul(to, {
      ...inputs,
      output,
      rows,
      columns: layers > 1 ? w.shape[0] : output.shape[output.shape.length - 1],
      planes: layers > 1 ? { count: layers, apart: output.shape[1] } : undefined,
      channels: x.shape[x.shape.length - 1],
      ...plainRows(rows),
      batch,
      turned: attrs.turned,
      activations: attrs.batched,
      activation: attrs.activation,
    });
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x, w, bias, t, up } = inputs;
    const { batched, turned } = attrs;
    const [first, second] = turned ? [x, upstream] : [upstream, x];
    if (batched) return { ...BARE, x: matmul(upstream, w, { transposed: turned }), w: matmul(permute(first, [0, 2, 1]), second) };
    const dy = unscaled(upstream, inputs);
    if (turned) return { ...BARE, x: linear(dy, w), w: rowsGradient(x, dy) };
    return {
      ...BARE,
      x: turnedLinear(dy, w),
      w: rowsGradient(dy, x),
      bias: bias && sumRows(dy, bias.shape),
      t: up && turnedLinear(dy, up),
      up: t && rowsGradient(dy, t),
    };
  },

  flops({ x, w, up }, output, { batched, layers = 1 }) {
    if (layers > 1) return 2 * rowsOf(x.shape) * sizeOf(w.shape);
    return 2 * rowsOf(output.shape) * (sizeOf(w.shape) / (batched ? w.shape[0] : 1) + (up ? sizeOf(up.shape) : 0));
  },
};
