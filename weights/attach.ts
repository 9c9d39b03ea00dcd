/** Joins networks with a checkpoint: every parameter learns where its values are; nothing is read until a program needs it. */
import { UserError } from '../core/errors.ts';
import { named, type Parameter, parameters } from '../core/module.ts';
import type { Checkpoint } from './checkpoint.ts';
import { DTYPE_BYTES, decode } from './dtype.ts';

export interface AttachOptions {
  /** Storage of matrices and convolutions on the GPU. Default f16; biases, norms and position embeddings are always f32. */
  dtype?: 'f16' | 'f32';
}

/** Names every weight below `root` `prefix` + its path and points it at the checkpoint. Existence and shapes are Checkpoint.checkKeys' business. */
export function attach(root: object, prefix: string, checkpoint: Checkpoint, { dtype = 'f16' }: AttachOptions = {}): void {
  for (const [, parameter] of parameters(named(root, prefix))) {
    if (parameter.kind !== 'vector' && parameter.kind !== 'host') parameter.dtype = dtype;
    const { name } = parameter;
    parameter.source = {
      async read() {
        const values = parameter.dtype === 'f16' ? await checkpoint.f16bits(name) : await checkpoint.f32(name);
        checkpoint.assertFinite(name, values);
        return values;
      },
      readRows: (rows) => readRows(checkpoint, parameter, rows),
    };
  }
}

/** Names and shapes below `root`, as Checkpoint.checkKeys takes them. */
export function expectedKeys(root: object, prefix = ''): Map<string, readonly number[]> {
  return new Map([...parameters(root)].map(([path, { shape }]) => [prefix + path, shape]));
}

async function readRows(checkpoint: Checkpoint, { name, shape }: Parameter, rows: number[]): Promise<Float32Array> {
  const { dtype } = checkpoint.info(name);
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
