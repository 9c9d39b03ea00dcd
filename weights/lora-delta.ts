/**
 * What an adapter adds to a weight, as a whole matrix: LoRA (Hu et al. 2021) and its relatives. Convolutions with a factored window after
 * LyCORIS (Yeh et al. 2023): LoHa is an elementwise product of two low-rank matrices, LoKr a Kronecker product; DoRA (Liu et al. 2024)
 * gives the changed weight's rows or columns lengths of their own. All in f64 on the host; shapes are the checkpoint's.
 */
import { ShapeError } from '../core/errors.ts';
import { type Shape, showShape, sizeOf } from '../core/tensor.ts';

/** A dense row-major array. */
export interface Matrix {
  shape: Shape;
  data: ArrayLike<number>;
}

const rest = ({ shape }: Matrix): number => sizeOf(shape.slice(1));

/** a (M, K, ...) read as (M, K) times b (K, ...) read as (K, N) -> M N values. Throws ShapeError. */
export function product(a: Matrix, b: Matrix): Float64Array {
  const [m, k, n] = [a.shape[0], rest(a), rest(b)];
  if (b.shape[0] !== k) throw new ShapeError(`Factors ${showShape(a.shape)} and ${showShape(b.shape)} do not fit.`);
  const data = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < k; j++) {
      const factor = a.data[i * k + j];
      for (let c = 0; c < n; c++) data[i * n + c] += factor * b.data[j * n + c];
    }
  }
  return data;
}

function transpose({ shape: [rows, columns], data }: Matrix): Matrix {
  return {
    shape: [columns, rows],
    data: Float64Array.from({ length: rows * columns }, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]),
  };
}

/** up (O, r), mid (r, r, kh, kw), down (r, I) -> w[o, i, ky, kx] = sum over n, m of up[o, n] mid[n, m, ky, kx] down[m, i]. */
export function throughWindow(up: Matrix, mid: Matrix, down: Matrix): Float64Array {
  const [, r, kh, kw] = mid.shape;
  const [o, inner, taps] = [up.shape[0], rest(down), kh * kw];
  const left: Matrix = { shape: [o, r, kh, kw], data: product(up, mid) };
  const data = new Float64Array(o * inner * taps);
  for (let out = 0; out < o; out++)
    for (let m = 0; m < r; m++)
      for (let i = 0; i < inner; i++)
        for (let tap = 0; tap < taps; tap++)
          data[(out * inner + i) * taps + tap] += left.data[(out * r + m) * taps + tap] * down.data[m * inner + i];
  return data;
}

/** LoRA: up (O, r) times down (r, I, ...), through mid where there is one. */
export function lowRankDelta(down: Matrix, mid: Matrix | null, up: Matrix): Float64Array {
  return mid ? throughWindow(up, mid, down) : product(up, down);
}

/** One factor of LoHa or LoKr: a (O, r) b (r, I...), or with a window t (r, r, kh, kw) a (r, O) and b (r, I). */
export function factor(a: Matrix, b: Matrix, t: Matrix | null): Float64Array {
  return t ? throughWindow(transpose(a), t, b) : product(a, b);
}

/** LoHa: the elementwise product of both factors. */
export function hadamard(w1: ArrayLike<number>, w2: ArrayLike<number>): Float64Array {
  return Float64Array.from(w1, (value, i) => value * w2[i]);
}

/** LoKr: the Kronecker product of w1 (a, b) and w2 (c, d, ...). -> (a c, b d, ...) values */
export function kronecker(w1: Matrix, w2: Matrix): Float64Array {
  const [[a, b], [c, d]] = [w1.shape, w2.shape];
  const taps = sizeOf(w2.shape.slice(2));
  const data = new Float64Array(a * b * c * d * taps);
  for (let i = 0; i < a * c; i++) {
    for (let j = 0; j < b * d; j++) {
      const scale = w1.data[Math.floor(i / c) * b + Math.floor(j / d)];
      const from = ((i % c) * d + (j % d)) * taps;
      for (let tap = 0; tap < taps; tap++) data[(i * b * d + j) * taps + tap] = scale * w2.data[from + tap];
    }
  }
  return data;
}

/**
 * DoRA: the weight w (O, I, ...) plus delta, with the length of every output row (`byRow`; magnitude has O values) or input column (I values) set
 * to the magnitude, as a difference to w. A line of length 0 has no direction and stays 0.
 */
export function magnitudeDelta(w: Matrix, delta: ArrayLike<number>, magnitude: ArrayLike<number>, byRow: boolean): Float64Array {
  const [outs, ins] = w.shape;
  const taps = sizeOf(w.shape.slice(2));
  const lineOf = (i: number) => (byRow ? Math.floor(i / (ins * taps)) : Math.floor(i / taps) % ins);
  const changed = Float64Array.from(delta, (value, i) => w.data[i] + value);
  const squares = new Float64Array(byRow ? outs : ins);
  changed.forEach((value, i) => {
    squares[lineOf(i)] += value * value;
  });
  const scales = squares.map((square, line) => (square === 0 ? 0 : magnitude[line] / Math.sqrt(square)));
  return changed.map((value, i) => scales[lineOf(i)] * value - w.data[i]);
}
