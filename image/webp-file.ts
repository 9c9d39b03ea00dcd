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

/** A still picture, or the first one of an animation. */
export interface WebpHeader {
  width: number;
  height: number;
  /** pictures in the file */
  pictures: number;
  /** of an animation: its first picture as a file, and where it lies */
  first?: { file: Uint8Array; left: number; top: number; width: number; height: number };
  icc?: Uint8Array;
  exif?: Uint8Array;
}

/** Bits of the VP8X chunk's first byte. */
const [EXIF, ALPHA, ICC] = [0x08, 0x10, 0x20];

/** The chunks of a WebP file. UserError where it is cut off. */
export function readWebpChunks(bytes: Uint8Array, name: string): WebpChunk[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const cut = () => new UserError(`${name}: the WebP file is cut off at byte ${bytes.length}; get a complete copy.`);
  if (bytes.length < 20 || view.getUint32(4, true) + 8 > bytes.length) throw cut();
  return readChunksFrom(bytes, 12, view.getUint32(4, true) + 8, cut);
}

function readChunksFrom(bytes: Uint8Array, start: number, end: number, cut: () => UserError): WebpChunk[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks: WebpChunk[] = [];
  for (let at = start; at + 8 <= end; ) {
    const size = view.getUint32(at + 4, true);
    if (at + 8 + size > end) throw cut();
    chunks.push({ type: String.fromCharCode(...bytes.subarray(at, at + 4)), data: bytes.subarray(at + 8, at + 8 + size) });
    at += 8 + size + (size & 1);
  }
  return chunks;
}

/** Size, metadata and pictures, before any pixel is decoded. UserError for damaged files, and sizes above the limits. */
export function readWebpHeader(bytes: Uint8Array, name: string, limits: SizeLimits): WebpHeader {
  const chunks = readWebpChunks(bytes, name);
  const find = (type: string) => chunks.find((chunk) => chunk.type === type)?.data;
  const extended = find('VP8X');
  const canvas = extended && extended.length >= 10 ? { width: 1 + little(extended, 4, 3), height: 1 + little(extended, 7, 3) } : null;
  if (canvas) checkSize(canvas.width, canvas.height, name, limits);
  const frames = chunks.filter(({ type }) => type === 'ANMF');
  const metadata = { icc: find('ICCP'), exif: find('EXIF') };
  if (canvas && frames.length > 0) {
    const { data } = frames[0];
    const [left, top] = [2 * little(data, 0, 3), 2 * little(data, 3, 3)];
    const picture = readChunksFrom(data, 16, data.length, () => noPicture(name)).filter(isPicture);
    const { width, height } = pictureSize(picture, name);
    if (left + width > canvas.width || top + height > canvas.height) throw noPicture(name);
    const flags = hasAlpha(picture) ? ALPHA : 0;
    const file = riff(chunk('VP8X', extendedHeader(flags, width, height)), ...picture.map(({ type, data }) => chunk(type, data)));
    return { ...canvas, pictures: frames.length, first: { file, left, top, width, height }, ...metadata };
  }
  const size = pictureSize(chunks, name);
  checkSize(size.width, size.height, name, limits);
  return { ...(canvas ?? size), pictures: 1, ...metadata };
}

const noPicture = (name: string) =>
  new UserError(`${name}: the WebP file is damaged (no picture in it); get another copy or save it again.`);

/** The size in the header of the picture that these chunks hold. */
function pictureSize(chunks: WebpChunk[], name: string): { width: number; height: number } {
  const find = (type: string) => chunks.find((chunk) => chunk.type === type)?.data;
  const [lossy, lossless] = [find('VP8 '), find('VP8L')];
  if (lossy && lossy.length >= 10 && little(lossy, 3, 3) === 0x2a019d)
    return { width: little(lossy, 6, 2) & 0x3fff, height: little(lossy, 8, 2) & 0x3fff };
  if (!(lossless && lossless.length >= 5 && lossless[0] === 0x2f)) throw noPicture(name);
  const bits = little(lossless, 1, 4);
  return { width: 1 + (bits & 0x3fff), height: 1 + ((bits >> 14) & 0x3fff) };
}

const isPicture = ({ type }: WebpChunk) => ['ALPH', 'VP8 ', 'VP8L'].includes(type);

/** A lossless picture says in its own header whether it has alpha. */
const hasAlpha = (picture: WebpChunk[]) => picture.some(({ type, data }) => type === 'ALPH' || (type === 'VP8L' && (data[4] & 0x10) !== 0));

const extendedHeader = (flags: number, width: number, height: number) => [
  ...[flags, 0, 0, 0],
  ...[width - 1, height - 1].flatMap((side) => [side & 255, (side >> 8) & 255, side >> 16]),
];

function riff(...chunks: ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  const body = joinBytes(ascii('WEBP'), ...chunks);
  return joinBytes(ascii('RIFF'), fourBytes(body.length), body);
}

/** A WebP file with these metadata in the place of its own. */
export function withMetadata(file: Uint8Array, width: number, height: number, { icc, exif }: ImageMetadata): Uint8Array<ArrayBuffer> {
  const pictures = readWebpChunks(file, 'WebP').filter(isPicture);
  const flags = (icc ? ICC : 0) | (hasAlpha(pictures) ? ALPHA : 0) | (exif ? EXIF : 0);
  return riff(
    chunk('VP8X', extendedHeader(flags, width, height)),
    icc ? chunk('ICCP', icc) : [],
    ...pictures.map(({ type, data }) => chunk(type, data)),
    exif ? chunk('EXIF', exif) : [],
  );
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
