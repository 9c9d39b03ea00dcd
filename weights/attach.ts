/** Joins networks with a checkpoint: every parameter learns where its values are; nothing is read until a program needs it. */
import { type BlockDType, isBlocks } from '../core/blocks.ts';
import { UserError } from '../core/errors.ts';
import { named, type Parameter, parameters } from '../core/module.ts';
import { storedInBlocks } from './block-entries.ts';
import type { Checkpoint } from './checkpoint.ts';
import { blocksOf, DTYPE_BYTES, decode, isStoredBlocks } from './dtype.ts';

export interface AttachOptions {
  /**
   * Storage of matrices and convolutions on the GPU. q8 and q4 are blocks of 8 and 4 bits, rounded when a weight is read unless the checkpoint holds it
   * so; what is not to be in blocks (storedInBlocks) is f16 then. Default: as the checkpoint holds it where that is in blocks, else f16. Biases, norms and
   * position embeddings are always f32.
   */
  dtype?: WeightDType;
}

export type WeightDType = 'f16' | 'f32' | BlockDType;

/** Names every weight below `root` `prefix` + its path and points it at the checkpoint. Existence and shapes are Checkpoint.checkKeys' business. */
export function attach(root: object, prefix: string, checkpoint: Checkpoint, { dtype }: AttachOptions = {}): void {
  for (const [, parameter] of parameters(named(root, prefix))) {
    const { name } = parameter;
    const held = checkpoint.has(name) ? checkpoint.info(name).dtype : 'F16';
    const blocks = isStoredBlocks(held) ? blocksOf(held) : null;
    if (parameter.kind !== 'vector' && parameter.kind !== 'host') parameter.dtype = storage(parameter, dtype ?? blocks ?? 'f16');
    parameter.source = {
      async read() {
        const values = parameter.dtype === 'f16' ? await checkpoint.f16bits(name) : await checkpoint.f32(name);
        checkpoint.assertFinite(name, values);
        return values;
      },
      readRows: (rows) => readRows(checkpoint, parameter, rows),
      ...(blocks && parameter.dtype === blocks ? { blocks: () => checkpoint.bytes(name) } : {}),
    };
  }
}

const storage = ({ name, shape }: Parameter, wanted: WeightDType): WeightDType =>
  isBlocks(wanted) && !storedInBlocks(name, shape) ? 'f16' : wanted;

/** Names and shapes below `root`, as Checkpoint.checkKeys takes them. */
export function expectedKeys(root: object, prefix = ''): Map<string, readonly number[]> {
  return new Map([...parameters(root)].map(([path, { shape }]) => [prefix + path, shape]));
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
