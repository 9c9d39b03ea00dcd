/** Joins networks with a checkpoint: every parameter learns where its values are; nothing is read until a program needs it. */
import { type BlockDType, blockBytes, firstBadBlock, isBlocks, quantise } from '../core/blocks.ts';
import { UserError } from '../core/errors.ts';
import { named, type Parameter, parameters } from '../core/module.ts';
import { PIECE_BYTES, type WeightPiece } from '../core/parameter-source.ts';
import { storedOrder } from '../core/stored-order.ts';
import { sizeOf } from '../core/tensor.ts';
import { storedInBlocks } from './block-entries.ts';
import type { Checkpoint } from './checkpoint.ts';
import { blocksOf, byteLength, DTYPE_BYTES, decode, isStoredBlocks, type PlainDType, viewAs } from './dtype.ts';
import { f16Bits } from './indexed-file.ts';
import { checkBlockValues } from './tensor-file.ts';

export interface AttachOptions {
  /**
   * Storage of matrices and convolutions on the GPU. q8 and q4 are blocks of 8 and 4 bits, rounded when a weight is read unless the checkpoint holds it
   * so; what is not to be in blocks (storedInBlocks) is f16 then. Default: as the checkpoint holds it where that is in blocks, else f16. Biases, norms and
   * position embeddings are always f32.
   */
  dtype?: WeightDType;
}

export type WeightDType = 'f16' | 'f32' | BlockDType;
/** Those that a person may choose for a model. */
export const WEIGHT_DTYPES = ['f16', 'q8', 'q4'] as const satisfies WeightDType[];

/** Names every weight below `root` `prefix` + its path and points it at the checkpoint. Existence and shapes are Checkpoint.checkKeys' business. */
export function attach(root: object, prefix: string, checkpoint: Checkpoint, { dtype }: AttachOptions = {}): void {
  for (const [, parameter] of parameters(named(root, prefix))) {
    const { name } = parameter;
    const held = checkpoint.has(name) ? checkpoint.info(name).dtype : 'F16';
    const blocks = isStoredBlocks(held) ? blocksOf(held) : null;
    if (parameter.kind !== 'vector' && parameter.kind !== 'host') parameter.dtype = storage(parameter, dtype ?? blocks ?? 'f16');
    const checked = new Set<number>();
    parameter.source = {
      async read() {
        const values = parameter.dtype === 'f16' ? await checkpoint.f16bits(name) : await checkpoint.f32(name);
        check(checkpoint, name, parameter.dtype, values, 0);
        return values;
      },
      readRows: (rows) => readRows(checkpoint, parameter, rows),
      pieces: () =>
        parameter.kind !== 'transposed' && (blocks === null || blocks === parameter.dtype)
          ? piecesOf(checkpoint, name, parameter, checked)
          : null,
    };
  }
}

/** Throws UserError unless the values are what the weight's storage can hold; the first is element `first`. */
function check(checkpoint: Checkpoint, name: string, dtype: Parameter['dtype'], values: Float32Array | Uint16Array, first: number): void {
  if (isBlocks(dtype)) checkBlockValues(checkpoint.fileOf(name), name, values, first);
  else checkpoint.assertFinite(name, values, first);
}

const storage = ({ name, shape }: Parameter, wanted: WeightDType): WeightDType =>
  isBlocks(wanted) && !storedInBlocks(name, shape) ? 'f16' : wanted;

/** Names and shapes below `root`, as Checkpoint.checkKeys takes them. */
export function expectedKeys(root: object, prefix = ''): Map<string, readonly number[]> {
  return new Map([...parameters(root)].map(([path, { shape }]) => [prefix + path, shape]));
}

/** A weight in rows of its first axis, converted and reordered; `name`: its key, whatever the parameter is called since; `checked`: first elements of the pieces that are known to be finite. */
function piecesOf(checkpoint: Checkpoint, name: string, parameter: Parameter, checked: Set<number>): WeightPiece[] {
  const { shape, kind, dtype } = parameter;
  const info = checkpoint.info(name);
  const [rows, ...inner] = shape;
  const row = sizeOf(inner);
  const size = (count: number) => (isBlocks(dtype) ? blockBytes(dtype, count) : count * (dtype === 'f16' ? 2 : 4));
  // An even number, so that pieces begin at whole words and records.
  const step = 2 * Math.max(1, Math.floor(PIECE_BYTES / size(2 * row)));
  const convert = (stored: PlainDType, bytes: Uint8Array<ArrayBuffer>, first: number) => {
    if (dtype !== 'f16') return new Float32Array(decode(stored, bytes));
    return stored === 'F16' ? viewAs(Uint16Array, bytes) : f16Bits(checkpoint.fileOf(name), name, decode(stored, bytes), first);
  };
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) => {
    const first = i * step * row;
    const count = Math.min(step, rows - i * step) * row;
    return {
      offset: size(first),
      bytes: size(count),
      async read(scratch) {
        const half = scratch.length / 2;
        const [from, length] = [byteLength(info.dtype, first), byteLength(info.dtype, count)];
        const bytes = await checkpoint.bytes(name, from, length, length <= half ? scratch.subarray(0, half) : undefined);
        if (isStoredBlocks(info.dtype)) {
          const at = checked.has(first) ? -1 : firstBadBlock(blocksOf(info.dtype), bytes);
          if (at >= 0)
            throw new UserError(
              `${checkpoint.fileOf(name)}: in the order of the file, the values from ${first + at} on of tensor "${name}" have a scale that is no number. The file is damaged: convert the model again.`,
            );
          checked.add(first);
          return bytes;
        }
        const values = convert(info.dtype, bytes, first);
        if (!checked.has(first)) check(checkpoint, name, dtype, values, first);
        checked.add(first);
        const room = values.byteLength <= half ? scratch.subarray(half) : undefined;
        const ordered = storedOrder(values, { shape: [count / row, ...inner], kind }, room);
        if (isBlocks(dtype)) return quantise(dtype, ordered as Float32Array);
        return new Uint8Array(ordered.buffer, ordered.byteOffset, ordered.byteLength);
      },
    };
  });
}

async function readRows(checkpoint: Checkpoint, { name, shape }: Parameter, rows: number[]): Promise<Float32Array> {
  const { dtype } = checkpoint.info(name);
  if (isStoredBlocks(dtype)) throw new UserError(`${checkpoint.fileOf(name)}: ${name} is a table, and cannot be in blocks of bits.`);
  const [count, columns] = shape;
  const bytes = columns * DTYPE_BYTES[dtype];
  const values = new Float32Array(rows.length * columns);
  for (const [i, row] of rows.entries()) {
    if (!(row >= 0 && row < count))
      throw new UserError(`${name} has rows 0 to ${count - 1}, and row ${row} was asked for. Does the tokenizer belong to this model?`);
    values.set(Float32Array.from(decode(dtype, await checkpoint.bytes(name, row * bytes, bytes)), Number), i * columns);
  }
  checkpoint.assertFinite(name, values);
  return values;
}
