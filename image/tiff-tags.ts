/** Lists of tags, of which TIFF files and EXIF blocks are made: from bytes and back. Values stay as they are stored. (TIFF 6.0, section 2) */
import { joinBytes } from './bytes.ts';

export interface TiffTag {
  type: number;
  count: number;
  /** its values, in the file's byte order */
  bytes: Uint8Array;
}

/** A list of tags by their numbers, and those lists that its tags point to, by the tag. */
export interface TiffList {
  tags: Map<number, TiffTag>;
  lists: Map<number, Map<number, TiffTag>>;
}

export const EXIF_LIST = 0x8769;
export const GPS_LIST = 0x8825;
/** Bytes of a value by its type. */
const SIZES: Record<number, number> = { 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4 };
export const [BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED] = [1, 2, 3, 4, 5, 7];

/** A TIFF file or block; what lies outside its bytes is as if it were not there. */
export class TiffFile {
  readonly bytes: Uint8Array;
  readonly little: boolean;
  private readonly view: DataView;

  /** Bytes that begin with II*\0 or MM\0*. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.little = bytes[0] === 0x49;
  }

  /** Where the first list begins; 0 is nowhere. */
  get first(): number {
    return this.long(4);
  }

  /** Where the next list begins; 0 is nowhere. */
  after(list: number): number {
    return this.long(list + 2 + 12 * this.short(list));
  }

  /** The tags of a list that lie within the file, the first of each number. */
  tags(list: number): Map<number, TiffTag> {
    const found = new Map<number, TiffTag>();
    if (list < 8) return found;
    const count = this.short(list);
    for (let i = 0, at = list + 2; i < count && at + 12 <= this.bytes.length; i++, at += 12) {
      const tag = this.short(at);
      const type = this.short(at + 2);
      const values = this.long(at + 4);
      const length = (SIZES[type] ?? Number.POSITIVE_INFINITY) * values;
      const from = length <= 4 ? at + 8 : this.long(at + 8);
      if (from + length <= this.bytes.length && !found.has(tag))
        found.set(tag, { type, count: values, bytes: this.bytes.subarray(from, from + length) });
    }
    return found;
  }

  /** A tag's whole numbers, as far as it has such; none for a tag that is not there. */
  numbers(tag: TiffTag | undefined): number[] {
    const size = tag && { 1: 1, 3: 2, 4: 4, 13: 4 }[tag.type];
    if (!tag || !size) return [];
    const view = new DataView(tag.bytes.buffer, tag.bytes.byteOffset, tag.bytes.byteLength);
    const read = (at: number) =>
      size === 1 ? view.getUint8(at) : size === 2 ? view.getUint16(at, this.little) : view.getUint32(at, this.little);
    return Array.from({ length: tag.count }, (_, i) => read(i * size));
  }

  private short(at: number): number {
    return at + 2 <= this.bytes.length ? this.view.getUint16(at, this.little) : 0;
  }

  private long(at: number): number {
    return at + 4 <= this.bytes.length ? this.view.getUint32(at, this.little) : 0;
  }
}

/** A tag of whole numbers, stored as `type`: BYTE, SHORT or LONG. */
export function numberTag(type: number, values: readonly number[], little: boolean): TiffTag {
  const size = SIZES[type];
  const view = new DataView(new ArrayBuffer(values.length * size));
  for (const [i, value] of values.entries()) {
    if (size === 1) view.setUint8(i, value);
    else if (size === 2) view.setUint16(2 * i, value, little);
    else view.setUint32(4 * i, value, little);
  }
  return { type, count: values.length, bytes: new Uint8Array(view.buffer) };
}

/** A TIFF file: its header, `before` in one piece from byte 8 on, then the list and those that it points to. */
export function tiffBytes({ tags, lists }: TiffList, little: boolean, before: readonly Uint8Array[] = []): Uint8Array<ArrayBuffer> {
  const start = before.reduce((sum, part) => sum + part.length, 8);
  const first = start + (start & 1);
  const parts: Uint8Array[] = [];
  let at = first;
  const all = new Map(tags);
  // Lists that are pointed to come first in the order of writing, so that their places are known.
  const places = new Map<number, number>();
  for (const [tag, list] of lists) {
    places.set(tag, at);
    const bytes = listBytes(list, at, little);
    parts.push(bytes);
    at += bytes.length;
  }
  for (const [tag, place] of places) all.set(tag, numberTag(LONG, [place], little));
  const list = listBytes(all, at, little);
  const header = numberTag(LONG, [at], little).bytes;
  const signature = little ? [0x49, 0x49, 42, 0] : [0x4d, 0x4d, 0, 42];
  return joinBytes(signature, header, ...before, start & 1 ? [0] : [], ...parts, list);
}

/** A list that stands at an even place `at`, the values that it points to behind it; no list follows it. */
function listBytes(tags: Map<number, TiffTag>, at: number, little: boolean): Uint8Array {
  const sorted = [...tags].sort(([a], [b]) => a - b);
  const size = 2 + 12 * sorted.length + 4;
  const head = new DataView(new ArrayBuffer(size));
  head.setUint16(0, sorted.length, little);
  const values: ArrayLike<number>[] = [];
  let end = at + size;
  for (const [i, [tag, { type, count, bytes }]] of sorted.entries()) {
    const entry = 2 + 12 * i;
    head.setUint16(entry, tag, little);
    head.setUint16(entry + 2, type, little);
    head.setUint32(entry + 4, count, little);
    if (bytes.length <= 4) new Uint8Array(head.buffer).set(bytes, entry + 8);
    else {
      head.setUint32(entry + 8, end, little);
      values.push(bytes, bytes.length & 1 ? [0] : []);
      end += bytes.length + (bytes.length & 1);
    }
  }
  return joinBytes(new Uint8Array(head.buffer), ...values);
}
