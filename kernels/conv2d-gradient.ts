/**
 * What conv2d's gradient by its input needs beside conv2d itself: it is a convolution of the upstream derivative, spread out by the stride, with the
 * window reversed and in and out exchanged. That by its weight is in weight-gradient.ts.
 */
import { apply, type Op } from '../core/op.ts';
import { type DType, shader } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { pad, slice } from './copy.ts';
import { reshape } from './reshape.ts';

/** w (O, kh, kw, C) -> (C, kh, kw, O), the window turned by half a turn: y[c, ky, kx, o] = w[o, kh - 1 - ky, kw - 1 - kx, c]. */
export function reverseWindow(w: Tensor): Tensor {
  return apply(reverseWindowOp, { w }, null);
}

export const reverseWindowOp: Op<null, { w: Tensor }> = {
  name: 'reverseWindow',

  infer({ w }) {
    const [o, kh, kw, c] = w.shape;
    return { shape: [c, kh, kw, o], dtype: 'f32' };
  },

  lower({ w }, output, _attrs, to) {
    const [o, kh, kw, c] = w.shape;
    const threads = sizeOf(output.shape);
    to.dispatch({
      shader: reverseWindowShader(w.dtype),
      operands: { w, y: output },
      params: { count: threads, outs: o, taps: kh * kw, channels: c },
      threads,
    });
  },
};

function reverseWindowShader(w: DType) {
  return shader({
    name: `reverseWindow ${w}`,
    bindings: {
      w: { dtype: w, width: 1 },
      y: { dtype: 'f32', width: 1, write: true },
    },
    params: { count: 'u32', outs: 'u32', taps: 'u32', channels: 'u32' },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let o = id % p.outs;
  let tap = p.taps - 1u - (id / p.outs) % p.taps;
  let c = id / (p.outs * p.taps);
  y_store(id, w_load((o * p.taps + tap) * p.channels + c));
}`,
  });
}

/** g (N, H, W, C) with stride - 1 zeros between pixels. -> (N, (H - 1) stride + 1, (W - 1) stride + 1, C) */
export function spread(g: Tensor, stride: number): Tensor {
  if (stride === 1) return g;
  const [n, h, w, c] = g.shape;
  const wide = reshape(
    pad(reshape(g, [n * h * w, 1, c]), [
      [0, 0],
      [0, stride - 1],
      [0, 0],
    ]),
    [n * h, 1, w * stride * c],
  );
  const high = reshape(
    pad(wide, [
      [0, 0],
      [0, stride - 1],
      [0, 0],
    ]),
    [n, h * stride, w * stride, c],
  );
  return slice(slice(high, 1, 0, (h - 1) * stride + 1), 2, 0, (w - 1) * stride + 1);
}
