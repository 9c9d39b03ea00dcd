/** Every kernel again as plain loops in f64: what the GPU's results are judged by. Shapes as in the kernel files; nothing is clever here. */
import type { Values } from './sample.ts';

const total = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

/** Fills an array element by element from a function of its index. */
export function build(shape: readonly number[], value: (index: number[]) => number): Values {
  const data = new Float64Array(total(shape));
  const index = new Array<number>(shape.length).fill(0);
  for (let i = 0; i < data.length; i++) {
    data[i] = value(index);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--) index[axis] = 0;
  }
  return { shape: [...shape], data };
}

/** x[index]. */
export function at(x: Values, index: readonly number[]): number {
  return x.data[index.reduce((offset, i, axis) => offset * x.shape[axis] + i, 0)];
}

export function map(x: Values, f: (value: number) => number): Values {
  return { shape: x.shape, data: x.data.map(f) };
}

/** Elementwise with broadcasting of axes of size 1, matched from the last. */
export function broadcast(a: Values, b: Values, f: (a: number, b: number) => number): Values {
  const rank = Math.max(a.shape.length, b.shape.length);
  const align = (x: Values) => ({ ...x, shape: [...new Array<number>(rank - x.shape.length).fill(1), ...x.shape] });
  const [wa, wb] = [align(a), align(b)];
  const pick = (x: Values, index: number[]) =>
    at(
      x,
      index.map((i, axis) => (x.shape[axis] === 1 ? 0 : i)),
    );
  return build(
    wa.shape.map((size, axis) => Math.max(size, wb.shape[axis])),
    (index) => f(pick(wa, index), pick(wb, index)),
  );
}

export const add = (a: Values, b: Values): Values => broadcast(a, b, (x, y) => x + y);

/** erf to f64 accuracy: its Taylor series up to 3, the continued fraction of erfc above. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a < 3) {
    let [sum, term] = [a, a];
    for (let n = 1; n < 100; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = a;
  for (let n = 60; n > 0; n--) fraction = a + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-a * a) / fraction / Math.sqrt(Math.PI));
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
export const silu = (x: number): number => x * sigmoid(x);
export const gelu = (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2));
export const quickGelu = (x: number): number => x * sigmoid(1.702 * x);

export function conv2d(
  x: Values,
  w: Values,
  bias: Values | null,
  { stride = 1, padding = [0, 0, 0, 0] }: { stride?: number; padding?: number[] } = {},
): Values {
  const [n, h, width, c] = x.shape;
  const [o, kh, kw] = w.shape;
  const [top, bottom, left, right] = padding;
  const oh = Math.floor((h + top + bottom - kh) / stride) + 1;
  const ow = Math.floor((width + left + right - kw) / stride) + 1;
  return build([n, oh, ow, o], ([image, oy, ox, out]) => {
    let sum = bias ? bias.data[out] : 0;
    for (let ky = 0; ky < kh; ky++) {
      for (let kx = 0; kx < kw; kx++) {
        const y = oy * stride + ky - top;
        const xx = ox * stride + kx - left;
        if (y < 0 || y >= h || xx < 0 || xx >= width) continue;
        const from = ((image * h + y) * width + xx) * c;
        const weight = ((out * kh + ky) * kw + kx) * c;
        for (let channel = 0; channel < c; channel++) sum += x.data[from + channel] * w.data[weight + channel];
      }
    }
    return sum;
  });
}

export function linear(x: Values, w: Values, bias: Values | null): Values {
  const [out, inner] = w.shape;
  return build([...x.shape.slice(0, -1), out], (index) => {
    const column = index[index.length - 1];
    const row = index.slice(0, -1).reduce((offset, i, axis) => offset * x.shape[axis] + i, 0);
    let sum = bias ? bias.data[column] : 0;
    for (let k = 0; k < inner; k++) sum += x.data[row * inner + k] * w.data[column * inner + k];
    return sum;
  });
}

export function matmul(a: Values, b: Values, transposed: boolean): Values {
  const [batch, m, inner] = a.shape;
  return build([batch, m, b.shape[transposed ? 1 : 2]], ([image, row, column]) => {
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += at(a, [image, row, k]) * at(b, transposed ? [image, column, k] : [image, k, column]);
    return sum;
  });
}

/** Mean 0 and variance 1 over the elements for which `group` of the flat index agrees, then gamma and beta by channel. */
function normalize(x: Values, gamma: Values, beta: Values, eps: number, group: (i: number) => number): Values {
  const channels = gamma.data.length;
  const moments = new Map<number, { count: number; mean: number; square: number }>();
  x.data.forEach((value, i) => {
    const m = moments.get(group(i)) ?? { count: 0, mean: 0, square: 0 };
    m.count++;
    const before = value - m.mean;
    m.mean += before / m.count;
    m.square += before * (value - m.mean);
    moments.set(group(i), m);
  });
  const data = x.data.map((value, i) => {
    const { count, mean, square } = moments.get(group(i))!;
    return ((value - mean) / Math.sqrt(square / count + eps)) * gamma.data[i % channels] + beta.data[i % channels];
  });
  return { shape: x.shape, data };
}

export function groupNorm(x: Values, gamma: Values, beta: Values, groups: number, eps: number): Values {
  const channels = gamma.data.length;
  const image = x.data.length / x.shape[0];
  return normalize(x, gamma, beta, eps, (i) => Math.floor(i / image) * groups + Math.floor((i % channels) / (channels / groups)));
}

export function layerNorm(x: Values, gamma: Values, beta: Values, eps: number): Values {
  return normalize(x, gamma, beta, eps, (i) => Math.floor(i / gamma.data.length));
}

/** Maps each row of the last axis to a row. */
export function rows(x: Values, f: (row: Float64Array) => ArrayLike<number>): Values {
  const columns = x.shape[x.shape.length - 1];
  const results = Array.from({ length: x.data.length / columns }, (_, r) => f(x.data.subarray(r * columns, (r + 1) * columns)));
  const width = results[0].length;
  const data = new Float64Array(results.length * width);
  results.forEach((row, r) => {
    data.set(row, r * width);
  });
  return { shape: [...x.shape.slice(0, -1), width], data };
}

export function softmaxRow(row: Float64Array): Float64Array {
  const largest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const powers = row.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

export const softmax = (x: Values): Values => rows(x, softmaxRow);

export function geglu(x: Values): Values {
  return rows(x, (row) => row.subarray(0, row.length / 2).map((value, i) => value * gelu(row[row.length / 2 + i])));
}

/** q (N, ..., heads d), k and v (N, ..., heads d). */
export function attention(q: Values, k: Values, v: Values, heads: number, causal: boolean): Values {
  const images = q.shape[0];
  const channels = q.shape[q.shape.length - 1];
  const width = channels / heads;
  const queries = q.data.length / images / channels;
  const keys = k.data.length / images / channels;
  const data = new Float64Array(q.data.length);
  for (let image = 0; image < images; image++) {
    for (let head = 0; head < heads; head++) {
      for (let query = 0; query < queries; query++) {
        const from = (image * queries + query) * channels + head * width;
        const key = (i: number) => (image * keys + i) * channels + head * width;
        const scores = Float64Array.from({ length: causal ? query + 1 : keys }, (_, i) => {
          let sum = 0;
          for (let c = 0; c < width; c++) sum += q.data[from + c] * k.data[key(i) + c];
          return sum / Math.sqrt(width);
        });
        softmaxRow(scores).forEach((weight, i) => {
          for (let c = 0; c < width; c++) data[from + c] += weight * v.data[key(i) + c];
        });
      }
    }
  }
  return { shape: q.shape, data };
}

/** qkv (N, H, W, 3 heads d), bias (heads, s s, s s): windows of the map shifted by `shift`; `blocked` between pixels from opposite borders. */
export function windowAttention(
  qkv: Values,
  bias: Values,
  { heads, window: s, shift, blocked }: { heads: number; window: number; shift: number; blocked: number },
): Values {
  const [n, h, w, all] = qkv.shape;
  const [channels, tokens] = [all / 3, s * s];
  const width = channels / heads;
  const result = { shape: [n, h, w, channels], data: new Float64Array(n * h * w * channels) };
  for (let image = 0; image < n; image++)
    for (let corner = 0; corner < (h / s) * (w / s); corner++) {
      const [top, left] = [Math.floor(corner / (w / s)) * s + shift, (corner % (w / s)) * s + shift];
      const places = Array.from({ length: tokens }, (_, i) => [(top + Math.floor(i / s)) % h, (left + (i % s)) % w]);
      const pixels = places.map(([y, x]) => (image * h + y) * w + x);
      const parted = (a: number, b: number) => [0, 1].some((axis) => places[a][axis] < shift !== places[b][axis] < shift);
      for (let head = 0; head < heads; head++)
        for (let query = 0; query < tokens; query++) {
          const at = (pixel: number, third: number) => pixel * all + third * channels + head * width;
          const scores = Float64Array.from(pixels, (pixel, key) => {
            let sum = 0;
            for (let c = 0; c < width; c++) sum += qkv.data[at(pixels[query], 0) + c] * qkv.data[at(pixel, 1) + c];
            const hidden = parted(query, key) ? blocked : 0;
            return sum / Math.sqrt(width) + bias.data[(head * tokens + query) * tokens + key] + hidden;
          });
          softmaxRow(scores).forEach((weight, key) => {
            for (let c = 0; c < width; c++)
              result.data[pixels[query] * channels + head * width + c] += weight * qkv.data[at(pixels[key], 2) + c];
          });
        }
    }
  return result;
}

export function concat(inputs: Values[], axis: number): Values {
  const shape = inputs[0].shape.map((size, i) => (i === axis ? inputs.reduce((sum, x) => sum + x.shape[axis], 0) : size));
  return build(shape, (index) => {
    let [which, place] = [0, index[axis]];
    while (place >= inputs[which].shape[axis]) place -= inputs[which++].shape[axis];
    return at(inputs[which], index.with(axis, place));
  });
}

export function permute(x: Values, order: number[]): Values {
  return build(
    order.map((from) => x.shape[from]),
    (index) =>
      at(
        x,
        order.map((_, axis) => index[order.indexOf(axis)]),
      ),
  );
}

export function slice(x: Values, axis: number, start: number, end: number): Values {
  return build(x.shape.with(axis, end - start), (index) => at(x, index.with(axis, index[axis] + start)));
}

export function pad(x: Values, amounts: [number, number][]): Values {
  return build(
    x.shape.map((size, axis) => amounts[axis][0] + size + amounts[axis][1]),
    (index) => {
      const from = index.map((i, axis) => i - amounts[axis][0]);
      return from.every((i, axis) => i >= 0 && i < x.shape[axis]) ? at(x, from) : 0;
    },
  );
}

export function upsampleNearest(x: Values, factor: number): Values {
  const [n, h, w, c] = x.shape;
  return build([n, h * factor, w * factor, c], ([image, y, xx, channel]) =>
    at(x, [image, Math.floor(y / factor), Math.floor(xx / factor), channel]),
  );
}

export function gatherRows(x: Values, indices: number[]): Values {
  return build([indices.length, x.shape[1]], ([row, column]) => at(x, [indices[row], column]));
}

export function modulate(x: Values, gamma: Values, beta: Values, raw: Values, scale: number): Values {
  const data = x.data.map((value, i) => scale * (value * (1 + gamma.data[i]) + beta.data[i]) + (1 - scale) * raw.data[i]);
  return { shape: x.shape, data };
}

/** Reduces one axis, which stays with size 1. */
export function reduced(x: Values, axis: number, f: (values: Float64Array) => number): Values {
  const shape = x.shape.with(axis, 1);
  return build(shape, (index) => f(Float64Array.from({ length: x.shape[axis] }, (_, i) => at(x, index.with(axis, i)))));
}

export const sumOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0);

/** condition == 0 ? b : a, of one shape or single values. */
export function where(condition: Values, a: Values, b: Values): Values {
  const marked = broadcast(
    broadcast(condition, a, (c) => c),
    b,
    (c) => c,
  );
  const one = broadcast(marked, a, (_, value) => value);
  const other = broadcast(marked, b, (_, value) => value);
  return { shape: marked.shape, data: marked.data.map((c, i) => (c === 0 ? other : one).data[i]) };
}
