/**
 * A feature map (N, H, W, C) on the host, kept by rows: it may be far larger than a GPU binding or one typed array, and windows of it are
 * read and written. And how maps are divided.
 */
import { type Shape, sizeOf } from '../core/shape.ts';

/** Positions along an axis, the end excluded. */
export interface Range {
  start: number;
  end: number;
}

/** Rows and columns of every image of a feature map. */
export interface MapWindow {
  rows: Range;
  columns: Range;
}

export class FeatureMap {
  /** (N, H, W, C) */
  readonly shape: Shape;
  /** N H rows of W C values. */
  private readonly rows: Float32Array[];
  private readonly dense: Float32Array | undefined;

  /** `data`: the map's values, which then lie there. */
  constructor(shape: Shape, data?: Float32Array) {
    this.shape = shape;
    this.dense = data;
    const [n, h, w, c] = shape;
    const row = w * c;
    this.rows = Array.from({ length: n * h }, (_, i) => (data ? data.subarray(i * row, (i + 1) * row) : new Float32Array(row)));
  }

  /** -> (N, rows, columns, C) */
  read(window: MapWindow): Float32Array {
    const values = new Float32Array(sizeOf(windowShape(this.shape, window)));
    this.walk(window, (row, from, to, at) => values.set(row.subarray(from, to), at));
    return values;
  }

  /** Replaces a window by values (N, rows, columns, C). */
  write(window: MapWindow, values: Float32Array): void {
    this.walk(window, (row, from, to, at) => row.set(values.subarray(at, at + to - from), from));
  }

  /** Calls `visit` with every row's values and their place in the dense map. */
  each(visit: (values: Float32Array, at: number) => void): void {
    for (const [i, row] of this.rows.entries()) visit(row, i * row.length);
  }

  /** The whole map, dense. */
  data(): Float32Array {
    return this.dense ?? this.read(wholeOf(this.shape));
  }

  private walk({ rows, columns }: MapWindow, visit: (row: Float32Array, from: number, to: number, at: number) => void): void {
    const [n, h, , c] = this.shape;
    const run = (columns.end - columns.start) * c;
    for (let image = 0, at = 0; image < n; image++)
      for (let y = rows.start; y < rows.end; y++, at += run) visit(this.rows[image * h + y], columns.start * c, columns.end * c, at);
  }
}

export function wholeOf([, h, w]: Shape): MapWindow {
  return { rows: { start: 0, end: h }, columns: { start: 0, end: w } };
}

/** Shape of a window of a map. */
export function windowShape([n, , , c]: Shape, { rows, columns }: MapWindow): Shape {
  return [n, rows.end - rows.start, columns.end - columns.start, c];
}

/** The shortest range that holds both. */
export function around(a: Range | undefined, b: Range): Range {
  return a ? { start: Math.min(a.start, b.start), end: Math.max(a.end, b.end) } : b;
}

export function sameWindow(a: MapWindow, b: MapWindow): boolean {
  return (
    a.rows.start === b.rows.start && a.rows.end === b.rows.end && a.columns.start === b.columns.start && a.columns.end === b.columns.end
  );
}

/** Rows of a tile below which a map is divided by columns too: what tiles read twice, at their borders, is then a small part of them. */
const FEW_ROWS = 32;

/**
 * Divides a map of height x width into windows of nearly equal size, each of at most `most` pixels (and at least 1): bands of whole rows, which lie
 * densely in memory, and where these would be thin, windows of some rows and columns.
 */
export function partition(height: number, width: number, most: number): { rows: Range[]; columns: Range[] } {
  const pixels = Math.max(1, Math.floor(most));
  const thin = Math.min(height, FEW_ROWS, Math.max(1, Math.floor(Math.sqrt(pixels))));
  const across = Math.min(width, Math.max(1, Math.floor(pixels / thin)));
  const columns = cut(width, across);
  return { rows: cut(height, Math.max(1, Math.floor(pixels / (columns[0].end - columns[0].start)))), columns };
}

/** Ranges of one length, the last one perhaps shorter, of at most `most`: multiples of 4 where that makes no more of them. */
function cut(length: number, most: number): Range[] {
  const count = Math.ceil(length / most);
  const even = Math.ceil(length / count);
  const rounded = Math.ceil(even / 4) * 4;
  const step = rounded <= most ? rounded : even;
  return Array.from({ length: Math.ceil(length / step) }, (_, i) => ({ start: i * step, end: Math.min((i + 1) * step, length) }));
}
