/** What tensor files of every format share: an index of tensors, and the reading of elements on top of the reading of bytes. */

import { dequantise } from '../core/blocks.ts';
import { UserError } from '../core/errors.ts';
import { encodeF16 } from '../core/half.ts';
import { checkpointOrder } from '../core/stored-order.ts';
import { blockKind } from './block-entries.ts';
import { checkRange } from './byte-source.ts';
import { blocksOf, decode, isFloat, isStoredBlocks, type NumberArray, viewAs } from './dtype.ts';
import { checkF16Overflow, elementCount, type TensorFile, type TensorInfo } from './tensor-file.ts';

/**
 * Numbers -> f16 bits, rounded to nearest even; they are elements of a tensor from number `first` on. @throws OverflowError if a finite one does
 * not fit.
 */
export function f16Bits(file: string, name: string, values: NumberArray, first = 0): Uint16Array<ArrayBuffer> {
  const bits = encodeF16(values);
  checkF16Overflow(file, name, values, bits, first);
  return bits;
}

export abstract class IndexedFile<Info extends TensorInfo = TensorInfo> implements TensorFile {
  readonly name: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly #tensors: ReadonlyMap<string, Info>;

  constructor(name: string, tensors: ReadonlyMap<string, Info>, metadata: ReadonlyMap<string, string> = new Map()) {
    this.name = name;
    this.metadata = metadata;
    this.#tensors = tensors;
  }

  /** Bytes [byteOffset, byteOffset + byteLength) of a tensor, fresh, or in `into` as ByteSource.read has it; the range has been checked. */
  protected abstract read(
    info: Info,
    byteOffset: number,
    byteLength: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;

  names(): string[] {
    return [...this.#tensors.keys()];
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  info(name: string): Info {
    const info = this.#tensors.get(name);
    if (!info) throw new UserError(`${this.name}: there is no tensor "${name}" among its ${this.#tensors.size}. Is it the right file?`);
    return info;
  }

  async bytes(name: string, byteOffset = 0, byteLength?: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    const info = this.info(name);
    const size = info.end - info.begin;
    const length = byteLength ?? size - byteOffset;
    checkRange({ name: `${this.name}, tensor "${name}"`, size }, byteOffset, length);
    const bytes = await this.read(info, byteOffset, length, into);
    if (bytes.byteLength !== length) {
      throw new UserError(
        `${this.name}: ${bytes.byteLength} of the ${length} bytes of tensor "${name}" could be read. Was the file changed or moved while it was in use? Load it again.`,
      );
    }
    return bytes;
  }

  async f32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const values = await this.#values(name);
    return values instanceof Float32Array ? values : new Float32Array(values);
  }

  /** All elements as f64; exact except for 64-bit integers beyond 2^53. */
  async f64(name: string): Promise<Float64Array<ArrayBuffer>> {
    const values = await this.#values(name);
    return values instanceof Float64Array ? values : new Float64Array(values);
  }

  async f16bits(name: string): Promise<Uint16Array<ArrayBuffer>> {
    if (this.info(name).dtype === 'F16') return viewAs(Uint16Array, await this.bytes(name));
    return f16Bits(this.name, name, await this.#values(name));
  }

  /** All elements of an integer or boolean tensor (token ids, indices, boxes). @throws UserError for other dtypes and beyond 2^53. */
  async ints(name: string): Promise<number[]> {
    const { dtype } = this.info(name);
    const values = Array.from(await this.#values(name));
    if (isFloat(dtype) || !values.every(Number.isSafeInteger)) {
      throw new UserError(`${this.name}: tensor "${name}" (${dtype}) was to hold integers below 2^53 and does not. Is it the right file?`);
    }
    return values;
  }

  async #values(name: string): Promise<NumberArray> {
    const { dtype, shape } = this.info(name);
    const bytes = await this.bytes(name);
    if (!isStoredBlocks(dtype)) return decode(dtype, bytes);
    return checkpointOrder(dequantise(blocksOf(dtype), bytes, elementCount(shape)), { shape, kind: blockKind(shape) });
  }
}
