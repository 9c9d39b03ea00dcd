/**
 * conv2d: y[n, oy, ox, o] = act(sum over ky, kx, c of x[n, oy s + ky - top, ox s + kx - left, c] w[o, ky, kx, c] + bias[o]) + residual.
 * x (N, H, W, C) f32 | f16; w (O, kh, kw, C) f32 | f16; bias (O) f32, or (N, O) where a value of each image joined it; residual and y (N, OH, OW, O). Outside x is zero. Accumulates in f32.
 */
import { ShapeError, UserError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { describe, type Shape, sameShape, showShape, sizeOf, type Tensor } from '../core/tensor.ts';

import type { LastActivation } from './epilogue.ts';
import { type ImplicitMatmul, lowerImplicitMatmul } from './implicit-matmul.ts';
import { BARE, checkLowRank, type LayerInputs, unscaled } from './low-rank.ts';
import { reshape } from './reshape.ts';
import { spread } from './spread.ts';
import { sumRows } from './sum-axis.ts';
import { hasFewInputs, hasFewOutputs, lowerByTaps, lowerKeptWindows } from './thin-convolution.ts';
import { rowsGradient, weightGradient } from './weight-gradient.ts';
import { lowerWinograd, suitsWinograd } from './winograd.ts';

export interface Conv2dOptions {
  /** Step of the window in pixels. Default 1. */
  stride?: number;
  /** Zero pixels at [top, bottom, left, right]; a number means all four. Default 0. The VAE's downsampling pads [0, 1, 0, 1]. */
  padding?: number | [number, number, number, number];
}

export interface Conv2dAttrs {
  stride: number;
  padding: [number, number, number, number];
  activation: LastActivation;
  /** 1 where the window sees every pixel of x twice, down and across: nearest upsampling that joined the convolution. */
  zoom: 0 | 1;
  /** Whether this is the derivative by the input of a convolution of w: w is (C, kh, kw, O), its window turned by half a turn. */
  turned: boolean;
}

/** Convolves x (N, H, W, C) with w (O, kh, kw, C). -> (N, OH, OW, O), OH = floor((H + top + bottom - kh) / stride) + 1. Throws ShapeError. */
export function conv2d(x: Tensor, w: Tensor, bias: Tensor | null = null, options: Conv2dOptions = {}): Tensor {
  const padding = options.padding ?? 0;
  return apply(
    conv2dOp,
    { ...BARE, x, w, bias },
    {
      stride: options.stride ?? 1,
      padding: typeof padding === 'number' ? [padding, padding, padding, padding] : padding,
      activation: 'none',
      zoom: 0,
      turned: false,
    },
  );
}

/** x (N, H, W, O) as the derivative by the result of a convolution of w (O, kh, kw, C), of stride 1. -> (N, OH, OW, C), the derivative by its input */
function turnedConv2d(x: Tensor, w: Tensor, padding: Conv2dAttrs['padding']): Tensor {
  return apply(conv2dOp, { ...BARE, x, w }, { stride: 1, padding, activation: 'none', zoom: 0, turned: true });
}

/** Shape of w in the order (outs, kh, kw, ins). */
const windowShape = ({ shape: [a, kh, kw, b] }: { shape: Shape }, turned: boolean): Shape => (turned ? [b, kh, kw, a] : [a, kh, kw, b]);

export const conv2dOp: Op<Conv2dAttrs, LayerInputs> = {
  name: 'conv2d',

  infer(inputs, { stride, padding, zoom, turned }) {
    const { x, w, bias } = inputs;
    const fail = (why: string) => new ShapeError(`conv2d: ${why}. x is ${describe(x)}, the weight is ${describe(w)}.`);
    if (x.shape.length !== 4 || w.shape.length !== 4) throw fail('x must be (N, H, W, C) and the weight (O, kh, kw, C)');
    const [n, h, width, c] = x.shape;
    const [o, kh, kw, wc] = windowShape(w, turned);
    if (c !== wc) throw fail(`x has ${c} channels, the weight expects ${wc}`);
    if (bias && (![[o], [n, o]].some((fits) => sameShape(bias.shape, fits)) || bias.dtype !== 'f32'))
      throw fail(`the bias must be (${o}) f32, not ${showShape(bias.shape)} ${bias.dtype}`);
    const oh = Math.floor(((h << zoom) + padding[0] + padding[1] - kh) / stride) + 1;
    const ow = Math.floor(((width << zoom) + padding[2] + padding[3] - kw) / stride) + 1;
    if (oh < 1 || ow < 1) throw fail('the window is larger than the padded image');
    const shape = [n, oh, ow, o];
    checkLowRank(inputs, shape);
    return { shape, dtype: 'f32' };
  },

  lower(inputs, output, attrs, to) {
    const { x, w } = inputs;
    const [, h, wid, c] = x.shape;
    const [, kh, kw] = w.shape;
    const [, oh, ow, o] = output.shape;
    const { zoom, turned } = attrs;
    const convolution: ImplicitMatmul = {
      ...inputs,
      output,
      rows: sizeOf(output.shape) / o,
      columns: o,
      channels: c,
      image: { h: h << zoom, w: wid << zoom, oh, ow, zoom },
      window: { kh, kw, stride: attrs.stride, top: attrs.padding[0], left: attrs.padding[2] },
      batch: 1,
      turned,
      activation: attrs.activation,
    };
    if (hasFewInputs(convolution, to.facts)) lowerKeptWindows(to, convolution);
    else if (hasFewOutputs(convolution)) lowerByTaps(to, convolution);
    else if (suitsWinograd(convolution, to.facts)) lowerWinograd(to, convolution);
    else lowerImplicitMatmul(to, convolution);
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x, w, bias, t, up } = inputs;
    const [, h, width] = x.shape;
    const [o, kh, kw] = w.shape;
    const { stride, padding, turned } = attrs;
    if (turned) throw new UserError('gradient: the derivative of a convolution has none of its own here.');
    const [top, , left] = padding;
    const dy = unscaled(upstream, inputs);
    const g = spread(dy, stride);
    const edges: [number, number, number, number] = [kh - 1 - top, h - g.shape[1] + top, kw - 1 - left, width - g.shape[2] + left];
    return {
      ...BARE,
      x: turnedConv2d(g, w, edges),
      w: weightGradient(dy, x, { kh, kw, stride, top, left }),
      bias: bias && sumRows(dy, bias.shape),
      t: up && turnedConv2d(dy, reshape(up, [o, 1, 1, up.shape[1]]), [0, 0, 0, 0]),
      up: t && rowsGradient(dy, t),
    };
  },

  flops({ w, up }, output) {
    return 2 * sizeOf(output.shape) * (sizeOf(w.shape) / output.shape[3] + (up?.shape[1] ?? 0));
  },
};

/** Shape of a row-major tensor seen as rows of its last axis. */
export function rowsOf(shape: Shape): number {
  return sizeOf(shape) / shape[shape.length - 1];
}
