/**
 * The derivative of a convolution by its weight: dw[o, ky, kx, c] = sum over pixels of g[pixel, o] x[pixel s + (ky, kx) - (top, left), c]; a linear
 * layer's is the same with one tap. g (N, OH, OW, O), x (N, H, W, C), dw (O, kh, kw, C), f32 | f16, the result f32. Accumulates in f32. It is a matmul along the
 * pixels; where the result is small they are cut into slices, whose sums a second dispatch adds up.
 */
import { apply, type Op } from '../core/op.ts';
import { elementType, remembered, shader } from '../core/shader.ts';
import { type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import type { ImplicitMatmul } from './implicit-matmul.ts';
import { reshape } from './reshape.ts';
import { lowerSum } from './sum-axis.ts';
import { type Loads, loadsOf, lowerOnSubgroups, SIZES, sizesOf, subgroupTiles } from './weight-gradient-subgroup.ts';
import { lowerWinogradGradient, suitsWinogradGradient } from './winograd-gradient.ts';

type Taps = ImplicitMatmul['window'];

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

/** Results of one thread on a GPU: TILE output channels by TILE input channels of one tap. */
const TILE = 8;
/** Parts of the work that are worth starting, threads or on CPU drivers subgroups, and pixels that one should sum at least. */
const ENOUGH = { threads: 4096, subgroups: 32 };
const PIXELS = { threads: 64, subgroups: 1024 };

export const weightGradientOp: Op<Taps, { g: Tensor; x: Tensor }> = {
  name: 'weightGradient',

  infer({ g, x }, { kh, kw }) {
    return { shape: [g.shape[3], kh, kw, x.shape[3]], dtype: 'f32' };
  },

  lower({ g, x }, output, window, to) {
    const subgroups = to.facts.schedule === 'subgroup';
    const lanes = to.facts.subgroupSizes[0];
    if (subgroups && suitsWinogradGradient({ g, x, window }, lanes)) {
      lowerWinogradGradient(to, { g, x, window, output });
      return;
    }
    const [n, oh, ow, o] = g.shape;
    const c = x.shape[3];
    const tiles = subgroups
      ? subgroupTiles(lanes, { g, x, window }).count
      : Math.ceil(o / TILE) * Math.ceil(c / TILE) * window.kh * window.kw;
    const worker = subgroups ? 'subgroups' : 'threads';
    const slices = Math.max(1, Math.min(Math.ceil((n * oh * ow) / PIXELS[worker]), Math.ceil(ENOUGH[worker] / tiles)));
    const sums = slices === 1 ? output : to.scratch('sums of slices', [slices, ...output.shape] as Shape);
    const m = { g, x, window, output: sums, slices };
    if (subgroups) {
      lowerOnSubgroups(to, m);
    } else {
      to.dispatch({
        shader: weightGradientShader(loadsOf(m)),
        operands: { g, x, y: sums },
        params: { ...sizesOf(m, tiles), out_tiles: Math.ceil(o / TILE) },
        threads: tiles * slices,
      });
    }
    if (slices > 1) lowerSum(to, sums, output, 1, slices);
  },

  flops({ g }, output) {
    return 2 * sizeOf(output.shape) * (sizeOf(g.shape) / g.shape[3]);
  },
};

const join = (count: number, line: (i: number) => string) => Array.from({ length: count }, (_, i) => line(i)).join('\n      ');

const weightGradientShader = remembered(({ g, x, loadsG, loadsX }: Loads) => {
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
    params: { ...SIZES, out_tiles: 'u32' },
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
});
