/** Shapes of tensors: sizes from the slowest to the fastest axis. Feature maps are (N, H, W, C), tokens (N, L, C). Dense, row-major. */
export type Shape = readonly number[];

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function showShape(shape: Shape): string {
  return `(${shape.join(', ')})`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** 4 where the last axis allows four-element loads, else 1. */
export function width(shape: Shape): 1 | 4 {
  return shape[shape.length - 1] % 4 === 0 ? 4 : 1;
}

/** Values on the host in row-major order: f32, u32, or f16 as bit patterns. */
export type TensorData = Float32Array | Uint16Array | Uint32Array;
