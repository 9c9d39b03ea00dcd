/** The operations that the benchmark compares: SDXL's shapes, seeded inputs, and some results of each computed in f64. */
import { dequantise, quantise } from '../core/blocks.ts';
import { decodeF16, encodeF16 } from '../core/half.ts';
import { TorchRandom } from '../core/random.ts';

export type Weights = 'f32' | 'f16' | 'q8';
export type Kind = 'matmul' | 'conv2d' | 'attention' | 'windowAttention' | 'groupNormSilu' | 'layerNorm' | 'geglu';

export interface Case {
  name: string;
  kind: Kind;
  /** matmul m, k, n; conv2d size, channels in, channels out; attention queries, keys, heads, width; its windows side, heads, width; norms and geglu rows, channels. */
  size: number[];
  /** Row-major, channels last: x and w (n, k) or (O, 3, 3, C); q, k, v (tokens, heads width); qkv (side side, 3 heads width), bias (heads, 64, 64); gamma, beta (C). */
  inputs: Record<string, Float32Array>;
  /** How w lies in memory; its values are rounded to that, so that all libraries multiply the same numbers. */
  weights: Weights;
  /** Multiply-adds times two; 0 where memory bounds. */
  flops: number;
}

/** Norm groups of SDXL. */
export const GROUPS = 32;
export const EPS = 1e-5;
/** Side of windows of attention, and by how much they are shifted. */
export const WINDOW = 8;
export const SHIFT = 4;

const SIZES: [kind: Kind, size: number[], weights?: Weights][] = [
  ['matmul', [1024, 1024, 1024]],
  ['matmul', [4096, 640, 2560]],
  ['matmul', [1024, 1280, 1280]],
  ['matmul', [77, 2048, 1280]],
  ['matmul', [1024, 1280, 1280], 'f16'],
  ['matmul', [1024, 1280, 1280], 'q8'],
  ['conv2d', [64, 320, 320]],
  ['conv2d', [32, 640, 640]],
  ['conv2d', [256, 128, 128]],
  ['conv2d', [256, 128, 128], 'f16'],
  ['conv2d', [256, 128, 3]],
  ['conv2d', [64, 4, 320]],
  ['attention', [1024, 1024, 10, 64]],
  ['attention', [4096, 4096, 10, 64]],
  ['attention', [4096, 77, 10, 64]],
  ['attention', [2048, 2048, 8, 96]],
  ['attention', [2048, 2048, 8, 128]],
  ['attention', [2048, 2048, 1, 256]],
  ['attention', [2048, 2048, 1, 512]],
  ['windowAttention', [64, 6, 30]],
  ['windowAttention', [64, 2, 32]],
  ['groupNormSilu', [4096, 320]],
  ['layerNorm', [4096, 640]],
  ['geglu', [4096, 2560]],
];

/** Names and sizes; inputs are drawn by `draw`, for the largest are large. */
export const CASES = SIZES.map(([kind, size, weights = 'f32']) => ({ kind, size, weights, name: title(kind, size, weights) }));

function title(kind: Kind, size: number[], weights: Weights): string {
  const stored = weights === 'f32' ? '' : `, ${weights}`;
  if (kind === 'matmul') return `matmul ${size.join('x')}${stored}`;
  if (kind === 'conv2d') {
    const [side, from, to] = size;
    return `conv 3x3 ${from === to ? from : `${from} to ${to}`}@${side}x${side}${stored}`;
  }
  if (kind === 'attention') return `attention ${size[2]}x${size[3]}, ${size[0]} on ${size[1]}`;
  if (kind === 'windowAttention') return `windows of 8, ${size[1]}x${size[2]}, ${size[0]}x${size[0]}`;
  return `${{ groupNormSilu: 'group norm + SiLU', layerNorm: 'layer norm', geglu: 'GEGLU' }[kind]} ${size.join('x')}`;
}

/** The values as they are read back from memory that holds them so. */
function rounded(values: Float32Array, weights: Weights): Float32Array {
  if (weights === 'f16') return decodeF16(encodeF16(values));
  return weights === 'q8' ? dequantise('q8', quantise('q8', values), values.length) : values;
}

export function draw({ kind, size, weights, name }: (typeof CASES)[number]): Case {
  const random = new TorchRandom(1);
  const of = (count: number, scale = 1) => random.randn(count).map((value) => value * scale);
  if (kind === 'matmul') {
    const [m, k, n] = size;
    const inputs = { x: of(m * k), w: rounded(of(n * k, k ** -0.5), weights) };
    return { name, kind, size, weights, inputs, flops: 2 * m * k * n };
  }
  if (kind === 'conv2d') {
    const [s, c, o] = size;
    const inputs = { x: of(s * s * c), w: rounded(of(o * 9 * c, (9 * c) ** -0.5), weights) };
    return { name, kind, size, weights, inputs, flops: 18 * s * s * c * o };
  }
  if (kind === 'attention') {
    const [queries, keys, heads, width] = size;
    const channels = heads * width;
    const inputs = { q: of(queries * channels), k: of(keys * channels), v: of(keys * channels) };
    return { name, kind, size, weights, inputs, flops: 4 * queries * keys * channels };
  }
  if (kind === 'windowAttention') {
    const [side, heads, width] = size;
    const inputs = { qkv: of(side * side * 3 * heads * width), bias: of(heads * WINDOW ** 4) };
    return { name, kind, size, weights, inputs, flops: 4 * side * side * WINDOW ** 2 * heads * width };
  }
  const [rows, channels] = size;
  const x = of(rows * channels * (kind === 'geglu' ? 2 : 1));
  return { name, kind, size, weights, inputs: kind === 'geglu' ? { x } : { x, gamma: of(channels), beta: of(channels) }, flops: 0 };
}

/** Elements of the result in f64 at `count` scattered places, and how far a result is from them: 2-norm of the difference over theirs. */
export function errorAgainstF64(c: Case, result: Float32Array, count = 64): number {
  let [difference, square] = [0, 0];
  for (let i = 0; i < count; i++) {
    const at = Math.floor(((i + 0.5) / count) * result.length);
    const exact = element(c, at);
    difference += (result[at] - exact) ** 2;
    square += exact ** 2;
  }
  return Math.sqrt(difference / square);
}

function element({ kind, size, inputs }: Case, at: number): number {
  if (kind === 'matmul') {
    const [, k, n] = size;
    let sum = 0;
    for (let i = 0; i < k; i++) sum += inputs.x[Math.floor(at / n) * k + i] * inputs.w[(at % n) * k + i];
    return sum;
  }
  if (kind === 'conv2d') {
    const [s, c, o] = size;
    const [y, x] = [Math.floor(at / o / s), Math.floor(at / o) % s];
    let sum = 0;
    for (let tap = 0; tap < 9; tap++) {
      const [py, px] = [y + Math.floor(tap / 3) - 1, x + (tap % 3) - 1];
      if (py < 0 || py >= s || px < 0 || px >= s) continue;
      for (let i = 0; i < c; i++) sum += inputs.x[(py * s + px) * c + i] * inputs.w[((at % o) * 9 + tap) * c + i];
    }
    return sum;
  }
  if (kind === 'attention') {
    const [, keys, heads, width] = size;
    const channels = heads * width;
    const query = Math.floor(at / channels);
    const first = Math.floor((at % channels) / width) * width;
    const scores = Array.from({ length: keys }, (_, key) => {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += inputs.q[query * channels + first + i] * inputs.k[key * channels + first + i];
      return sum / Math.sqrt(width);
    });
    const largest = scores.reduce((a, b) => Math.max(a, b));
    const weights = scores.map((score) => Math.exp(score - largest));
    const total = weights.reduce((a, b) => a + b);
    return weights.reduce((sum, weight, key) => sum + (weight / total) * inputs.v[key * channels + (at % channels)], 0);
  }
  if (kind === 'windowAttention') {
    const [side, heads, width] = size;
    const channels = heads * width;
    const [pixel, head] = [Math.floor(at / channels), Math.floor((at % channels) / width)];
    const moved = (pixel: number) => [Math.floor(pixel / side), pixel % side].map((v) => (v - SHIFT + side) % side);
    const [y, x] = moved(pixel);
    const [top, left] = [y - (y % WINDOW), x - (x % WINDOW)];
    const places = Array.from({ length: WINDOW ** 2 }, (_, i) => [top + Math.floor(i / WINDOW), left + (i % WINDOW)]);
    const query = (y - top) * WINDOW + x - left;
    const value = (key: number, third: number, c: number) => {
      const [py, px] = places[key].map((v) => (v + SHIFT) % side);
      return inputs.qkv[((py * side + px) * 3 + third) * channels + head * width + c];
    };
    const scores = places.map((place, key) => {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += value(query, 0, c) * value(key, 1, c);
      const parted = [y, x].some((v, axis) => v >= side - SHIFT !== place[axis] >= side - SHIFT);
      return sum / Math.sqrt(width) + inputs.bias[(head * places.length + query) * places.length + key] + (parted ? -100 : 0);
    });
    const largest = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - largest));
    const total = weights.reduce((a, b) => a + b);
    return weights.reduce((sum, weight, key) => sum + (weight / total) * value(key, 2, (at % channels) % width), 0);
  }
  const [rows, channels] = size;
  if (kind === 'geglu') {
    const row = Math.floor(at / channels) * 2 * channels;
    const gate = inputs.x[row + channels + (at % channels)];
    return inputs.x[row + (at % channels)] * gate * 0.5 * (1 + erf(gate / Math.SQRT2));
  }
  const channel = at % channels;
  const values: number[] = [];
  if (kind === 'layerNorm') {
    for (let i = 0; i < channels; i++) values.push(inputs.x[at - channel + i]);
  } else {
    const perGroup = channels / GROUPS;
    const first = Math.floor(channel / perGroup) * perGroup;
    for (let row = 0; row < rows; row++) for (let i = 0; i < perGroup; i++) values.push(inputs.x[row * channels + first + i]);
  }
  const mean = values.reduce((a, b) => a + b) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  const y = ((inputs.x[at] - mean) / Math.sqrt(variance + EPS)) * inputs.gamma[channel] + inputs.beta[channel];
  return kind === 'layerNorm' ? y : y / (1 + Math.exp(-y));
}

/** erf by its Taylor series, which converges for every gate that occurs (|x| below 5). */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
