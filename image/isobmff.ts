/**
 * The container of AVIF and HEIC: boxes, and the items that they describe. (ISO/IEC 14496-12, 23008-12) Only what is needed to know a picture's size,
 * depth, colours, camera notes and how it stands before a pixel is decoded.
 */
import { UserError } from '../core/errors.ts';

export interface Box {
  type: string;
  /** of its content, in the file */
  start: number;
  end: number;
}

export interface Item {
  id: number;
  /** four letters: av01, hvc1, grid, Exif */
  type: string;
  /** stretches of the file that hold it; none where it lies elsewhere */
  extents: { offset: number; length: number }[];
}

export interface Heif {
  /** the picture that the file is for */
  primary: number;
  items: Item[];
  /** properties of the primary item, in their order */
  properties: Box[];
  /** properties of all items */
  all: Box[];
}

/** Reads whole numbers of a file, the highest byte first; UserError beyond the end. */
export class BoxReader {
  at: number;
  private readonly bytes: Uint8Array;
  private readonly end: number;
  private readonly name: string;

  constructor(bytes: Uint8Array, { start, end }: Pick<Box, 'start' | 'end'>, name: string) {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
    this.name = name;
  }

  number(size: number): number {
    if (this.at + size > this.end) throw damagedHeif(this.name);
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + this.bytes[this.at++];
    return value;
  }

  letters(count = 4): string {
    return String.fromCharCode(...Array.from({ length: count }, () => this.number(1)));
  }

  /** The boxes from here to the end. */
  boxes(): Box[] {
    const found: Box[] = [];
    while (this.at + 8 <= this.end) {
      const begin = this.at;
      let size = this.number(4);
      const type = this.letters();
      if (size === 1) size = this.number(8);
      const end = size === 0 ? this.end : begin + size;
      if (end > this.end || end < this.at) throw damagedHeif(this.name);
      found.push({ type, start: this.at, end });
      this.at = end;
    }
    return found;
  }
}

export const damagedHeif = (name: string) =>
  new UserError(`${name}: the file is cut off or damaged (its boxes of AVIF or HEIC); get another copy or save it again.`);

/** Items and the primary one's properties. UserError where there are none, or the boxes are damaged. */
export function readHeif(bytes: Uint8Array, name: string): Heif {
  const inside = (box: Pick<Box, 'start' | 'end'>) => new BoxReader(bytes, box, name);
  /** Of a box that begins with a version and flags. */
  const full = (box: Box) => {
    const reader = inside(box);
    return { version: reader.number(1), flags: reader.number(3), reader };
  };
  const found = (boxes: Box[], type: string) => boxes.find((box) => box.type === type);
  const meta = found(inside({ start: 0, end: bytes.length }).boxes(), 'meta');
  if (!meta) throw damagedHeif(name);
  const boxes = full(meta).reader.boxes();
  const [pitm, iinf, iloc, iprp] = ['pitm', 'iinf', 'iloc', 'iprp'].map((type) => found(boxes, type));
  if (!pitm || !iinf || !iprp) throw damagedHeif(name);
  const id = full(pitm);
  const primary = id.reader.number(id.version === 0 ? 2 : 4);

  const items = itemNames(full(iinf), full);
  if (iloc) for (const { id, extents } of locations(full(iloc))) items.find((item) => item.id === id)?.extents.push(...extents);

  const inner = inside(iprp).boxes();
  const ipco = found(inner, 'ipco');
  const all = ipco ? inside(ipco).boxes() : [];
  const properties: Box[] = [];
  for (const ipma of inner.filter(({ type }) => type === 'ipma')) {
    const { version, flags, reader } = full(ipma);
    for (let i = reader.number(4); i > 0; i--) {
      const item = reader.number(version < 1 ? 2 : 4);
      for (let k = reader.number(1); k > 0; k--) {
        const index = flags & 1 ? reader.number(2) & 0x7fff : reader.number(1) & 0x7f;
        if (item === primary && index > 0 && all[index - 1]) properties.push(all[index - 1]);
      }
    }
  }
  return { primary, items, properties, all };
}

type Full = { version: number; flags: number; reader: BoxReader };

function itemNames({ version, reader }: Full, full: (box: Box) => Full): Item[] {
  reader.number(version === 0 ? 2 : 4);
  return reader
    .boxes()
    .filter(({ type }) => type === 'infe')
    .map((box) => {
      const { version, reader } = full(box);
      const id = reader.number(version < 3 ? 2 : 4);
      reader.number(2); // protection
      return { id, type: version < 2 ? '' : reader.letters(), extents: [] };
    });
}

function locations({ version, reader }: Full): Omit<Item, 'type'>[] {
  const sizes = reader.number(2);
  const [offsetSize, lengthSize, baseSize, indexSize] = [sizes >> 12, (sizes >> 8) & 15, (sizes >> 4) & 15, version === 0 ? 0 : sizes & 15];
  const located: Omit<Item, 'type'>[] = [];
  for (let i = reader.number(version < 2 ? 2 : 4); i > 0; i--) {
    const id = reader.number(version < 2 ? 2 : 4);
    const method = version === 0 ? 0 : reader.number(2) & 15;
    const elsewhere = reader.number(2) !== 0 || method !== 0;
    const base = reader.number(baseSize);
    const extents = Array.from({ length: reader.number(2) }, () => {
      reader.number(indexSize);
      return { offset: base + reader.number(offsetSize), length: reader.number(lengthSize) };
    });
    located.push({ id, extents: elsewhere ? [] : extents });
  }
  return located;
}
