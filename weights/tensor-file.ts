/** What every container of named weights offers, whatever its format: an index that is read at once and tensors that are read on demand. */
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import type { StoredDType } from './dtype.ts';

export interface TensorInfo {
  readonly name: string;
  readonly dtype: StoredDType;
  /** Row-major; [] is a scalar. */
  readonly shape: readonly number[];
  /** The tensor has end - begin bytes; begin orders the tensors as they lie in the file, so that reading by it goes forward. */
  readonly begin: number;
  readonly end: number;
}

export interface TensorFile {
  /** Name for messages: a file name or a URL. */
  readonly name: string;
  /** Free text that the file carries about itself. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Names of all tensors in the file's order. */
  names(): string[];
  has(name: string): boolean;
  /** @throws UserError if there is no such tensor. */
  info(name: string): TensorInfo;
  /**
   * Raw bytes of a tensor, or `byteLength` of them from `byteOffset`; fresh, or in `into` as ByteSource.read has it.
   * @throws UserError if there is no such tensor or range.
   */
  bytes(name: string, byteOffset?: number, byteLength?: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  /** All elements as f32, rounded to nearest where the stored type is wider. A fresh array. @throws UserError if there is no such tensor. */
  f32(name: string): Promise<Float32Array<ArrayBuffer>>;
  /**
   * All elements as f16 bits, rounded to nearest even where the stored type is wider. A fresh array.
   * @throws UserError if there is no such tensor, or if a finite element does not fit f16 (magnitude 65520 and above).
   */
  f16bits(name: string): Promise<Uint16Array<ArrayBuffer>>;
  /** Closes the file behind it, where there is one. */
  close?(): Promise<void> | undefined;
}

/** Tensors and axes of the largest file accepted, whatever its format: SDXL with SUPIR has 5,000 tensors, the state of a training three for each weight. */
export const TENSOR_LIMIT = 200_000;
export const AXES_LIMIT = 16;

/** Characters of a tensor's longest name; those of models have up to a hundred. */
const NAME_LIMIT = 1000;

/** @throws UserError for a file of more tensors, or with a longer name, than any model has. */
export function checkNames(file: string, names: readonly string[]): void {
  if (names.length > TENSOR_LIMIT)
    throw new UserError(
      `${file} names ${names.length} tensors, and at most ${TENSOR_LIMIT} are read. It is damaged, or no file of weights.`,
    );
  const long = names.find((name) => name.length > NAME_LIMIT);
  if (long !== undefined)
    throw new UserError(
      `${file} has a tensor of a name that is longer than ${NAME_LIMIT} characters: ${shown(long)}. It is damaged, or no file of weights.`,
    );
}

/** Number of elements of a shape. */
export const elementCount = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);

/** A value that the wanted dtype cannot hold. */
export class OverflowError extends UserError {
  override name = 'OverflowError';
}

/** @throws OverflowError naming file, tensor and element (the first of `values` is element `first`), if one is beyond the range of f16, infinite or no number. */
export function checkBlockValues(file: string, name: string, values: ArrayLike<number>, first = 0): void {
  for (let i = 0; i < values.length; i++) {
    if (!(Math.abs(values[i]) < 65520))
      throw new OverflowError(
        `${file}: element ${first + i} of tensor "${name}" is ${values[i]}, which blocks of 8 and 4 bits cannot hold (±65504). Is the file damaged? Else convert it to f32.`,
      );
  }
}

/** @throws OverflowError naming file, tensor and element (the first of `values` is element `first`), if rounding to f16 made an infinity of a finite value. */
export function checkF16Overflow(file: string, name: string, values: ArrayLike<number>, bits: Uint16Array, first = 0): void {
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i] & 0x7fff) === 0x7c00 && Number.isFinite(values[i])) {
      throw new OverflowError(
        `${file}: element ${first + i} of tensor "${name}" is ${values[i]}, which is beyond the range of 16-bit floats (±65504). Load this tensor as f32, or use a checkpoint that was trained or saved for half precision.`,
      );
    }
  }
}
