/** Writes safetensors files: LoRA weights, optimiser state, converted checkpoints; `safetensors.ts` describes the format and reads them. */
import { UserError } from '../core/errors.ts';
import { BLOCK_ENTRIES, encodeBlockEntries } from './block-entries.ts';
import { byteLength, DTYPE_BYTES, isStoredBlocks, type StoredDType } from './dtype.ts';
import { elementCount } from './tensor-file.ts';

/** A tensor's entry in a header, as it is to be. */
export interface TensorEntry {
  name: string;
  dtype: StoredDType;
  shape: readonly number[];
}

export interface SafetensorsPlan<Entry extends TensorEntry> {
  /** Length, JSON and padding: the tensors' bytes follow at once, in the order of `tensors`. */
  header: Uint8Array<ArrayBuffer>;
  tensors: Entry[];
  /** Bytes of the whole file. */
  size: number;
}

/**
 * Lays out a file before its tensors are there, so that they can be written one after the other. Tensors go from the widest dtype to the narrowest,
 * else in the order given, which keeps every one aligned for readers that map the file.
 * @throws UserError for names used twice and the reserved name "__metadata__".
 */
export function planSafetensors<Entry extends TensorEntry>(
  entries: readonly Entry[],
  metadata: Readonly<Record<string, string>> = {},
): SafetensorsPlan<Entry> {
  const tensors = [...entries].sort((a, b) => alignment(b.dtype) - alignment(a.dtype));
  const blocks = encodeBlockEntries(tensors);
  const texts = { ...metadata, ...(blocks ? { [BLOCK_ENTRIES]: blocks } : {}) };
  const items: [string, unknown][] = Object.keys(texts).length > 0 ? [['__metadata__', texts]] : [];
  const seen = new Set(['__metadata__']);
  let size = 0;
  for (const { name, dtype, shape } of tensors) {
    if (seen.has(name))
      throw new UserError(`A safetensors file cannot hold a tensor "${name}" here: the name is reserved or used twice. Rename it.`);
    seen.add(name);
    const begin = size;
    size += byteLength(dtype, elementCount(shape));
    const as = isStoredBlocks(dtype) ? { dtype: 'U8', shape: [size - begin] } : { dtype, shape };
    items.push([name, { ...as, data_offsets: [begin, size] }]);
  }
  // Written entry by entry: an object would lose a tensor named "__proto__" and put names that look like numbers first.
  const text = new TextEncoder().encode(`{${items.map(([name, item]) => `${JSON.stringify(name)}:${JSON.stringify(item)}`).join(',')}}`);
  const length = Math.ceil(text.length / 8) * 8;
  const header = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(header.buffer).setUint32(0, length, true);
  header.set(text, 8);
  return { header, tensors, size: header.length + size };
}

/** Bytes on whose multiples the elements of a dtype should begin; records of blocks are of 32-bit words. */
const alignment = (dtype: StoredDType): number => (isStoredBlocks(dtype) ? 4 : DTYPE_BYTES[dtype]);

/**
 * Writes tensors as one safetensors file, laid out by `planSafetensors`. Elements are stored as their arrays hold them: F16 and BF16 as bits in a
 * Uint16Array, and so on.
 * @throws UserError if an array's bytes do not fit its dtype and shape, and as planSafetensors.
 */
export function encodeSafetensors(
  tensors: Iterable<readonly [name: string, { dtype: StoredDType; shape: readonly number[]; data: ArrayBufferView }]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const plan = planSafetensors(
    [...tensors].map(([name, tensor]) => ({ name, ...tensor })),
    metadata,
  );
  const file = new Uint8Array(plan.size);
  file.set(plan.header);
  let at = plan.header.length;
  for (const { name, dtype, shape, data } of plan.tensors) {
    const bytes = byteLength(dtype, elementCount(shape));
    if (data.byteLength !== bytes) {
      throw new UserError(
        `Tensor "${name}", ${dtype} [${shape}], takes ${bytes} bytes, but its array has ${data.byteLength}. Pass the array that belongs to the shape.`,
      );
    }
    file.set(new Uint8Array(data.buffer, data.byteOffset, bytes), at);
    at += bytes;
  }
  return file;
}
