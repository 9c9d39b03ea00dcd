/** Text files as people's editors save them: UTF-8, UTF-16 and Windows' Latin letters. (WHATWG Encoding) */
import { UserError } from './errors.ts';
import { shown } from './text.ts';

/** Bytes that a caption or a list of them may have: many times what the text towers read of it. */
export const CAPTION_BYTES = 65_536;

/** Throws UserError, before a text file is read, if it has more than `most` bytes. */
export function checkTextSize(size: number, name: string, most = CAPTION_BYTES): void {
  if (size > most)
    throw new UserError(`${shown(name)} has ${size} bytes, and a text here may have at most ${most}; is it the right file? Shorten it.`, {
      file: name,
    });
}

/**
 * The text of a file, without its byte-order mark: UTF-8 or UTF-16 by their marks, UTF-16 without one where every other byte is 0, else UTF-8, and
 * windows-1252 where it is not that. Throws UserError for more than `most` bytes, and for what is no text.
 */
export function plainText(bytes: Uint8Array, name: string, most = CAPTION_BYTES): string {
  checkTextSize(bytes.length, name, most);
  const encoding = encodingOf(bytes);
  const text = encoding ? new TextDecoder(encoding).decode(bytes) : windowsText(bytes);
  if (text.includes('\0')) throw new UserError(`${shown(name)} is not a text file. Save it as plain text, in UTF-8.`, { file: name });
  return text;
}

/** The encoding by its label; null for windows-1252. */
function encodingOf(bytes: Uint8Array): string | null {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return 'utf-16le';
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return 'utf-16be';
  const zeros = [0, 0];
  for (let i = 0; i < bytes.length; i++) if (bytes[i] === 0) zeros[i % 2]++;
  if (bytes.length % 2 === 0 && bytes.length > 0) {
    if (zeros[0] === 0 && zeros[1] > bytes.length / 4) return 'utf-16le';
    if (zeros[1] === 0 && zeros[0] > bytes.length / 4) return 'utf-16be';
  }
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return 'utf-8';
  } catch {
    return null;
  }
}

/** The letters of 128 to 159. Node 20 decodes them as ISO 8859-1, in which they are control characters. */
const WINDOWS = '€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ';

const windowsText = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => (byte >= 128 && byte < 160 ? WINDOWS[byte - 128] : String.fromCharCode(byte))).join('');
