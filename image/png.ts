/**
 * PNG files to images. pngjs decodes the pixels; everything it does not guard against is settled before it sees the file: sizes, checksums,
 * cut-off files, bytes after the end, and pixel data that are too few or too many.
 */
import { PNG } from 'pngjs';
import { UserError } from '../core/errors.ts';
import { joinBytes } from './bytes.ts';
import { checkSize, type Image, type SizeLimits } from './image.ts';
import { PNG_SIGNATURE, type PngChunk, readChunks } from './png-chunks.ts';

interface PngHeader {
  width: number;
  height: number;
  /** bits of a pixel in the file */
  bits: number;
  interlaced: boolean;
}

/** Samples of a pixel by colour type: grey, RGB, palette, grey with alpha, RGB with alpha. */
const SAMPLES: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const DEPTHS: Record<number, number[]> = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };

/**
 * A PNG of any kind (1 to 16 bits, grey, palette, RGB, alpha, tRNS, interlaced) as 8-bit RGB; 16 bits are rounded to v / 257. Alpha is kept if a
 * pixel is not opaque, and the colours under it are left as they are. UserError for damaged files and sizes above the limits. Also gives the
 * file's ICC profile and EXIF block (TIFF), if it has them.
 */
export async function readPng(
  bytes: Uint8Array,
  name: string,
  limits: SizeLimits,
): Promise<{
  image: Image;
  icc?: Uint8Array;
  exif?: Uint8Array;
}> {
  const { width, height, bits, interlaced } = readHeader(bytes, name);
  checkSize(width, height, name, limits); // before the rest of the file is read at all
  const { chunks, end } = readChunks(bytes, name);
  const size = pixelBytes(width, height, bits, interlaced);
  const pixels = chunks.filter(({ type }) => type === 'IDAT').map(({ data }) => data);
  const inflated = await inflate(pixels, size);
  if (inflated === undefined) throw new UserError(`${name}: the PNG file is damaged (its zlib stream); get another copy or save it anew.`);
  if (inflated !== size) {
    const much = inflated < size ? 'fewer' : 'more';
    throw new UserError(`${name}: the PNG file is damaged: it holds ${much} pixels than its header says; get another copy.`);
  }
  const rgba = decodePixels(bytes.subarray(0, end), name);
  const image: Image = { width, height, data: new Uint8Array(width * height * 3) };
  const alpha = new Uint8Array(width * height);
  let opaque = true;
  for (let i = 0, from = 0, to = 0; i < alpha.length; i++, from += 4, to += 3) {
    image.data[to] = rgba[from];
    image.data[to + 1] = rgba[from + 1];
    image.data[to + 2] = rgba[from + 2];
    alpha[i] = rgba[from + 3];
    if (alpha[i] !== 255) opaque = false;
  }
  if (!opaque) image.alpha = alpha;
  return { image, icc: await readProfile(chunks), exif: chunks.find(({ type }) => type === 'eXIf')?.data };
}

/** pngjs on a complete file -> (height, width, 4) u8. */
function decodePixels(bytes: Uint8Array, name: string): Uint8Array {
  // pngjs reads Node's Buffer, or in browsers the one bundled with it; an image's data is one.
  const buffer = new PNG({ width: Math.ceil(bytes.length / 4), height: 1 }).data.slice(0, bytes.length);
  buffer.set(bytes);
  try {
    return PNG.sync.read(buffer).data;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UserError(`${name}: the PNG file is damaged (${why}); get another copy or save it anew.`);
  }
}

/** The IHDR chunk, which must come first. */
function readHeader(bytes: Uint8Array, name: string): PngHeader {
  const at = PNG_SIGNATURE.length;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < at + 25 || view.getUint32(at) !== 13 || view.getUint32(at + 4) !== 0x49484452) {
    throw new UserError(`${name}: the PNG file has no header; get another copy.`);
  }
  const [depth, color, compression, filter, interlace] = bytes.subarray(at + 16, at + 21);
  if (!DEPTHS[color]?.includes(depth) || compression !== 0 || filter !== 0 || interlace > 1) {
    throw new UserError(`${name}: the PNG file's header is damaged (depth ${depth}, colour type ${color}); get another copy.`);
  }
  return { width: view.getUint32(at + 8), height: view.getUint32(at + 12), bits: depth * SAMPLES[color], interlaced: interlace === 1 };
}

/** Bytes of all rows, each with its filter byte; interlaced, of the seven passes of Adam7. */
function pixelBytes(width: number, height: number, bits: number, interlaced: boolean): number {
  // first column and row, column and row step of each pass
  const adam7 = [
    [0, 0, 8, 8],
    [4, 0, 8, 8],
    [0, 4, 4, 8],
    [2, 0, 4, 4],
    [0, 2, 2, 4],
    [1, 0, 2, 2],
    [0, 1, 1, 2],
  ];
  let size = 0;
  for (const [left, top, across, down] of interlaced ? adam7 : [[0, 0, 1, 1]]) {
    const [columns, rows] = [Math.ceil((width - left) / across), Math.ceil((height - top) / down)];
    if (columns > 0 && rows > 0) size += rows * (1 + Math.ceil((columns * bits) / 8));
  }
  return size;
}

/** More bytes than any profile has, tables of printers included. */
const MAX_PROFILE = 2 ** 24;

/** The ICC profile in a PNG's chunks; undefined also where it is damaged. */
async function readProfile(chunks: PngChunk[]): Promise<Uint8Array | undefined> {
  const data = chunks.find(({ type }) => type === 'iCCP')?.data;
  const nul = data ? data.indexOf(0) : -1; // its name, NUL, the compression method 0, a zlib stream
  if (!data || nul < 0 || data[nul + 1] !== 0) return undefined;
  const parts: Uint8Array[] = [];
  const size = await inflate([data.subarray(nul + 2)], MAX_PROFILE, (part) => parts.push(part));
  return size !== undefined && size <= MAX_PROFILE ? joinBytes(...parts) : undefined;
}

/**
 * Inflates a zlib stream: how many bytes it gives; some number above `limit` if it gives more, undefined if it is damaged. pngjs does not count:
 * short data are noticed on Node but not on Deno, whose zlib it reads past the end, and interlaced data inflate without bound.
 */
async function inflate(parts: Uint8Array[], limit: number, each?: (part: Uint8Array) => void): Promise<number | undefined> {
  const reader = new Blob(parts as BlobPart[]).stream().pipeThrough(new DecompressionStream('deflate')).getReader();
  try {
    let size = 0;
    while (size <= limit) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      each?.(value);
    }
    return size;
  } catch {
    return undefined;
  } finally {
    reader.cancel().catch(() => {});
  }
}
