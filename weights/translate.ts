/**
 * Translates the names of tensors between a layout and SDXL's single file, whose names the networks' attributes bear. A layout is a list of
 * rules; values are never touched before they are read. (After mlx-examples' `stable_diffusion`, where translation is one function that returns a list.)
 */
import { UserError } from '../core/errors.ts';
import { byteLength, DTYPE_BYTES, type PlainDType } from './dtype.ts';
import { IndexedFile } from './indexed-file.ts';
import { elementCount, type TensorFile, type TensorInfo } from './tensor-file.ts';

/** The same weights under two names, each the path of a tensor or of all tensors below it: `single.rest` is `other.rest`. */
export interface Rule {
  single: string;
  /** Several are one after the other in the single file, along the first dimension: query, key and value. */
  other: string | readonly string[];
  /** How the matrix lies in the other layout. transposed: (in, out) in the single file, (out, in) there. linear: (out, in, 1, 1), and (out, in) there. */
  form?: 'transposed' | 'linear';
}

/** A tensor under its new name, and the bytes it is made of. */
interface Translation extends TensorInfo {
  readonly pieces: readonly { readonly name: string; readonly begin: number; readonly end: number }[];
  readonly transposed: boolean;
}

/** A file under the single file's names. What no rule names keeps its own. @throws UserError if pieces of one tensor differ in dtype or shape. */
export function toSingle(file: TensorFile, rules: readonly Rule[]): TensorFile {
  const paths = new Map<string, { rule: Rule; index: number }>();
  for (const rule of rules) {
    for (const [index, path] of [rule.other].flat().entries()) if (!paths.has(path)) paths.set(path, { rule, index });
  }
  const translations: Translation[] = [];
  for (const name of file.names()) {
    const [path, rest] = longestPath(name, paths);
    const { rule, index } = paths.get(path) ?? { rule: { single: path, other: path }, index: 0 };
    const names = [rule.other].flat().map((other) => other + rest);
    if (!names.every((piece) => file.has(piece))) translations.push(translationOf(file, name, [name]));
    else if (index === 0) translations.push(translationOf(file, rule.single + rest, names, rule.form, 4));
  }
  return new TranslatedFile(file, translations);
}

/** A file of the single file's names under those of another layout. What no rule names is left out. */
export function toOther(file: TensorFile, rules: readonly Rule[]): TensorFile {
  const paths = new Map<string, Rule>();
  for (const rule of rules) if (!paths.has(rule.single)) paths.set(rule.single, rule);
  const translations: Translation[] = [];
  for (const name of file.names()) {
    const [path, rest] = longestPath(name, paths);
    const rule = paths.get(path);
    if (!rule) continue;
    const whole = translationOf(file, name, [name], rule.form, 2);
    const others = [rule.other].flat();
    const part = (whole.end - whole.begin) / others.length;
    const shape = others.length === 1 ? whole.shape : [whole.shape[0] / others.length, ...whole.shape.slice(1)];
    for (const [i, other] of others.entries()) {
      const begin = whole.begin + i * part;
      const pieces = [{ name, begin: i * part, end: (i + 1) * part }];
      translations.push({ ...whole, name: other + rest, shape, begin, end: begin + part, pieces });
    }
  }
  return new TranslatedFile(file, translations);
}

/** The longest path of the table that a name is or lies below, and the rest of the name; the whole name if there is none. */
function longestPath(name: string, paths: ReadonlyMap<string, unknown>): [path: string, rest: string] {
  for (let end = name.length; end > 0; end = name.lastIndexOf('.', end - 1)) {
    const path = name.slice(0, end);
    if (paths.has(path)) return [path, name.slice(end)];
  }
  return [name, ''];
}

function translationOf(
  file: TensorFile,
  name: string,
  sources: readonly string[],
  form?: Rule['form'],
  linearRank: 2 | 4 = 2,
): Translation {
  const infos = sources.map((source) => file.info(source));
  const [{ dtype, begin, shape: stored }] = infos;
  for (const info of infos) {
    if (info.dtype !== dtype || String(info.shape) !== String(stored))
      throw new UserError(
        `${file.name}: "${info.name}" is ${info.dtype} [${info.shape}], but "${sources[0]}", which belongs to the same tensor, is ${dtype} [${stored}]. The file is damaged or was converted badly.`,
      );
  }
  const transposed = form === 'transposed' && stored.length === 2;
  let shape = infos.length > 1 ? [infos.length * stored[0], ...stored.slice(1)] : stored;
  if (transposed) shape = [shape[1], shape[0]];
  if (form === 'linear' && stored.length > 1) shape = [...stored.slice(0, 2), 1, 1].slice(0, linearRank);
  const end = begin + byteLength(dtype, elementCount(shape));
  const pieces = infos.map((info) => ({ name: info.name, begin: 0, end: info.end - info.begin }));
  return { name, dtype, shape, begin, end, pieces, transposed };
}

class TranslatedFile extends IndexedFile<Translation> {
  readonly #file: TensorFile;

  constructor(file: TensorFile, translations: readonly Translation[]) {
    super(file.name, new Map(translations.map((translation) => [translation.name, translation])), file.metadata);
    this.#file = file;
  }

  protected async read(
    info: Translation,
    byteOffset: number,
    byteLength: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (info.transposed) {
      const [rows, columns] = info.shape;
      const [{ name }] = info.pieces;
      return transpose(await this.#file.bytes(name), columns, rows, DTYPE_BYTES[info.dtype as PlainDType]).slice(
        byteOffset,
        byteOffset + byteLength,
      );
    }
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let at = 0;
    for (const { name, begin, end } of info.pieces) {
      const from = Math.max(byteOffset - at, 0);
      const to = Math.min(byteOffset + byteLength - at, end - begin);
      if (from < to) parts.push(await this.#file.bytes(name, begin + from, to - from, parts.length === 0 ? into : undefined));
      at += end - begin;
    }
    return parts.length === 1 ? parts[0] : concatenate(parts);
  }

  close(): Promise<void> | undefined {
    return this.#file.close?.();
  }
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** (rows, columns) elements of `width` bytes -> (columns, rows). */
function transpose(bytes: Uint8Array, rows: number, columns: number, width: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes.length);
  for (let row = 0, from = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const to = (column * rows + row) * width;
      for (let byte = 0; byte < width; byte++) out[to + byte] = bytes[from++];
    }
  }
  return out;
}
