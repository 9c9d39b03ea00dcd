/** The container of WebP files: chunks after a RIFF header. (RFC 9649, section 2) */
import { UserError } from '../core/errors.ts';
import { ascii, joinBytes } from './bytes.ts';
import { checkSize, type SizeLimits } from './image.ts';
import type { ImageMetadata } from './metadata.ts';

export interface WebpChunk {
  /** four letters, such as 'VP8X' */
  type: string;
  data: Uint8Array;
}

export interface WebpHeader {
  width: number;
  height: number;
  icc?: Uint8Array;
  exif?: Uint8Array;
}

/** Bits of the VP8X chunk's first byte. */
const [ANIMATED, EXIF, ALPHA, ICC] = [0x02, 0x08, 0x10, 0x20];

/** The chunks of a WebP file. UserError where it is cut off. */
export function readWebpChunks(bytes: Uint8Array, name: string): WebpChunk[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const cut = () => new UserError(`${name}: the WebP file is cut off at byte ${bytes.length}; get a complete copy.`);
  if (bytes.length < 20 || view.getUint32(4, true) + 8 > bytes.length) throw cut();
  const end = view.getUint32(4, true) + 8;
  const chunks: WebpChunk[] = [];
  for (let at = 12; at + 8 <= end; ) {
    const size = view.getUint32(at + 4, true);
    if (at + 8 + size > end) throw cut();
    chunks.push({ type: String.fromCharCode(...bytes.subarray(at, at + 4)), data: bytes.subarray(at + 8, at + 8 + size) });
    at += 8 + size + (size & 1);
  }
  return chunks;
}

/** Size and metadata, before any pixel is decoded. UserError for damaged and animated files, and sizes above the limits. */
export function readWebpHeader(bytes: Uint8Array, name: string, limits: SizeLimits): WebpHeader {
  const chunks = readWebpChunks(bytes, name);
  const find = (type: string) => chunks.find((chunk) => chunk.type === type)?.data;
  const extended = find('VP8X');
  if ((extended && extended[0] & ANIMATED) || find('ANMF')) {
    throw new UserError(`${name}: animated WebP is not supported; save one of its pictures as WebP, PNG or JPEG.`);
  }
  const [lossy, lossless] = [find('VP8 '), find('VP8L')];
  const sizes: [width: number, height: number][] = [];
  if (extended && extended.length >= 10) sizes.push([1 + little(extended, 4, 3), 1 + little(extended, 7, 3)]);
  if (lossy && lossy.length >= 10 && little(lossy, 3, 3) === 0x2a019d)
    sizes.push([little(lossy, 6, 2) & 0x3fff, little(lossy, 8, 2) & 0x3fff]);
  else if (lossless && lossless.length >= 5 && lossless[0] === 0x2f) {
    const bits = little(lossless, 1, 4);
    sizes.push([1 + (bits & 0x3fff), 1 + ((bits >> 14) & 0x3fff)]);
  } else throw new UserError(`${name}: the WebP file is damaged (no picture in it); get another copy or save it again.`);
  for (const [width, height] of sizes) checkSize(width, height, name, limits);
  const [width, height] = sizes[0];
  return { width, height, icc: find('ICCP'), exif: find('EXIF') };
}

/** A WebP file with these metadata in the place of its own. */
export function withMetadata(file: Uint8Array, width: number, height: number, { icc, exif }: ImageMetadata): Uint8Array<ArrayBuffer> {
  const pictures = readWebpChunks(file, 'WebP').filter(({ type }) => ['ALPH', 'VP8 ', 'VP8L'].includes(type));
  // a lossless picture says in its own header whether it has alpha
  const alpha = pictures.some(({ type, data }) => type === 'ALPH' || (type === 'VP8L' && data[4] & 0x10));
  const flags = (icc ? ICC : 0) | (alpha ? ALPHA : 0) | (exif ? EXIF : 0);
  const header = [flags, 0, 0, 0, ...[width - 1, height - 1].flatMap((side) => [side & 255, (side >> 8) & 255, side >> 16])];
  const body = joinBytes(
    ascii('WEBP'),
    chunk('VP8X', header),
    icc ? chunk('ICCP', icc) : [],
    ...pictures.map(({ type, data }) => chunk(type, data)),
    exif ? chunk('EXIF', exif) : [],
  );
  return joinBytes(ascii('RIFF'), fourBytes(body.length), body);
}

function chunk(type: string, data: ArrayLike<number>): Uint8Array {
  return joinBytes(ascii(type), fourBytes(data.length), data, data.length & 1 ? [0] : []);
}

const fourBytes = (x: number): number[] => [x & 255, (x >> 8) & 255, (x >> 16) & 255, x >>> 24];

/** The whole number of `count` bytes, the lowest first. */
function little(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = count - 1; i >= 0; i--) value = value * 256 + bytes[at + i];
  return value;
}
