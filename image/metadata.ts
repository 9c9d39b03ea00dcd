/**
 * What travels with an image besides its pixels: what its numbers mean as colours, and the camera's notes (EXIF, a TIFF block), in which this changes
 * what no longer holds once the pixels are turned and resized. Everything is read leniently, and what was not understood is left as it is.
 * (CIPA DC-008; TIFF 6.0; ICC.1:2022)
 */
import { profileSpace, rgbProfileOfGrey } from './icc.ts';
import type { PngChunk } from './png-chunks.ts';

/** The pixels are never converted to another colour space: the profile says what they mean, before and after. */
export interface ImageMetadata {
  /** an ICC profile of an RGB space */
  icc?: Uint8Array;
  /** a TIFF block that says upright, if its orientation was understood, and holds no thumbnail */
  exif?: Uint8Array;
  /** gAMA, cHRM and cICP chunks, which say the same in a PNG as the profile does elsewhere, and take its place there */
  colourChunks?: PngChunk[];
}

/** The same as a file has it. */
export interface StoredMetadata {
  icc?: Uint8Array;
  /** what a PNG says about its colours without a profile; `icc` says the same */
  colourChunks?: PngChunk[];
  /** blocks that may be EXIF, the likeliest first */
  exif: Uint8Array[];
  /** whether the pixels stand upright already, whatever the EXIF block says; default false */
  isUpright?: boolean;
  /** whether the file stores grey pixels, so that a grey profile fits */
  grey: boolean;
}

const [ORIENTATION, THUMBNAIL, THUMBNAIL_LENGTH, EXIF_TAGS, PIXELS_ACROSS, PIXELS_DOWN] = [0x112, 0x201, 0x202, 0x8769, 0xa002, 0xa003];

/** What goes along with a decoded file's pixels, how they must be turned (1 to 8; 1 is upright), and notes on what could not be kept. */
export function readMetadata({ icc, exif, colourChunks, isUpright, grey }: StoredMetadata): {
  metadata?: ImageMetadata;
  orientation: number;
  notes: string[];
} {
  const metadata: ImageMetadata = {};
  const notes: string[] = [];
  const space = icc && profileSpace(icc);
  const profile = space === 'GRAY' && grey ? rgbProfileOfGrey(icc!) : space === 'RGB ' ? Uint8Array.from(icc!) : undefined;
  if (profile) metadata.icc = profile;
  else if (icc) notes.push('its colour profile does not fit or is damaged, and was left out; colours may be off.');
  if (colourChunks) metadata.colourChunks = colourChunks.map(({ type, data }) => ({ type, data: Uint8Array.from(data) }));
  const blocks = exif.map(tiffOf).filter((tiff) => tiff !== undefined);
  const tiff = blocks.find((each) => each.orientation() !== undefined) ?? blocks.find((each) => each.isSound(each.first)) ?? blocks[0];
  const orientation = isUpright ? 1 : (tiff?.orientation() ?? 1);
  if (tiff) metadata.exif = uprightExif(tiff);
  return { ...(Object.keys(metadata).length > 0 ? { metadata } : {}), orientation, notes };
}

/** What an image's numbers mean as colours, for pictures that are made of it. */
export function coloursOf({ metadata }: { metadata?: ImageMetadata }): { metadata?: ImageMetadata } {
  const { icc, colourChunks } = metadata ?? {};
  return icc || colourChunks ? { metadata: { ...(icc ? { icc } : {}), ...(colourChunks ? { colourChunks } : {}) } } : {};
}

/** A copy of the EXIF block for an image of this size. */
export function sizedExif(exif: Uint8Array, width: number, height: number): Uint8Array<ArrayBuffer> {
  const tiff = tiffOf(exif);
  if (!tiff) return Uint8Array.from(exif);
  const tags = tiff.read(EXIF_TAGS);
  if (tags !== undefined) {
    tiff.write(PIXELS_ACROSS, LONG, width, tags);
    tiff.write(PIXELS_DOWN, LONG, height, tags);
  }
  return tiff.bytes;
}

/** The block upright, if it says how it stands, and without its thumbnail, which shows the image as it was. */
function uprightExif(tiff: Tiff): Uint8Array {
  const { first, bytes } = tiff;
  if (tiff.orientation() !== undefined) tiff.write(ORIENTATION, SHORT, 1);
  if (!tiff.isSound(first)) return bytes;
  const link = tiff.end(first);
  const second = tiff.number(link, 4) ?? 0;
  if (!tiff.isSound(second)) return bytes;
  tiff.view.setUint32(link, 0, tiff.little);
  const thumbnail = tiff.read(THUMBNAIL, second);
  const length = tiff.read(THUMBNAIL_LENGTH, second);
  if (thumbnail === undefined || length === undefined || thumbnail < second || thumbnail + length > bytes.length) return bytes;
  if (thumbnail + length === bytes.length) return bytes.slice(0, thumbnail); // its usual place
  bytes.fill(0, thumbnail, thumbnail + length); // nothing moves, for camera makers' notes count from the start
  return bytes;
}

/** The TIFF block in these bytes: some writers put "Exif\0\0" before it, as JPEG does, or more. Undefined if there is none. */
function tiffOf(bytes: Uint8Array): Tiff | undefined {
  for (let at = 0; at <= 16 && at + 8 <= bytes.length; at++) {
    const start = String.fromCharCode(...bytes.subarray(at, at + 4));
    if (start !== 'II*\0' && start !== 'MM\0*') continue;
    const tiff = new Tiff(Uint8Array.from(bytes.subarray(at)));
    if (tiff.number(tiff.first, 2) !== undefined) return tiff;
  }
  return undefined;
}

const [SHORT, LONG] = [3, 4];
/** Types of numbers: their bytes, and how one is read. A text is its first digit. */
const TYPES: Record<number, [size: number, read: (view: DataView, at: number, little: boolean) => number]> = {
  1: [1, (view, at) => view.getUint8(at)],
  2: [1, (view, at) => view.getUint8(at) - 48],
  3: [2, (view, at, little) => view.getUint16(at, little)],
  4: [4, (view, at, little) => view.getUint32(at, little)],
  5: [8, (view, at, little) => view.getUint32(at, little) / view.getUint32(at + 4, little)],
  6: [1, (view, at) => view.getInt8(at)],
  7: [1, (view, at) => view.getUint8(at)],
  8: [2, (view, at, little) => view.getInt16(at, little)],
  9: [4, (view, at, little) => view.getInt32(at, little)],
  10: [8, (view, at, little) => view.getInt32(at, little) / view.getInt32(at + 4, little)],
  11: [4, (view, at, little) => view.getFloat32(at, little)],
  12: [8, (view, at, little) => view.getFloat64(at, little)],
  13: [4, (view, at, little) => view.getUint32(at, little)],
};

/** Tags of a TIFF block, read and changed in place; whatever lies outside the block is as if it were not there. */
class Tiff {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly little: boolean;
  /** Where the first list of tags begins. */
  readonly first: number;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.little = bytes[0] === 0x49;
    this.first = this.number(4, 4)!;
  }

  /** The number of 2 or 4 bytes at an offset. */
  number(at: number, size: number): number | undefined {
    if (!(at >= 0 && at + size <= this.bytes.length)) return undefined;
    return size === 2 ? this.view.getUint16(at, this.little) : this.view.getUint32(at, this.little);
  }

  /** Where a list of tags ends and the offset of the next list stands. */
  end(tags: number): number {
    return tags + 2 + 12 * (this.number(tags, 2) ?? Number.POSITIVE_INFINITY);
  }

  /** Whether a list lies within the block and all its tags have a type that there is. */
  isSound(tags: number): boolean {
    if (!(tags > 0 && this.end(tags) <= this.bytes.length && this.number(tags, 2)! > 0)) return false;
    for (let at = tags + 2; at < this.end(tags); at += 12) if (!TYPES[this.number(at + 2, 2)!]) return false;
    return true;
  }

  /** 1 to 8; undefined if there is none or it cannot be understood. */
  orientation(): number | undefined {
    const value = this.read(ORIENTATION);
    return value !== undefined && Number.isInteger(value) && value >= 1 && value <= 8 ? value : undefined;
  }

  /** A tag's number, the first if it has several, of whatever type. */
  read(tag: number, tags = this.first): number | undefined {
    const at = this.find(tag, tags);
    if (at === undefined) return undefined;
    const [size, read] = TYPES[this.number(at + 2, 2)!] ?? [];
    if (!size || !read) return undefined;
    const inside = size * Math.max(1, this.number(at + 4, 4)!) <= 4;
    const where = inside ? at + 8 : this.number(at + 8, 4)!;
    return where + size <= this.bytes.length ? read(this.view, where, this.little) : undefined;
  }

  /** Gives a tag that is there, and whose number can be read, another one. */
  write(tag: number, type: number, value: number, tags = this.first): void {
    const at = this.find(tag, tags);
    if (at === undefined || this.read(tag, tags) === undefined) return;
    this.view.setUint16(at + 2, type, this.little);
    this.view.setUint32(at + 4, 1, this.little);
    this.view.setUint32(at + 8, 0);
    if (type === SHORT) this.view.setUint16(at + 8, value, this.little);
    else this.view.setUint32(at + 8, value, this.little);
  }

  /** A list may say that it is longer than it is. */
  private find(tag: number, tags: number): number | undefined {
    const end = Math.min(this.end(tags), this.bytes.length);
    for (let at = tags + 2; at + 12 <= end; at += 12) if (this.number(at, 2) === tag) return at;
    return undefined;
  }
}
