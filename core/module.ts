/**
 * Networks as trees of attributes. A weight's checkpoint key is its attribute path, so there is no table of names to keep in step:
 * `unet.input_blocks[4][1].norm.weight` is the tensor `input_blocks.4.1.norm.weight`.
 */
import { isBlocks, quantise } from './blocks.ts';
import type { Device } from './device.ts';
import { GPU_COPY_DST, GPU_COPY_SRC, GPU_STORAGE } from './device.ts';
import { ShapeError, UserError } from './errors.ts';
import { decodeF16 } from './half.ts';
import { type DType, storageBytes } from './shader.ts';
import { type Shape, showShape, sizeOf, Tensor, type TensorData } from './tensor.ts';

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
  /** Some rows of a two-dimensional tensor, one behind the other, as f32. */
  readRows(rows: number[]): Promise<Float32Array>;
}

export class Parameter {
  /** Shape in the checkpoint. */
  readonly shape: Shape;
  readonly kind: ParameterKind;
  /** Full checkpoint key; set when the module tree is named. */
  name = '';
  /** Storage of matrix kinds on the GPU. */
  dtype: DType;
  buffer: GPUBuffer | null = null;
  /** Where the values come from; set when a checkpoint is attached. */
  source: ParameterSource | null = null;

  constructor(shape: Shape, kind: ParameterKind) {
    this.shape = shape;
    this.kind = kind;
    this.dtype = kind === 'vector' ? 'f32' : 'f16';
  }

  /** Shape on the GPU. */
  get storedShape(): Shape {
    const [a, b, kh, kw] = this.shape;
    return this.kind === 'conv' ? [a, kh, kw, b] : this.kind === 'transposed' ? [b, a] : this.shape;
  }

  /** The graph node that reads this weight. */
  get tensor(): Tensor {
    return new Tensor(this.storedShape, this.dtype, { kind: 'parameter', parameter: this });
  }

  /** Bytes on the GPU. */
  get bytes(): number {
    return storageBytes(this.dtype, sizeOf(this.shape));
  }

  /** The weight as the GPU stores it. Throws UserError when no checkpoint is attached. */
  pieces(): WeightPiece[] {
    const { source } = this;
    if (!source) throw new UserError(`The weight ${this.name} has no values: attach a checkpoint to its network first.`);
    return source.pieces?.() ?? [{ offset: 0, bytes: this.bytes, read: async () => this.pack(await source.read()) }];
  }

  /** Creates the GPU buffer if there is none. */
  place(device: Device): GPUBuffer {
    this.buffer ??= device.buffer(this.name, this.bytes, GPU_STORAGE | GPU_COPY_DST | GPU_COPY_SRC);
    return this.buffer;
  }

  /**
   * Fills the GPU buffer from values in the checkpoint's order: f16 bit patterns in Uint16Array for f16, which may be given for q8 and q4 too, else
   * Float32Array. What is stored in blocks is rounded here.
   */
  upload(device: Device, values: TensorData): void {
    const stored = this.pack(values);
    device.gpu.queue.writeBuffer(this.place(device), 0, stored);
  }

  /** Values in the checkpoint's order -> the bytes on the GPU. */
  private pack(values: TensorData): Uint8Array<ArrayBuffer> {
    if (values.length !== sizeOf(this.shape))
      throw new ShapeError(`${this.name}: ${values.length} values for shape ${showShape(this.shape)}.`);
    const { dtype } = this;
    const stored = storedOrder(values, this);
    if (isBlocks(dtype) && !(stored instanceof Uint32Array))
      return this.padded(quantise(dtype, stored instanceof Uint16Array ? decodeF16(stored) : stored));
    if (values instanceof Uint16Array !== (dtype === 'f16'))
      throw new ShapeError(`${this.name}: a ${values.constructor.name} for a weight that is stored as ${dtype}.`);
    return this.padded(new Uint8Array(stored.buffer as ArrayBuffer, stored.byteOffset, stored.byteLength));
  }

  private padded(stored: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    if (stored.length === this.bytes) return stored;
    const padded = new Uint8Array(this.bytes);
    padded.set(stored);
    return padded;
  }

  release(device: Device): void {
    device.residency.forget(this);
    if (this.buffer) device.release(this.buffer);
    this.buffer = null;
  }
}

/** Base of networks and blocks: own attributes that are parameters, modules, layers, or arrays and plain objects of these, form the tree. */
export abstract class Module {}

/** Every parameter below `root` with its path, in attribute order. */
export function* parameters(root: object, path = ''): Generator<[string, Parameter]> {
  for (const [key, value] of Object.entries(root)) {
    const name = path ? `${path}.${key}` : key;
    if (value instanceof Parameter) yield [name, value];
    else if (isBranch(value)) yield* parameters(value, name);
  }
}

function isBranch(value: unknown): value is object {
  if (value instanceof Module || Array.isArray(value) || typeof value === 'function') return true;
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** Frees the GPU buffers of every weight below `root`. */
export function release(device: Device, root: object): void {
  for (const [, parameter] of parameters(root)) parameter.release(device);
}

/** Gives every parameter below `root` its full checkpoint key. */
export function named<T extends object>(root: T, prefix: string): T {
  for (const [path, parameter] of parameters(root)) parameter.name = prefix + path;
  return root;
}

type Layout = Pick<Parameter, 'shape' | 'kind'>;

/** Values in the order a weight is stored on the GPU, such as its gradient -> in the checkpoint's order. */
export function checkpointOrder(stored: Float32Array, { shape, kind }: Layout): Float32Array<ArrayBuffer> {
  const ordered = isReordered(shape, kind) ? reorder(stored, new Float32Array(stored.length), shape, kind, true) : stored;
  return ordered as Float32Array<ArrayBuffer>;
}

/**
 * Values in the checkpoint's order -> in the GPU's; the same array where the two agree. `shape` in the checkpoint; of all kinds but `transposed`,
 * some rows of the first axis may come by themselves. The result lies in `room` if it is given.
 */
export function storedOrder<Values extends TensorData>(values: Values, { shape, kind }: Layout, room?: Uint8Array<ArrayBuffer>): Values {
  if (!isReordered(shape, kind)) return values;
  const { buffer, byteOffset } = room ?? new Uint8Array(values.byteLength);
  const Kind = values.constructor as new (buffer: ArrayBuffer, offset: number, length: number) => Values;
  return reorder(values, new Kind(buffer, byteOffset, values.length), shape, kind, false);
}

function isReordered(shape: Shape, kind: ParameterKind): boolean {
  return kind === 'transposed' || (kind === 'conv' && shape[2] * shape[3] > 1);
}

/** The checkpoint's order -> the stored one, or back, into `ordered`. */
function reorder<Values extends TensorData>(values: Values, ordered: Values, shape: Shape, kind: ParameterKind, back: boolean): Values {
  const [rows, columns] = shape;
  const pixels = kind === 'conv' ? shape[2] * shape[3] : 1;
  for (let row = 0, checkpoint = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let pixel = 0; pixel < pixels; pixel++, checkpoint++) {
        const stored = kind === 'conv' ? (row * pixels + pixel) * columns + column : column * rows + row;
        if (back) ordered[checkpoint] = values[stored];
        else ordered[stored] = values[checkpoint];
      }
    }
  }
  return ordered;
}
