/** Where a weight's values come from, and how they reach the GPU. */
import type { TensorData } from './shape.ts';

/**
 * How a weight is stored on the GPU.
 * - matrix: (out, in), as in the checkpoint.
 * - conv: (out, in, kh, kw) in the checkpoint, (out, kh, kw, in) here, so that a convolution reads channels along the last axis.
 * - transposed: (in, out) in the checkpoint, (out, in) here.
 * - vector: any shape, always f32: biases, norm scales, position embeddings.
 * - host: not uploaded; read by rows on the host (embedding tables, which may exceed the largest binding).
 */
export type ParameterKind = 'matrix' | 'conv' | 'transposed' | 'vector' | 'host';

/** A part of a weight as the GPU stores it. */
export interface WeightPiece {
  /** Where it begins and how long it is, in bytes of the weight. Multiples of 4, but for the length of the last one. */
  offset: number;
  bytes: number;
  /** Reads it. The result may lie in `scratch`, of SCRATCH_BYTES, and is valid until that is used again. */
  read(scratch: Uint8Array<ArrayBuffer>): Promise<Uint8Array>;
}

/** A piece is at most this long where it can be chosen, so that what is on its way is bounded. */
export const PIECE_BYTES = 2 ** 21;
export const SCRATCH_BYTES = 4 * PIECE_BYTES;

export interface ParameterSource {
  /** The whole tensor in the checkpoint's order: f16 bit patterns where the weight's dtype is f16, else f32 values. */
  read(): Promise<TensorData>;
  /** The weight as the GPU stores it; absent or null where that must be made of the whole tensor. */
  pieces?(): WeightPiece[] | null;
  /** Some rows of a two-dimensional tensor, in that order, as f32. */
  readRows(rows: number[]): Promise<Float32Array>;
}
