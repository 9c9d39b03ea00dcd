/**
 * The order in which weights lie on the GPU, and the checkpoint's: convolutions channels last, transposed matrices turned, blocks in records.
 */
import { isBlocks, quantise } from './blocks.ts';
import { ShapeError } from './errors.ts';
import { decodeF16 } from './half.ts';
import type { ParameterKind } from './parameter-source.ts';
import { type DType, storageBytes } from './shader.ts';
import { type Shape, showShape, sizeOf, type TensorData } from './shape.ts';

interface Stored {
  /** In the checkpoint. */
  shape: Shape;
  kind: ParameterKind;
}

/** Values in the order a weight is stored on the GPU, such as its gradient -> in the checkpoint's order. */
export function checkpointOrder(stored: Float32Array, { shape, kind }: Stored): Float32Array<ArrayBuffer> {
  const ordered = isReordered(shape, kind) ? reorder(stored, new Float32Array(stored.length), shape, kind, true) : stored;
  return ordered as Float32Array<ArrayBuffer>;
}

/**
 * Values in the checkpoint's order -> in the GPU's; the same array where the two agree. `shape` in the checkpoint; of all kinds but `transposed`,
 * some rows of the first axis may come by themselves. The result lies in `room` if it is given.
 */
export function storedOrder<Values extends TensorData>(values: Values, { shape, kind }: Stored, room?: Uint8Array<ArrayBuffer>): Values {
  if (!isReordered(shape, kind)) return values;
  const { buffer, byteOffset } = room ?? new Uint8Array(values.byteLength);
  const Kind = values.constructor as new (buffer: ArrayBuffer, offset: number, length: number) => Values;
  return reorder(values, new Kind(buffer, byteOffset, values.length), shape, kind, false);
}

/**
 * Values in the checkpoint's order -> the bytes on the GPU: f16 bit patterns in Uint16Array for f16, which may be given for q8 and q4 too, else
 * Float32Array. What is stored in blocks is rounded here. Throws ShapeError, with the weight's name, for other counts and types.
 */
export function packed(values: TensorData, weight: Stored & { name: string; dtype: DType }): Uint8Array<ArrayBuffer> {
  const { name, shape, dtype } = weight;
  if (values.length !== sizeOf(shape)) throw new ShapeError(`${name}: ${values.length} values for shape ${showShape(shape)}.`);
  const stored = storedOrder(values, weight);
  const bytes = storageBytes(dtype, sizeOf(shape));
  if (isBlocks(dtype) && !(stored instanceof Uint32Array))
    return padded(quantise(dtype, stored instanceof Uint16Array ? decodeF16(stored) : stored), bytes);
  if (values instanceof Uint16Array !== (dtype === 'f16'))
    throw new ShapeError(`${name}: a ${values.constructor.name} for a weight that is stored as ${dtype}.`);
  return padded(new Uint8Array(stored.buffer as ArrayBuffer, stored.byteOffset, stored.byteLength), bytes);
}

function padded(stored: Uint8Array<ArrayBuffer>, bytes: number): Uint8Array<ArrayBuffer> {
  if (stored.length === bytes) return stored;
  const padded = new Uint8Array(bytes);
  padded.set(stored);
  return padded;
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
