/** Small text files, such as captions. */
import { CAPTION_BYTES, checkTextSize, plainText } from '../core/plain-text.ts';
import type { Files } from './host.ts';

/** The text of a file in whichever encoding (`plainText`). Throws UserError, before it is read, for one of more than `most` bytes. */
export async function readTextFile(files: Files, path: string, most = CAPTION_BYTES): Promise<string> {
  const source = await files.fileSource(path);
  try {
    checkTextSize(source.size, path, most);
    return plainText(await source.read(0, source.size), path, most);
  } finally {
    await source.close?.();
  }
}
