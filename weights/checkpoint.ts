/**
 * A checkpoint: the tensors of several files under one set of names. Loading is two-way: what a model needs and no file holds, and what a file
 * holds and no model needs, are both errors.
 */
import { UserError } from '../core/errors.ts';
import { firstNotFinite } from '../core/finite.ts';
import { fromF16 } from '../core/half.ts';
import type { ByteSource } from './byte-source.ts';
import { originOf } from './layouts.ts';
import { openAll, openTensorFile } from './open.ts';
import type { TensorFile, TensorInfo } from './tensor-file.ts';

/** Names listed per kind of problem in one message. */
const LISTED = 3;

export class Checkpoint implements TensorFile {
  readonly #files: readonly TensorFile[];
  readonly #fileOf = new Map<string, TensorFile>();

  /** Opens safetensors files and PyTorch checkpoints in load order. @throws UserError if one of them is damaged. */
  static async open(sources: readonly ByteSource[]): Promise<Checkpoint> {
    return new Checkpoint(await openAll(sources.map(openTensorFile)));
  }

  /** Joins files in load order: where two hold the same name, the later one counts. */
  constructor(files: readonly TensorFile[]) {
    this.#files = files;
    for (const file of files) {
      for (const name of file.names()) this.#fileOf.set(name, file);
    }
  }

  /** Names of the files. */
  get name(): string {
    return this.#files.map((file) => file.name).join(', ') || 'no files';
  }

  get metadata(): ReadonlyMap<string, string> {
    return new Map(this.#files.flatMap((file) => [...file.metadata]));
  }

  /** All names, in load order. */
  keys(): string[] {
    return [...this.#fileOf.keys()];
  }

  names(): string[] {
    return this.keys();
  }

  has(name: string): boolean {
    return this.#fileOf.has(name);
  }

  /** Name of the file that a tensor is read from. @throws UserError if no file holds it. */
  fileOf(name: string): string {
    return this.#file(name).name;
  }

  info(name: string): TensorInfo {
    return this.#file(name).info(name);
  }

  /** As TensorFile.bytes. */
  bytes(name: string, byteOffset?: number, byteLength?: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#file(name).bytes(name, byteOffset, byteLength, into);
  }

  /** As TensorFile.f32. */
  f32(name: string): Promise<Float32Array<ArrayBuffer>> {
    return this.#file(name).f32(name);
  }

  /** As TensorFile.f16bits. */
  f16bits(name: string): Promise<Uint16Array<ArrayBuffer>> {
    return this.#file(name).f16bits(name);
  }

  /** Closes all files. */
  async close(): Promise<void> {
    for (const file of this.#files) await file.close?.();
  }

  /**
   * Compares the checkpoint with the names and shapes a model expects; `ignored` names may be there and are not needed.
   * @throws UserError listing every kind of mismatch by name, with the file to look into.
   */
  checkKeys(expected: ReadonlyMap<string, readonly number[]>, ignored: (name: string) => boolean): void {
    const missing = [...expected.keys()].filter((name) => !this.has(name));
    const surplus = this.keys().filter((name) => !expected.has(name) && !ignored(name));
    const misshapen = this.keys().filter((name) => {
      const shape = expected.get(name);
      return shape !== undefined && String(shape) !== String(this.info(name).shape);
    });
    const problems = [
      ...(['SDXL', 'SUPIR'] as const).map((origin) =>
        list(
          missing.filter((name) => originOf(name) === origin),
          (n) => `${tensors(n)} missing that the ${origin} file should hold`,
        ),
      ),
      list(
        misshapen,
        (n) => `${tensors(n)} of another shape than the model's`,
        (name) => {
          return `${name} is [${this.info(name).shape}] in ${this.fileOf(name)} and [${expected.get(name)}] in the model`;
        },
      ),
      list(
        surplus,
        (n) => `${tensors(n)} that the model does not have`,
        (name) => `${name} in ${this.fileOf(name)}`,
      ),
    ].filter((problem) => problem !== '');
    if (problems.length === 0) return;
    throw new UserError(
      `The checkpoint (${this.name}) does not fit the model: ${problems.join('; ')}. Give the SDXL base model as one file and the SUPIR model as the other, both of the kind the configuration is for.`,
    );
  }

  /**
   * Checks weights that were read for a tensor, from its element `first` on: f32 values, or f16 bits in a Uint16Array.
   * @throws UserError naming file, tensor and element at the first NaN or infinity.
   */
  assertFinite(name: string, values: Float32Array | Uint16Array, first = 0): void {
    const at = firstNotFinite(values);
    if (at < 0) return;
    const value = values instanceof Uint16Array ? fromF16(values[at]) : values[at];
    const what = Number.isNaN(value) ? 'not a number' : 'infinite';
    throw new UserError(
      `${this.fileOf(name)}: element ${first + at} of tensor "${name}" is ${what}. The file is damaged or was converted badly: download it again, or use the original it was converted from.`,
    );
  }

  #file(name: string): TensorFile {
    const file = this.#fileOf.get(name);
    if (file) return file;
    throw new UserError(
      `No file of the checkpoint holds a tensor "${name}", which the ${originOf(name)} file should. Was that file given?`,
    );
  }
}

const tensors = (n: number): string => (n === 1 ? '1 tensor' : `${n} tensors`);

/** "3 tensors missing: a, b, c", cut after the first names; empty for no names. */
function list(names: readonly string[], title: (n: number) => string, describe: (name: string) => string = (name) => name): string {
  if (names.length === 0) return '';
  const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : '';
  return `${title(names.length)}: ${names.slice(0, LISTED).map(describe).join(', ')}${more}`;
}
