/**
 * What conv2d's gradients need beside conv2d itself.
 * By its input: a convolution of the upstream derivative, spread out by the stride, with the window reversed and in and out exchanged.
 * By its weight: dw[o, ky, kx, c] = sum over pixels of g[pixel, o] x[pixel s + (ky, kx) - (top, left), c]; a linear layer's is the same with one tap.
 */
import { apply, type Op } from '../core/op.ts';
import { type DType, elementType, shader } from '../core/shader.ts';
import { type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { pad, slice } from './copy.ts';
import { reshape } from './reshape.ts';
import { lowerSum } from './sum-axis.ts';

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

interface Taps {
  kh: number;
  kw: number;
  stride: number;
  top: number;
  left: number;
}

/** g (N, OH, OW, O), x (N, H, W, C) -> dw (O, kh, kw, C). */
export function weightGradient(g: Tensor, x: Tensor, window: Taps): Tensor {
  return apply(weightGradientOp, { g, x }, window);
}

/** g (..., O), x (..., I), the same rows. -> dw (O, I) */
export function rowsGradient(g: Tensor, x: Tensor): Tensor {
  const flat = (t: Tensor) => reshape(t, [1, 1, t.size / t.shape[t.shape.length - 1], t.shape[t.shape.length - 1]]);
  const dw = weightGradient(flat(g), flat(x), { kh: 1, kw: 1, stride: 1, top: 0, left: 0 });
  return reshape(dw, [dw.shape[0], dw.shape[3]]);
}

/** Results of one thread: TILE output channels by TILE input channels of one tap. */
const TILE = 8;
/** Threads worth starting, and pixels that one should sum at least. */
const THREADS = 4096;
const PIXELS = 64;

export const weightGradientOp: Op<Taps, { g: Tensor; x: Tensor }> = {
  name: 'weightGradient',

  infer({ g, x }, { kh, kw }) {
    return { shape: [g.shape[3], kh, kw, x.shape[3]], dtype: 'f32' };
  },

  lower({ g, x }, output, { kh, kw, stride, top, left }, to) {
    const [n, oh, ow, o] = g.shape;
    const [, h, w, c] = x.shape;
    const pixels = n * oh * ow;
    const tiles = Math.ceil(o / TILE) * Math.ceil(c / TILE) * kh * kw;
    const slices = Math.max(1, Math.min(Math.ceil(pixels / PIXELS), Math.ceil(THREADS / tiles)));
    const sums = slices === 1 ? output : to.scratch('sums of slices', [slices, ...output.shape] as Shape);
    const [loadsG, loadsX] = [o, c].map((channels) => (channels % 4 === 0 ? 4 : 1)) as (1 | 4)[];
    to.dispatch({
      shader: weightGradientShader(loadsG, loadsX, g.dtype, x.dtype),
      operands: { g, x, y: sums },
      params: {
        count: tiles * slices,
        tiles,
        per_slice: Math.ceil(pixels / slices),
        pixels,
        out_tiles: Math.ceil(o / TILE),
        outs: o,
        channels: c,
        oh,
        ow,
        h,
        width: w,
        kh,
        kw,
        stride,
        top,
        left,
      },
      threads: tiles * slices,
    });
    if (slices > 1) lowerSum(to, sums, output, 1, slices);
  },

  flops({ g, x }, output) {
    return 2 * sizeOf(output.shape) * (sizeOf(g.shape) / g.shape[3]) * (x.shape.length / 4);
  },
};

const join = (count: number, line: (i: number) => string) => Array.from({ length: count }, (_, i) => line(i)).join('\n      ');

function weightGradientShader(loadsG: 1 | 4, loadsX: 1 | 4, g: DType, x: DType) {
  const type = elementType({ dtype: 'f32', width: loadsX });
  const columns = TILE / loadsX;
  const factor = (i: number) => (loadsG === 4 ? `g${Math.floor(i / 4)}[${i % 4}]` : `g${i}`);
  return shader({
    name: `weightGradient ${g}x${loadsG} ${x}x${loadsX}`,
    bindings: {
      g: { dtype: g, width: loadsG },
      x: { dtype: x, width: loadsX },
      y: { dtype: 'f32', width: loadsX, write: true },
    },
    params: {
      count: 'u32',
      tiles: 'u32',
      per_slice: 'u32',
      pixels: 'u32',
      out_tiles: 'u32',
      outs: 'u32',
      channels: 'u32',
      oh: 'u32',
      ow: 'u32',
      h: 'u32',
      width: 'u32',
      kh: 'u32',
      kw: 'u32',
      stride: 'u32',
      top: 'u32',
      left: 'u32',
    },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let slice = id / p.tiles;
  let tile = id % p.tiles;
  let o = (tile % p.out_tiles) * ${TILE}u;
  let tap = (tile / p.out_tiles) % (p.kh * p.kw);
  let c = (tile / (p.out_tiles * p.kh * p.kw)) * ${TILE}u;
  let dy = i32(tap / p.kw) - i32(p.top);
  let dx = i32(tap % p.kw) - i32(p.left);
  let outs = p.outs / ${loadsG}u;
  let channels = p.channels / ${loadsX}u;
  // Channels beyond the edge repeat the last load; they are not stored.
  ${join(TILE / loadsG, (i) => `let o${i} = min(o / ${loadsG}u + ${i}u, outs - 1u);`)}
  ${join(columns, (j) => `let c${j} = min(c / ${loadsX}u + ${j}u, channels - 1u);`)}
  ${join(TILE, (i) => join(columns, (j) => `var s${i}_${j} = ${type}(0.0);`))}
  let first = slice * p.per_slice;
  let end = min(first + p.per_slice, p.pixels);
  var ox = first % p.ow;
  var oy = (first / p.ow) % p.oh;
  var image = first / (p.ow * p.oh);
  for (var pixel = first; pixel < end; pixel++) {
    let iy = i32(oy * p.stride) + dy;
    let ix = i32(ox * p.stride) + dx;
    if (iy >= 0 && iy < i32(p.h) && ix >= 0 && ix < i32(p.width)) {
      let g_at = pixel * outs;
      let x_at = ((image * p.h + u32(iy)) * p.width + u32(ix)) * channels;
      ${join(TILE / loadsG, (i) => `let g${i} = g_load(g_at + o${i});`)}
      ${join(columns, (j) => `let x${j} = x_load(x_at + c${j});`)}
      ${join(TILE, (i) => join(columns, (j) => `s${i}_${j} += ${factor(i)} * x${j};`))}
    }
    ox++;
    if (ox == p.ow) {
      ox = 0u;
      oy++;
      if (oy == p.oh) {
        oy = 0u;
        image++;
      }
    }
  }
  let row = p.kh * p.kw * channels;
  let at = slice * p.outs * row + tap * channels;
  ${join(
    TILE,
    (i) => `if (o + ${i}u < p.outs) {
    ${join(columns, (j) => `if (c / ${loadsX}u + ${j}u < channels) { y_store(at + (o + ${i}u) * row + c${j}, s${i}_${j}); }`)}
  }`,
  )}
}`,
  });
}
