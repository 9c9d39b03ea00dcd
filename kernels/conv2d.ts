/**
 * conv2d: y[n, oy, ox, o] = act(sum over ky, kx, c of x[n, oy s + ky - top, ox s + kx - left, c] w[o, ky, kx, c] + bias[o]) + residual.
 * x (N, H, W, C) f32 | f16; w (O, kh, kw, C) f32 | f16; bias (O) f32, or (N, O) where a value of each image joined it; residual and y (N, OH, OW, O). Outside x is zero. Accumulates in f32.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { describe, type Shape, sameShape, showShape, sizeOf, type Tensor } from '../core/tensor.ts';

import { reverseWindow, rowsGradient, spread, weightGradient } from './conv2d-gradient.ts';
import { permute } from './copy.ts';
import type { LastActivation } from './epilogue.ts';
import { type ImplicitMatmul, lowerImplicitMatmul } from './implicit-matmul.ts';
import { checkLowRank, type LayerAttrs, operandsOf, unscaled } from './low-rank.ts';
import { reshape } from './reshape.ts';
import { sumRows } from './sum-axis.ts';
import { lowerWinograd, suitsWinograd } from './winograd.ts';

export interface Conv2dOptions {
  /** Step of the window in pixels. Default 1. */
  stride?: number;
  /** Zero pixels at [top, bottom, left, right]; a number means all four. Default 0. The VAE's downsampling pads [0, 1, 0, 1]. */
  padding?: number | [number, number, number, number];
}

interface Attrs extends LayerAttrs {
  stride: number;
  padding: [number, number, number, number];
  activation: LastActivation;
  /** 1 where the window sees every pixel of x twice, down and across: nearest upsampling that joined the convolution. */
  zoom: 0 | 1;
}

/** Convolves x (N, H, W, C) with w (O, kh, kw, C). -> (N, OH, OW, O), OH = floor((H + top + bottom - kh) / stride) + 1. Throws ShapeError. */
export function conv2d(x: Tensor, w: Tensor, bias: Tensor | null = null, options: Conv2dOptions = {}): Tensor {
  const padding = options.padding ?? 0;
  return apply(conv2dOp, bias ? [x, w, bias] : [x, w], {
    stride: options.stride ?? 1,
    padding: typeof padding === 'number' ? [padding, padding, padding, padding] : padding,
    activation: 'none',
    zoom: 0,
    hasBias: bias !== null,
    scaled: false,
    hasLowRank: false,
    hasResidual: false,
  });
}

export const conv2dOp: Op<Attrs> = {
  name: 'conv2d',

  infer(inputs, attrs) {
    const { stride, padding, zoom } = attrs;
    const { x, w, bias, lowRank } = operandsOf(inputs, attrs);
    const fail = (why: string) => new ShapeError(`conv2d: ${why}. x is ${describe(x)}, the weight is ${describe(w)}.`);
    if (x.shape.length !== 4 || w.shape.length !== 4) throw fail('x must be (N, H, W, C) and the weight (O, kh, kw, C)');
    const [n, h, width, c] = x.shape;
    const [o, kh, kw, wc] = w.shape;
    if (c !== wc) throw fail(`x has ${c} channels, the weight expects ${wc}`);
    if (bias && (![[o], [n, o]].some((fits) => sameShape(bias.shape, fits)) || bias.dtype !== 'f32'))
      throw fail(`the bias must be (${o}) f32, not ${showShape(bias.shape)} ${bias.dtype}`);
    const oh = Math.floor(((h << zoom) + padding[0] + padding[1] - kh) / stride) + 1;
    const ow = Math.floor(((width << zoom) + padding[2] + padding[3] - kw) / stride) + 1;
    if (oh < 1 || ow < 1) throw fail('the window is larger than the padded image');
    const shape = [n, oh, ow, o];
    if (lowRank) checkLowRank(lowRank, shape);
    return { shape, dtype: 'f32' };
  },

  lower(inputs, output, attrs, to) {
    const { x, w, bias, lowRank, residual } = operandsOf(inputs, attrs);
    const [, h, wid, c] = x.shape;
    const [, kh, kw] = w.shape;
    const [, oh, ow, o] = output.shape;
    const { zoom } = attrs;
    const convolution: ImplicitMatmul = {
      x,
      w,
      bias,
      scaled: attrs.scaled,
      lowRank,
      residual,
      output,
      rows: sizeOf(output.shape) / o,
      columns: o,
      channels: c,
      image: { h: h << zoom, w: wid << zoom, oh, ow, zoom },
      window: { kh, kw, stride: attrs.stride, top: attrs.padding[0], left: attrs.padding[2] },
      batch: 1,
      activation: attrs.activation,
    };
    if (suitsWinograd(convolution)) lowerWinograd(to, convolution);
    else lowerImplicitMatmul(to, convolution);
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x, w, bias, lowRank } = operandsOf(inputs, attrs);
    const [, h, width] = x.shape;
    const [o, kh, kw] = w.shape;
    const { stride, padding } = attrs;
    const [top, , left] = padding;
    const dy = unscaled(upstream, bias, attrs);
    const g = spread(dy, stride);
    const edges: [number, number, number, number] = [kh - 1 - top, h - g.shape[1] + top, kw - 1 - left, width - g.shape[2] + left];
    return [
      conv2d(g, reverseWindow(w), null, { padding: edges }),
      weightGradient(dy, x, { kh, kw, stride, top, left }),
      ...(bias ? [attrs.scaled ? null : sumRows(dy, bias.shape)] : []),
      ...(lowRank ? [conv2d(dy, reshape(permute(lowRank.up, [1, 0]), [lowRank.up.shape[1], 1, 1, o])), rowsGradient(dy, lowRank.t)] : []),
    ];
  },

  flops(inputs, output, attrs) {
    const { w, lowRank } = operandsOf(inputs, attrs);
    return 2 * sizeOf(output.shape) * (sizeOf(w.shape) / w.shape[0] + (lowRank?.up.shape[1] ?? 0));
  },
};

/** Shape of a row-major tensor seen as rows of its last axis. */
export function rowsOf(shape: Shape): number {
  return sizeOf(shape) / shape[shape.length - 1];
}
