/**
 * What travels with an image besides its pixels: the colour profile, and the camera's notes (EXIF, a TIFF block), in which this changes what no
 * longer holds once the pixels are turned and resized. (CIPA DC-008; TIFF 6.0; ICC.1:2022)
 */

/** The pixels are never converted to another colour space: the profile says what they mean, before and after. */
export interface ImageMetadata {
  /** an ICC profile of an RGB space */
  icc?: Uint8Array;
  /** a TIFF block that says upright and holds no thumbnail */
  exif?: Uint8Array;
}

const [ORIENTATION, THUMBNAIL, THUMBNAIL_LENGTH, EXIF_TAGS, PIXELS_ACROSS, PIXELS_DOWN] = [0x112, 0x201, 0x202, 0x8769, 0xa002, 0xa003];
const [SHORT, LONG] = [3, 4];

/** Metadata of a decoded file, which is undefined when nothing is left: profiles that are not of RGB and damaged EXIF blocks are left out. */
export function carriedMetadata(icc: Uint8Array | undefined, exif: Uint8Array | undefined): ImageMetadata | undefined {
  const metadata: ImageMetadata = {};
  if (icc && isRgbProfile(icc)) metadata.icc = Uint8Array.from(icc);
  const upright = exif && uprightExif(exif);
  if (upright) metadata.exif = upright;
  return metadata.icc || metadata.exif ? metadata : undefined;
}

/** The orientation, 1 to 8, in an EXIF block; 1, upright, if there is none or the block is damaged. */
export function readOrientation(exif: Uint8Array | undefined): number {
  const value = exif && new Tiff(exif).read(ORIENTATION);
  return value !== undefined && value >= 1 && value <= 8 ? value : 1;
}

/** A copy of the EXIF block for an image of this size. */
export function sizedExif(exif: Uint8Array, width: number, height: number): Uint8Array<ArrayBuffer> {
  const tiff = new Tiff(Uint8Array.from(exif));
  const tags = tiff.read(EXIF_TAGS);
  if (tags !== undefined) {
    tiff.write(PIXELS_ACROSS, LONG, width, tags);
    tiff.write(PIXELS_DOWN, LONG, height, tags);
  }
  return tiff.bytes;
}

/** A copy that says upright, without its thumbnail, which shows the image as it was; undefined if the block is damaged. */
function uprightExif(exif: Uint8Array): Uint8Array | undefined {
  const tiff = new Tiff(Uint8Array.from(exif));
  const { first, bytes } = tiff;
  if (first === undefined) return undefined;
  tiff.write(ORIENTATION, SHORT, 1);
  const link = tiff.end(first);
  const second = tiff.number(link, 4) ?? 0;
  if (second === 0) return bytes;
  tiff.view.setUint32(link, 0, tiff.little);
  const thumbnail = tiff.read(THUMBNAIL, second);
  const length = tiff.read(THUMBNAIL_LENGTH, second);
  if (thumbnail === undefined || length === undefined || thumbnail < second || thumbnail + length > bytes.length) return bytes;
  if (thumbnail + length === bytes.length) return bytes.slice(0, thumbnail); // its usual place
  bytes.fill(0, thumbnail, thumbnail + length); // nothing moves, for camera makers' notes count from the start
  return bytes;
}

function isRgbProfile(icc: Uint8Array): boolean {
  const letters = (at: number) => String.fromCharCode(...icc.subarray(at, at + 4));
  return icc.length >= 132 && letters(16) === 'RGB ' && letters(36) === 'acsp';
}

/** Tags of a TIFF block, read and changed in place; whatever lies outside the block is as if it were not there. */
class Tiff {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly little: boolean;
  /** Where the first list of tags begins; undefined if this is no TIFF block. */
  readonly first: number | undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes as Uint8Array<ArrayBuffer>;
    this.view = new DataView(this.bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const order = this.number(0, 2);
    this.little = order === 0x4949;
    const first = this.number(4, 4);
    const known = (order === 0x4949 || order === 0x4d4d) && this.number(2, 2) === 42;
    if (known && first !== undefined && this.end(first) <= bytes.length) this.first = first;
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

  /** A tag's single whole number. */
  read(tag: number, tags = this.first): number | undefined {
    const at = this.find(tag, tags);
    if (at === undefined || this.number(at + 4, 4) !== 1) return undefined;
    const type = this.number(at + 2, 2);
    return type === SHORT || type === LONG ? this.number(at + 8, type === SHORT ? 2 : 4) : undefined;
  }

  /** Gives a tag that is there a single whole number. */
  write(tag: number, type: number, value: number, tags = this.first): void {
    const at = this.find(tag, tags);
    if (at === undefined) return;
    this.view.setUint16(at + 2, type, this.little);
    this.view.setUint32(at + 4, 1, this.little);
    this.view.setUint32(at + 8, 0);
    if (type === SHORT) this.view.setUint16(at + 8, value, this.little);
    else this.view.setUint32(at + 8, value, this.little);
  }

  private find(tag: number, tags: number | undefined): number | undefined {
    if (tags === undefined) return undefined;
    for (let at = tags + 2; at < this.end(tags) && at + 12 <= this.bytes.length; at += 12) if (this.number(at, 2) === tag) return at;
    return undefined;
  }
}
