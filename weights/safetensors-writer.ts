/** Writes safetensors files (LoRA weights, optimiser state, test data); `safetensors.ts` describes the format and reads them. */
import { UserError } from '../core/errors.ts';
import { DTYPE_BYTES, type DType } from './dtype.ts';
import { elementCount } from './tensor-file.ts';

/**
 * Writes tensors as one safetensors file. Elements are stored as their arrays hold them: F16 and BF16 as bits in a Uint16Array, and so on.
 * Tensors go from the widest dtype to the narrowest, else in the order given, which keeps every one aligned for readers that map the file.
 * @throws UserError if an array's bytes do not fit its dtype and shape, or for the reserved name "__metadata__".
 */
export function encodeSafetensors(
  tensors: Iterable<readonly [name: string, { dtype: DType; shape: readonly number[]; data: ArrayBufferView }]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const sorted = [...tensors].sort(([, a], [, b]) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype]);
  const entries: [string, unknown][] = Object.keys(metadata).length > 0 ? [['__metadata__', metadata]] : [];
  const seen = new Set(['__metadata__']);
  let size = 0;
  for (const [name, { dtype, shape, data }] of sorted) {
    const bytes = elementCount(shape) * DTYPE_BYTES[dtype];
    if (data.byteLength !== bytes) {
      throw new UserError(
        `Tensor "${name}", ${dtype} [${shape}], takes ${bytes} bytes, but its array has ${data.byteLength}. Pass the array that belongs to the shape.`,
      );
    }
    if (seen.has(name))
      throw new UserError(`A safetensors file cannot hold a tensor "${name}" here: the name is reserved or used twice. Rename it.`);
    seen.add(name);
    entries.push([name, { dtype, shape, data_offsets: [size, size + bytes] }]);
    size += bytes;
  }
  // Written entry by entry: an object would lose a tensor named "__proto__" and put names that look like numbers first.
  const json = `{${entries.map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`).join(',')}}`;
  const text = new TextEncoder().encode(json);
  const header = Math.ceil(text.length / 8) * 8;
  const file = new Uint8Array(8 + header + size).fill(0x20, 8, 8 + header);
  new DataView(file.buffer).setUint32(0, header, true);
  file.set(text, 8);
  let at = 8 + header;
  for (const [, { data }] of sorted) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return file;
}
