/** Images to PNG and JPEG files. */
// @ts-expect-error: the package has types of its whole only, whose decoder is not needed
import encodeBlocks from 'jpeg-js/lib/encoder.js';
import { PNG } from 'pngjs';
import { UserError } from '../core/errors.ts';
import { ascii, joinBytes } from './bytes.ts';
import { checkSize, type DeepImage, type Image } from './image.ts';
import { EXIF_PREFIX, ICC_PREFIX } from './jpeg.ts';
import { sizedExif } from './metadata.ts';
import { opaque } from './opaque.ts';
import { profileChunk, textChunk, writeChunk } from './png-chunks.ts';

export interface PngOptions {
  /** texts stored in the file by keyword, see `textChunk`; default none */
  text?: Record<string, string>;
  /** pixels as they are, not compressed, for bytes that are read again at once; default false */
  stored?: boolean;
}

/** Bytes of an RGB PNG file of 8 or 16 bits, RGBA if the image has alpha, with its metadata. UserError for an empty image or text that PNG does not allow. */
export function encodePng(image: Image | DeepImage, options: PngOptions = {}): Uint8Array<ArrayBuffer> {
  const { width, height, metadata: { icc, exif, colourChunks } = {} } = image;
  const chunks = Object.entries(options.text ?? {}).map(([keyword, text]) => textChunk(keyword, text));
  if (exif) chunks.unshift({ type: 'eXIf', data: sizedExif(exif, width, height) });
  if (colourChunks) chunks.unshift(...colourChunks);
  else if (icc) chunks.unshift(profileChunk(icc));
  const png = new PNG({ width, height });
  const rgba = toRgba(image);
  if (rgba instanceof Uint8Array) png.data.set(rgba);
  else png.data = rgba as unknown as typeof png.data; // pngjs reads 16 bits from a buffer's memory
  const file = PNG.sync.write(png, {
    colorType: image.alpha ? 6 : 2,
    bitDepth: rgba instanceof Uint8Array ? 8 : 16,
    ...(options.stored ? { deflateLevel: 0, filterType: 0 } : {}),
  });
  return joinBytes(file.subarray(0, HEADER_END), ...chunks.map(writeChunk), file.subarray(HEADER_END));
}

/** Where a PNG file's signature and IHDR chunk end. */
const HEADER_END = 8 + 25;

/**
 * Bytes of a JPEG file (JFIF, 4:4:4) with the image's metadata, quality 1 to 100; alpha is dropped (`opaque`), and so are metadata too long for JPEG: EXIF
 * from 64 kB on, profiles above 16 MB. UserError for an empty image or a quality out of range.
 */
export function encodeJpeg(image: Image, quality: number): Uint8Array<ArrayBuffer> {
  if (!(quality >= 1 && quality <= 100)) throw new UserError(`JPEG quality is ${quality}; it must be from 1 to 100.`);
  const { width, height, metadata: { icc, exif } = {} } = image;
  const rgba = toRgba(opaque(image));
  const { data } = withBuffer<{ data: Uint8Array }>(() => encodeBlocks({ width, height, data: rgba as Uint8Array }, Math.round(quality)));
  const segments: Uint8Array[] = [];
  if (exif && exif.length <= MAX_SEGMENT - EXIF_PREFIX.length) {
    segments.push(segment(0xe1, ascii(EXIF_PREFIX), sizedExif(exif, width, height)));
  }
  const piece = MAX_SEGMENT - ICC_PREFIX.length - 2;
  const pieces = Math.ceil((icc?.length ?? 0) / piece);
  for (let i = 0; icc && pieces <= 255 && i < pieces; i++) {
    segments.push(segment(0xe2, ascii(ICC_PREFIX), [i + 1, pieces], icc.subarray(i * piece, (i + 1) * piece)));
  }
  return joinBytes(data.subarray(0, JFIF_END), ...segments, data.subarray(JFIF_END));
}

/** Where a JPEG file's start and JFIF segment end. */
const JFIF_END = 2 + 2 + 16;
/** Bytes that a JPEG segment holds besides its length. */
const MAX_SEGMENT = 0xffff - 2;

function segment(marker: number, ...parts: ArrayLike<number>[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 2);
  return joinBytes([0xff, marker, length >> 8, length & 255], ...parts);
}

/** (height, width, 4) u8 or u16, as the image, opaque without alpha. */
function toRgba({ width, height, data, alpha }: Image | DeepImage): Uint8Array | Uint16Array {
  checkSize(width, height, 'encode');
  const rgba = data instanceof Uint8Array ? new Uint8Array(width * height * 4) : new Uint16Array(width * height * 4);
  const opaque = data instanceof Uint8Array ? 255 : 65535;
  for (let i = 0; i < width * height; i++) {
    rgba[4 * i] = data[3 * i];
    rgba[4 * i + 1] = data[3 * i + 1];
    rgba[4 * i + 2] = data[3 * i + 2];
    rgba[4 * i + 3] = alpha ? (alpha[i] * opaque) / 255 : opaque;
  }
  return rgba;
}

/** Runs a function that ends with Node's `Buffer.from(bytes)`, as jpeg-js's encoder does; browsers get it for that long. */
function withBuffer<T>(run: () => T): T {
  const host = globalThis as { Buffer?: unknown };
  if (host.Buffer) return run();
  host.Buffer = { from: (bytes: number[]) => Uint8Array.from(bytes) };
  try {
    return run();
  } finally {
    delete host.Buffer;
  }
}
