/**
 * Zip archives (PKWARE's APPNOTE 6.3) as far as PyTorch's checkpoints need them: the central directory, zip64, stored entries. Libraries hand
 * out whole entries; weights are read in ranges, for which one must know where an entry's bytes lie. Nothing is ever decompressed, so no
 * archive can hold more than its size.
 */
import { UserError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';

export interface ZipEntry {
  readonly name: string;
  /** Bytes of the contents. */
  readonly size: number;
  /** False if the contents are compressed or encrypted, and so cannot be read here. */
  readonly stored: boolean;
  /** Where the entry's local header begins; the contents follow it. */
  readonly headerOffset: number;
}

const END = 0x06054b50;
const END64_LOCATOR = 0x07064b50;
const END64 = 0x06064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;

/** Bytes of the longest directory accepted: half a million entries of PyTorch's. */
const DIRECTORY_LIMIT = 64 * 2 ** 20;
/** Bytes of the longest entry that is read whole. */
const WHOLE_LIMIT = 64 * 2 ** 20;

/** Reads an archive's directory, and nothing else. @throws UserError if it is damaged, cut off, split over disks, or names a file twice. */
export async function openZip(source: ByteSource): Promise<Zip> {
  const { offset, size, count } = await findDirectory(source);
  const bytes = await source.read(offset, size);
  return new Zip(source, readDirectory(source, bytes, count, offset), offset);
}

/** An archive whose directory has been read. Made by `openZip`. */
export class Zip {
  readonly entries: ReadonlyMap<string, ZipEntry>;
  readonly #source: ByteSource;
  readonly #dataEnd: number;
  readonly #starts = new Map<string, Promise<number>>();

  constructor(source: ByteSource, entries: ReadonlyMap<string, ZipEntry>, dataEnd: number) {
    this.#source = source;
    this.entries = entries;
    this.#dataEnd = dataEnd;
  }

  /** Bytes [offset, offset + length) of an entry's contents. @throws UserError if it is compressed, or its header contradicts the directory. */
  async read(entry: ZipEntry, offset = 0, length = entry.size - offset, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    let start = this.#starts.get(entry.name);
    if (!start) {
      start = this.#start(entry);
      this.#starts.set(entry.name, start);
      start.catch(() => this.#starts.delete(entry.name)); // a failed read may be tried again
    }
    return this.#source.read((await start) + offset, length, into);
  }

  /** The whole of a small entry. */
  readWhole(entry: ZipEntry): Promise<Uint8Array<ArrayBuffer>> {
    if (entry.size > WHOLE_LIMIT)
      throw new UserError(
        `${this.#source.name}: its entry ${entry.name} has ${entry.size} bytes, more than any checkpoint needs there. ${DAMAGED}`,
      );
    return this.read(entry);
  }

  async #start({ name, size, stored, headerOffset }: ZipEntry): Promise<number> {
    const file = this.#source.name;
    if (!stored)
      throw new UserError(
        `${file}: its entry ${name} is compressed or encrypted, which PyTorch never does. Unpack the archive and pack it again without compression, or download the original.`,
      );
    const header = new DataView((await this.#source.read(headerOffset, 30)).buffer);
    const start = headerOffset + 30 + header.getUint16(26, true) + header.getUint16(28, true);
    if (header.getUint32(0, true) !== LOCAL || start + size > this.#dataEnd)
      throw new UserError(`${file}: its entry ${name} is not where the archive's directory says. ${DAMAGED}`);
    return start;
  }
}

const DAMAGED = 'It is damaged or incomplete: download it again, and compare its size with the one on the download page.';

async function findDirectory(source: ByteSource): Promise<{ offset: number; size: number; count: number }> {
  const tailStart = Math.max(0, source.size - 22 - 0xffff);
  const tail = new DataView((await source.read(tailStart, source.size - tailStart)).buffer);
  let at = tail.byteLength - 22;
  while (at >= 0 && !(tail.getUint32(at, true) === END && at + 22 + tail.getUint16(at + 20, true) === tail.byteLength)) at--;
  if (at < 0) throw new UserError(`${source.name}: the directory at the end of the zip archive is missing. ${DAMAGED}`);
  let found = { count: tail.getUint16(at + 10, true), size: tail.getUint32(at + 12, true), offset: tail.getUint32(at + 16, true) };
  let limit = tailStart + at;
  const isSplit = tail.getUint16(at + 4, true) !== tail.getUint16(at + 6, true);
  if (at >= 20 && tail.getUint32(at - 20, true) === END64_LOCATOR) {
    limit = number64(tail, at - 12);
    if (limit + 56 > tailStart + at)
      throw new UserError(`${source.name}: the zip archive's directory is not where its end says. ${DAMAGED}`);
    const end64 = new DataView((await source.read(limit, 56)).buffer);
    if (end64.getUint32(0, true) !== END64)
      throw new UserError(`${source.name}: the zip archive's directory is not where its end says. ${DAMAGED}`);
    found = { count: number64(end64, 32), size: number64(end64, 40), offset: number64(end64, 48) };
  }
  if (isSplit || !(found.offset + found.size <= limit) || found.size > DIRECTORY_LIMIT)
    throw new UserError(
      `${source.name}: the zip archive's directory cannot be right (${found.count} entries, ${found.size} bytes from ${found.offset}). ${DAMAGED}`,
    );
  return found;
}

function readDirectory(source: ByteSource, bytes: Uint8Array<ArrayBuffer>, count: number, dataEnd: number): Map<string, ZipEntry> {
  const view = new DataView(bytes.buffer);
  const entries = new Map<string, ZipEntry>();
  const text = new TextDecoder();
  let at = 0;
  while (at + 46 <= bytes.length && view.getUint32(at, true) === CENTRAL) {
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const next = at + 46 + nameLength + extraLength + commentLength;
    if (next > bytes.length) break;
    const name = text.decode(bytes.subarray(at + 46, at + 46 + nameLength));
    const compressed = view.getUint32(at + 20, true);
    let size = view.getUint32(at + 24, true);
    let headerOffset = view.getUint32(at + 42, true);
    let extra = find64(view, at + 46 + nameLength, extraLength);
    // In the zip64 field only those of the three follow that did not fit their places, in this order.
    for (const is64 of [size, compressed, headerOffset].map((value) => value === 0xffffffff).entries()) {
      if (!is64[1]) continue;
      if (extra.end - extra.at < 8) throw new UserError(`${source.name}: the size of entry ${name} is missing. ${DAMAGED}`);
      if (is64[0] === 0) size = number64(view, extra.at);
      if (is64[0] === 2) headerOffset = number64(view, extra.at);
      extra = { at: extra.at + 8, end: extra.end };
    }
    const stored = view.getUint16(at + 10, true) === 0 && (view.getUint16(at + 8, true) & 1) === 0;
    if (entries.has(name)) throw new UserError(`${source.name}: the zip archive holds ${name} twice, so it is not certain which is meant.`);
    if (!(headerOffset + 30 + (stored ? size : 0) <= dataEnd))
      throw new UserError(`${source.name}: its entry ${name} is not where the archive's directory says. ${DAMAGED}`);
    entries.set(name, { name, size, stored, headerOffset });
    at = next;
  }
  if (at !== bytes.length || entries.size !== count)
    throw new UserError(`${source.name}: the zip archive's directory breaks off after ${entries.size} of ${count} entries. ${DAMAGED}`);
  return entries;
}

/** The zip64 field among an entry's extra fields; empty if there is none. */
function find64(view: DataView, begin: number, length: number): { at: number; end: number } {
  for (let at = begin; at + 4 <= begin + length; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) === 1) return { at: at + 4, end: Math.min(begin + length, at + 4 + view.getUint16(at + 2, true)) };
  }
  return { at: 0, end: 0 };
}

const number64 = (view: DataView, at: number): number => view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
