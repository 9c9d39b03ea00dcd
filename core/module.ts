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

export interface ParameterSource {
  /** The whole tensor in the checkpoint's order: f16 bit patterns where the weight's dtype is f16, else f32 values. */
  read(): Promise<TensorData>;
  /** The records of a weight whose dtype is q8 or q4, where the checkpoint holds it so; else absent. */
  blocks?(): Promise<Uint8Array<ArrayBuffer>>;
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

  /** Makes the weight resident, reading it from its source if it is not. Throws UserError when no checkpoint is attached. */
  async load(device: Device): Promise<void> {
    if (this.buffer) return;
    if (!this.source) throw new UserError(`The weight ${this.name} has no values: attach a checkpoint to its network first.`);
    if (this.source.blocks) this.write(device, await this.source.blocks());
    else this.upload(device, await this.source.read());
  }

  /**
   * Fills the GPU buffer from values in the checkpoint's order: f16 bit patterns in Uint16Array for f16, which may be given for q8 and q4 too, else
   * Float32Array. What is stored in blocks is rounded here.
   */
  upload(device: Device, values: TensorData): void {
    if (values.length !== sizeOf(this.shape))
      throw new ShapeError(`${this.name}: ${values.length} values for shape ${showShape(this.shape)}.`);
    const { dtype } = this;
    const stored = reorder(values, this.shape, this.kind);
    if (isBlocks(dtype) && !(stored instanceof Uint32Array)) {
      this.write(device, quantise(dtype, stored instanceof Uint16Array ? decodeF16(stored) : stored));
      return;
    }
    if (values instanceof Uint16Array !== (dtype === 'f16'))
      throw new ShapeError(`${this.name}: a ${values.constructor.name} for a weight that is stored as ${dtype}.`);
    this.write(device, new Uint8Array(stored.buffer as ArrayBuffer, stored.byteOffset, stored.byteLength));
  }

  private write(device: Device, stored: Uint8Array<ArrayBuffer>): void {
    const bytes = storageBytes(this.dtype, sizeOf(this.shape));
    const padded = new Uint8Array(bytes);
    padded.set(stored);
    this.buffer ??= device.buffer(this.name, bytes, GPU_STORAGE | GPU_COPY_DST | GPU_COPY_SRC);
    device.gpu.queue.writeBuffer(this.buffer, 0, padded);
  }

  release(device: Device): void {
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

/** Values in the checkpoint's order -> in the order a weight is stored on the GPU. */
export function storedOrder(values: Float32Array<ArrayBuffer>, { shape, kind }: Layout): Float32Array<ArrayBuffer> {
  return reorder(values, shape, kind) as Float32Array<ArrayBuffer>;
}

/** Values in the order a weight is stored on the GPU, such as its gradient -> in the checkpoint's order. */
export function checkpointOrder(stored: Float32Array, { shape, kind }: Layout): Float32Array<ArrayBuffer> {
  return reorder(stored, shape, kind, true) as Float32Array<ArrayBuffer>;
}

/** The checkpoint's order -> the stored one, or back. */
function reorder(values: TensorData, shape: Shape, kind: ParameterKind, back = false): TensorData {
  if (kind !== 'conv' && kind !== 'transposed') return values;
  const [rows, columns] = shape;
  const pixels = kind === 'conv' ? shape[2] * shape[3] : 1;
  const ordered = new (values.constructor as new (n: number) => TensorData)(values.length);
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
