/** The container of PNG files: chunks, their checksums and text. (PNG specification, third edition, sections 5 and 11.3.3) */
import { UserError } from '../core/errors.ts';
import { ascii, joinBytes } from './bytes.ts';
import { adler32 } from './inflate.ts';

export const PNG_SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

export interface PngChunk {
  /** four letters, such as IHDR */
  type: string;
  data: Uint8Array;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** CRC-32 of bytes, as PNG and zip use it. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** More chunks than any file has; each costs memory. */
const MAX_CHUNKS = 1_000_000;

/**
 * The chunks of a PNG file up to and including IEND; what follows is ignored. The data are views, not copies. `damaged` are the names of ancillary
 * chunks whose checksums are wrong, which are left out. (sections 5.3 and 13.2) UserError if the file is not a PNG, is cut off, or another checksum
 * is wrong.
 */
export function readChunks(bytes: Uint8Array, name: string): { chunks: PngChunk[]; damaged: string[] } {
  if (!PNG_SIGNATURE.every((byte, i) => bytes[i] === byte)) throw new UserError(`${name}: not a PNG file.`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks: PngChunk[] = [];
  const damaged: string[] = [];
  for (let at = PNG_SIGNATURE.length; chunks.length + damaged.length < MAX_CHUNKS; ) {
    if (at + 12 > bytes.length) throw new UserError(`${name}: the PNG file is cut off at byte ${bytes.length}; get a complete copy.`);
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (!/^[A-Za-z]{4}$/.test(type)) throw new UserError(`${name}: the PNG file is damaged (no chunk at byte ${at}); get another copy.`);
    if (at + 12 + length > bytes.length) {
      throw new UserError(`${name}: the PNG file is cut off in chunk ${JSON.stringify(type)} at byte ${at}; get a complete copy.`);
    }
    const sound = crc32(bytes.subarray(at + 4, at + 8 + length)) === view.getUint32(at + 8 + length);
    if (sound) chunks.push({ type, data: bytes.subarray(at + 8, at + 8 + length) });
    else if (isAncillary(type)) damaged.push(type);
    else throw new UserError(`${name}: the PNG file is damaged in chunk ${JSON.stringify(type)} at byte ${at}; get another copy.`);
    at += 12 + length;
    if (type === 'IEND') return { chunks, damaged };
  }
  throw new UserError(`${name}: the PNG file has more than ${MAX_CHUNKS} chunks; save it again.`);
}

/** Whether a picture can be shown without a chunk: its name begins with a small letter. (section 5.4) */
export const isAncillary = (type: string): boolean => type[0] >= 'a';

/** A chunk's bytes in the file: length, type, data, checksum. */
export function writeChunk({ type, data }: PngChunk): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/**
 * A text as a chunk: tEXt where keyword and text are ASCII, iTXt (UTF-8, not compressed) otherwise. The keyword has 1 to 79 printable ASCII
 * characters without a space at either end, the text no NUL; UserError otherwise.
 */
export function textChunk(keyword: string, text: string): PngChunk {
  if (!/^[!-~]([ -~]{0,77}[!-~])?$/.test(keyword)) {
    throw new UserError(`PNG text: the keyword ${JSON.stringify(keyword)} must be 1 to 79 printable ASCII characters.`);
  }
  if (text.includes('\0')) throw new UserError(`PNG text ${JSON.stringify(keyword)}: it holds a NUL character, which PNG does not allow.`);
  const ascii = [...text].every((letter) => letter < '\x80');
  // iTXt: keyword, NUL, compression flag and method, empty language, NUL, empty translated keyword, NUL, text
  return { type: ascii ? 'tEXt' : 'iTXt', data: new TextEncoder().encode(keyword + (ascii ? '\0' : '\0\0\0\0\0') + text) };
}

/** An ICC profile as a chunk. Its zlib stream stores the bytes as they are, for profiles are small beside pixels. (RFC 1950 and 1951) */
export function profileChunk(profile: Uint8Array): PngChunk {
  const parts: ArrayLike<number>[] = [ascii('ICC profile\0\0'), [0x78, 0x01]];
  for (let at = 0; at < profile.length; at += 0xffff) {
    const block = profile.subarray(at, at + 0xffff);
    const { length } = block;
    const last = at + length === profile.length ? 1 : 0;
    parts.push([last, length & 255, length >> 8, ~length & 255, (~length >> 8) & 255], block);
  }
  const sum = adler32(profile);
  return { type: 'iCCP', data: joinBytes(...parts, [sum >>> 24, (sum >> 16) & 255, (sum >> 8) & 255, sum & 255]) };
}

/** Most bytes of a text that are read. */
const TEXT_BYTES = 4_000_000;

/**
 * The texts of a PNG file by keyword (tEXt, and iTXt that is not compressed; a repeated keyword keeps its last text), of each at most the first four
 * million bytes. UserError as `readChunks`.
 */
export function readPngText(bytes: Uint8Array, name: string): Record<string, string> {
  const texts = new Map<string, string>();
  for (const { type, data } of readChunks(bytes, name).chunks) {
    const nul = data.indexOf(0);
    if ((type !== 'tEXt' && type !== 'iTXt') || nul < 1) continue;
    const keyword = latin1(data.subarray(0, nul));
    if (type === 'tEXt') texts.set(keyword, latin1(data.subarray(nul + 1, nul + 1 + TEXT_BYTES)));
    else if (data[nul + 1] === 0) {
      const language = data.indexOf(0, nul + 3);
      const translated = data.indexOf(0, language + 1);
      if (language > 0 && translated > 0)
        texts.set(keyword, new TextDecoder().decode(data.subarray(translated + 1, translated + 1 + TEXT_BYTES)));
    }
  }
  return Object.fromEntries(texts);
}

/** Each byte a letter. */
export function latin1(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += 8192) parts.push(String.fromCharCode(...bytes.subarray(at, at + 8192)));
  return parts.join('');
}
