/**
 * Conversion of weights to another dtype, as a safetensors file written front to back: a window of one tensor is in memory at a time, and a file
 * that was begun can be continued at any tensor.
 */
import { DTYPE_BYTES, decode, encode, type FloatDType, isFloat } from './dtype.ts';
import { planSafetensors, type SafetensorsPlan, type TensorEntry } from './safetensors-writer.ts';
import { checkF16Overflow, elementCount, type TensorFile } from './tensor-file.ts';

/** Elements read at a time. */
const WINDOW = 2 ** 22;
/** Tensors whose first bytes go into the fingerprint. */
const SAMPLES = 64;

export interface Conversion {
  readonly plan: SafetensorsPlan<TensorEntry>;
  /** The bytes of tensor `index` of the plan, in pieces. @throws UserError naming the tensor, if a value does not fit the dtype. */
  tensor(index: number): AsyncGenerator<Uint8Array<ArrayBuffer>>;
}

/**
 * Plans the conversion of a file. Real numbers become `dtype`, integers stay as they are. The header carries a digest of samples of the source,
 * so that equal headers mean equal files.
 */
export async function convert(file: TensorFile, dtype: FloatDType): Promise<Conversion> {
  const entries = file.names().map((name) => {
    const { dtype: stored, shape } = file.info(name);
    return { name, dtype: isFloat(stored) ? dtype : stored, shape };
  });
  const plan = planSafetensors(entries, { format: 'pt', converted_from: file.name, source_digest: await fingerprint(file) });
  return {
    plan,
    async *tensor(index) {
      const { name, dtype: wanted, shape } = plan.tensors[index];
      const { dtype: stored } = file.info(name);
      const count = elementCount(shape);
      for (let first = 0; first < count; first += WINDOW) {
        const width = DTYPE_BYTES[stored];
        const bytes = await file.bytes(name, first * width, Math.min(WINDOW, count - first) * width);
        if (stored === wanted) {
          yield bytes;
          continue;
        }
        const values = decode(stored, bytes);
        const encoded = encode(dtype, values);
        if (encoded instanceof Uint16Array && dtype === 'F16') checkF16Overflow(file.name, name, values, encoded, first);
        yield new Uint8Array(encoded.buffer, encoded.byteOffset, encoded.byteLength);
      }
    },
  };
}

/** Hexadecimal SHA-256 over names, dtypes and shapes of all tensors and the first bytes of some. */
async function fingerprint(file: TensorFile): Promise<string> {
  const names = file.names();
  const index = names.map((name) => `${name} ${file.info(name).dtype} ${file.info(name).shape}`).join('\n');
  const parts: Uint8Array<ArrayBuffer>[] = [new TextEncoder().encode(index)];
  for (let i = 0; i < names.length; i += Math.ceil(names.length / SAMPLES)) {
    const { begin, end } = file.info(names[i]);
    parts.push(await file.bytes(names[i], 0, Math.min(256, end - begin)));
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await new Blob(parts).arrayBuffer()));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
