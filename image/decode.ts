/** Image files to images. The format is told from the file's first bytes, never from its name. */
import { factsOf, UserError } from '../core/errors.ts';
import type { FileContents } from './file-contents.ts';
import { type Image, SIZE_LIMITS, type SizeLimits } from './image.ts';
import { readMetadata } from './metadata.ts';
import { orient } from './orientation.ts';

/** First bytes of formats; ? stands for any byte. */
const FORMATS: [name: string, signature: string][] = [
  ['PNG', '\x89PNG\r\n\x1a\n'],
  ['JPEG', '\xff\xd8\xff'],
  ['WebP', 'RIFF????WEBP'],
  ['GIF', 'GIF8'],
  ['BMP', 'BM'],
  ['TIFF', 'II*\0'],
  ['TIFF', 'MM\0*'],
  ['BigTIFF', 'II+\0'],
  ['BigTIFF', 'MM\0+'],
  ['AVIF', '????ftypavi'], // avif, or avis for sequences
  ['HEIC', '????ftyphei'],
  ['HEIC', '????ftyphev'],
  ['HEIC', '????ftypmif1'],
  ['HEIC', '????ftypmsf1'],
  ['JPEG XL', '\xff\x0a'],
  ['JPEG XL', '\0\0\0\x0cJXL '],
  ['JPEG 2000', '\0\0\0\x0cjP  '],
  ['Photoshop', '8BPS'],
  ['PDF', '%PDF'],
];

/** The name of an image file's format, from its first bytes; undefined if none is known. */
export function imageFormat(bytes: Uint8Array): string | undefined {
  const matches = (signature: string) => [...signature].every((letter, i) => letter === '?' || bytes[i] === letter.charCodeAt(0));
  return FORMATS.find(([, signature]) => matches(signature))?.[0];
}

type Reader = (bytes: Uint8Array, name: string, limits: SizeLimits) => FileContents | Promise<FileContents>;

/** Each is loaded when a file is of its format. */
const readers: Record<string, () => Promise<Reader>> = {
  PNG: async () => (await import('./png.ts')).readPng,
  JPEG: async () => (await import('./jpeg.ts')).readJpeg,
  WebP: async () => (await import('./webp.ts')).readWebp,
  TIFF: async () => (await import('./tiff.ts')).readTiff,
  AVIF: async () => (await import('./heif.ts')).readAvifOrHeic,
  HEIC: async () => (await import('./heif.ts')).readAvifOrHeic,
};

/**
 * A PNG, JPEG, WebP, TIFF, AVIF or HEIC file's bytes as an upright 8-bit RGB image: more bits are rounded and kept in `deep`, alpha is kept if a pixel is not opaque, the EXIF orientation is
 * applied. The colour profile and EXIF go along as metadata, and no colour is converted but CMYK (see `readJpeg`). `name` stands in front of messages. UserError, before any pixel is decoded, for other formats and sizes above the limits, and for
 * damaged files.
 */
export async function decode(bytes: Uint8Array, name: string, limits: SizeLimits = SIZE_LIMITS): Promise<Image> {
  try {
    return await decodeFile(bytes, name, limits);
  } catch (error) {
    throw error instanceof UserError ? new UserError(error.message, { ...factsOf(error), file: name, cause: error.cause }) : error;
  }
}

async function decodeFile(bytes: Uint8Array, name: string, limits: SizeLimits): Promise<Image> {
  if (bytes.length === 0) throw new UserError(`${name}: the file is empty.`);
  const format = imageFormat(bytes);
  const reader = readers[format ?? ''];
  if (!reader) {
    const what = format ? `${format} files are not read` : 'this is not an image file that is known here';
    throw new UserError(`${name}: ${what}; convert it to PNG, JPEG or WebP.`);
  }
  const contents = await (await reader())(bytes, name, limits);
  const { metadata, orientation, notes } = readMetadata(contents);
  const note = [...contents.notes, ...notes].join(' ');
  return { ...orient(contents.image, orientation), ...(metadata ? { metadata } : {}), ...(note ? { note } : {}) };
}
