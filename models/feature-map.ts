/**
 * A feature map (N, H, W, C) on the host, kept by rows: it may be far larger than a GPU binding or one typed array, and windows of it are
 * read and written.
 */
import { type Shape, sizeOf } from '../core/tensor.ts';

/** Rows y0..y1 and columns x0..x1 of every image of a feature map, the ends excluded. */
export interface Window {
  y0: number;
  y1: number;
  x0: number;
  x1: number;
}

export class FeatureMap {
  /** (N, H, W, C) */
  readonly shape: Shape;
  /** N H rows of W C values. */
  private readonly rows: Float32Array[];

  constructor(shape: Shape, data?: Float32Array) {
    this.shape = shape;
    const [n, h, w, c] = shape;
    const row = w * c;
    this.rows = Array.from({ length: n * h }, (_, i) => (data ? data.subarray(i * row, (i + 1) * row) : new Float32Array(row)));
  }

  /** -> (N, y1 - y0, x1 - x0, C) */
  read(window: Window): Float32Array {
    const values = new Float32Array(this.values(window));
    this.walk(window, (row, from, to, at) => values.set(row.subarray(from, to), at));
    return values;
  }

  /** Replaces a window by values (N, y1 - y0, x1 - x0, C). */
  write(window: Window, values: Float32Array): void {
    this.walk(window, (row, from, to, at) => row.set(values.subarray(at, at + to - from), from));
  }

  /** The whole map, dense. */
  data(): Float32Array {
    return this.read(wholeOf(this.shape));
  }

  private values({ y0, y1, x0, x1 }: Window): number {
    return sizeOf([this.shape[0], y1 - y0, x1 - x0, this.shape[3]]);
  }

  private walk({ y0, y1, x0, x1 }: Window, visit: (row: Float32Array, from: number, to: number, at: number) => void): void {
    const [n, h, , c] = this.shape;
    const run = (x1 - x0) * c;
    for (let image = 0, at = 0; image < n; image++)
      for (let y = y0; y < y1; y++, at += run) visit(this.rows[image * h + y], x0 * c, x1 * c, at);
  }
}

export function wholeOf([, h, w]: Shape): Window {
  return { y0: 0, y1: h, x0: 0, x1: w };
}

/** The smallest window that holds both. */
export function around(a: Window | undefined, b: Window): Window {
  if (!a) return b;
  return { y0: Math.min(a.y0, b.y0), y1: Math.max(a.y1, b.y1), x0: Math.min(a.x0, b.x0), x1: Math.max(a.x1, b.x1) };
}

export function sameWindow(a: Window, b: Window): boolean {
  return a.y0 === b.y0 && a.y1 === b.y1 && a.x0 === b.x0 && a.x1 === b.x1;
}

/**
 * Windows of nearly equal size that cover a map of height x width without overlap, row by row, each of at most `most` pixels (and at least 1).
 */
export function partition(height: number, width: number, most: number): Window[] {
  const side = Math.max(1, Math.floor(Math.sqrt(most)));
  const cuts = (length: number) => {
    const count = Math.ceil(length / side);
    const step = Math.ceil(length / count);
    return Array.from({ length: Math.ceil(length / step) }, (_, i) => [i * step, Math.min((i + 1) * step, length)]);
  };
  return cuts(height).flatMap(([y0, y1]) => cuts(width).map(([x0, x1]) => ({ y0, y1, x0, x1 })));
}
