/** Element types of stored tensors, under their safetensors names, and their decoding to numbers. */
import { type BlockDType, blockBytes } from '../core/blocks.ts';
import { decodeBF16, decodeF16, encodeF16, fromF8E4M3, fromF8E5M2 } from '../core/half.ts';

/** Bytes an element takes. */
export const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

/** Dtypes that have a size for every element. */
export type PlainDType = keyof typeof DTYPE_BYTES;
/** Blocks of core/blocks.ts, in the order in which the GPU has the weight: an entry of our own in safetensors files (block-entries.ts). */
export type StoredBlocks = 'Q8' | 'Q4';
export type StoredDType = PlainDType | StoredBlocks;

export const isDType = (value: unknown): value is PlainDType => typeof value === 'string' && Object.hasOwn(DTYPE_BYTES, value);
export const isStoredBlocks = (dtype: StoredDType): dtype is StoredBlocks => dtype === 'Q8' || dtype === 'Q4';
export const blocksOf = (dtype: StoredBlocks): BlockDType => (dtype === 'Q8' ? 'q8' : 'q4');

/** Bytes that `count` elements take. */
export const byteLength = (dtype: StoredDType, count: number): number =>
  isStoredBlocks(dtype) ? blockBytes(blocksOf(dtype), count) : count * DTYPE_BYTES[dtype];

export type NumberArray =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

/**
 * Little-endian elements of a dtype -> numbers, in the narrowest array that holds them all; exact except for 64-bit integers beyond 2^53.
 * Where the dtype is that of a typed array the result shares memory with `bytes`.
 */
export function decode(dtype: PlainDType, bytes: Uint8Array<ArrayBuffer>): NumberArray {
  switch (dtype) {
    case 'BOOL':
    case 'U8':
      return bytes;
    case 'I8':
      return viewAs(Int8Array, bytes);
    case 'F8_E4M3':
      return Float32Array.from(bytes, fromF8E4M3);
    case 'F8_E5M2':
      return Float32Array.from(bytes, fromF8E5M2);
    case 'U16':
      return viewAs(Uint16Array, bytes);
    case 'I16':
      return viewAs(Int16Array, bytes);
    case 'F16':
      return decodeF16(viewAs(Uint16Array, bytes));
    case 'BF16':
      return decodeBF16(viewAs(Uint16Array, bytes));
    case 'U32':
      return viewAs(Uint32Array, bytes);
    case 'I32':
      return viewAs(Int32Array, bytes);
    case 'F32':
      return viewAs(Float32Array, bytes);
    case 'U64':
      return Float64Array.from(viewAs(BigUint64Array, bytes), Number);
    case 'I64':
      return Float64Array.from(viewAs(BigInt64Array, bytes), Number);
    case 'F64':
      return viewAs(Float64Array, bytes);
  }
}

/** Dtypes that hold real numbers. */
export const isFloat = (dtype: StoredDType): boolean => /[FQ]/.test(dtype);

/** Dtypes that weights can be written in. */
export type FloatDType = 'F16' | 'BF16' | 'F32';

/** Numbers -> little-endian elements, to nearest even; what overflows F16 becomes infinity (the caller decides whether that is an error). */
export function encode(dtype: FloatDType, values: NumberArray): Uint16Array<ArrayBuffer> | Float32Array<ArrayBuffer> {
  switch (dtype) {
    case 'F16':
      return encodeF16(values);
    case 'BF16':
      return encodeBF16(values);
    case 'F32':
      return new Float32Array(values);
  }
}

/** Numbers -> bfloat16 bits, rounded to f32 and then to nearest even; NaN stays NaN. */
function encodeBF16(values: NumberArray): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(new Float32Array(values).buffer);
  const bits = new Uint16Array(words.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    const nan = (word & 0x7fffffff) > 0x7f800000;
    bits[i] = nan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return bits;
}

interface ArrayKind<A> {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): A;
  readonly BYTES_PER_ELEMENT: number;
}

/** The same bytes as elements of another type; copied only if they do not lie on its boundaries. */
export function viewAs<A>(kind: ArrayKind<A>, bytes: Uint8Array<ArrayBuffer>): A {
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % kind.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new kind(buffer, byteOffset, byteLength / kind.BYTES_PER_ELEMENT);
}
