/**
 * Conversion of weights to another dtype, as a safetensors file written front to back: a window of one tensor is in memory at a time, and a file
 * that was begun can be continued at any tensor.
 */
import { quantise } from '../core/blocks.ts';
import { storedOrder } from '../core/stored-order.ts';
import { blockKind, storedInBlocks } from './block-entries.ts';
import { blocksOf, byteLength, encode, type FloatDType, isFloat, isStoredBlocks, type NumberArray, type StoredBlocks } from './dtype.ts';
import { fingerprint } from './fingerprint.ts';
import { planSafetensors, type SafetensorsPlan, type TensorEntry } from './safetensors-writer.ts';
import { checkBlockValues, checkF16Overflow, elementCount, type TensorFile } from './tensor-file.ts';
import { valueWindows, WINDOW } from './value-windows.ts';

/** What real numbers become. Of Q8 and Q4 only the weights of storedInBlocks, the others then become F16. */
export type ConvertedDType = FloatDType | StoredBlocks;

export interface Conversion {
  readonly plan: SafetensorsPlan<TensorEntry>;
  /** The bytes of tensor `index` of the plan, in pieces. @throws UserError naming the tensor, if a value does not fit the dtype. */
  tensor(index: number): AsyncGenerator<Uint8Array<ArrayBuffer>>;
}

/**
 * Plans the conversion of a file. Real numbers become `dtype`, integers stay as they are. The header carries the source's fingerprint,
 * so that equal headers mean equal files.
 */
export async function convert(file: TensorFile, dtype: ConvertedDType): Promise<Conversion> {
  const target = (name: string) => {
    const { dtype: stored, shape } = file.info(name);
    if (!isFloat(stored)) return stored;
    return isStoredBlocks(dtype) && !storedInBlocks(name, shape) ? 'F16' : dtype;
  };
  const entries = file.names().map((name) => ({ name, dtype: target(name), shape: file.info(name).shape }));
  const plan = planSafetensors(entries, { format: 'pt', converted_from: file.name, source_digest: await fingerprint(file) });
  return {
    plan,
    async *tensor(index) {
      const { name, dtype: wanted, shape } = plan.tensors[index];
      const { dtype: stored } = file.info(name);
      if (stored === wanted) {
        const bytes = byteLength(stored, elementCount(shape));
        for (let at = 0; at < bytes; at += 4 * WINDOW) yield await file.bytes(name, at, Math.min(4 * WINDOW, bytes - at));
        return;
      }
      for await (const { first, shape: part, values } of valueWindows(file, name)) {
        if (isStoredBlocks(wanted)) {
          checkBlockValues(file.name, name, values, first);
          yield quantise(blocksOf(wanted), storedOrder(new Float32Array(values), { shape: part, kind: blockKind(part) }));
        } else yield encoded(wanted as FloatDType, values, name, first);
      }
    },
  };

  function encoded(wanted: FloatDType, values: NumberArray, name: string, first: number): Uint8Array<ArrayBuffer> {
    const array = encode(wanted, values);
    if (array instanceof Uint16Array && wanted === 'F16') checkF16Overflow(file.name, name, values, array, first);
    return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  }
}
