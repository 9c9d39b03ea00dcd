/**
 * JSON from files of strangers. Its bytes are gone through once, in a loop, before anything is made of them: a text of 100 MB can hold millions of
 * objects, which take gigabytes, or lists within lists, on which whatever goes by recursion ends.
 */
import { UserError } from '../core/errors.ts';
import { parseJsonBytes } from '../core/json.ts';
import type { ByteSource } from './byte-source.ts';

export interface JsonBounds {
  /** Most values, and most lists and objects within one another. */
  values: number;
  depth: number;
}

/** Depth of what this program reads: three in a header of safetensors, five in a tokenizer. */
const DEPTH = 16;

/** Why the text is beyond the bounds, as the end of a sentence; undefined where it is not. It need not be valid. */
export function beyondBounds(bytes: Uint8Array, { values, depth }: JsonBounds): string | undefined {
  let open = 0;
  let count = 1;
  for (let i = 0; i < bytes.length; i++) {
    switch (bytes[i]) {
      case 0x22: // a text, up to the quote that no backslash stands before
        for (i++; i < bytes.length && bytes[i] !== 0x22; i++) if (bytes[i] === 0x5c) i++;
        break;
      case 0x7b: // {
      case 0x5b: // [
        count++;
        if (++open > depth) return `is nested more than ${depth} deep`;
        break;
      case 0x7d: // }
      case 0x5d: // ]
        open--;
        break;
      case 0x2c: // ,
        if (++count > values) return `holds more than ${values} values`;
    }
  }
  return undefined;
}

/** Reads a JSON file of at most so many bytes and values, and closes it. Throws UserError naming it, for one that is larger, nested deeply, or no JSON. */
export async function readJson(source: ByteSource, limits: { bytes: number; values: number }): Promise<unknown> {
  try {
    if (source.size > limits.bytes)
      throw new UserError(`${source.name} has ${source.size} bytes, and at most ${limits.bytes} are read: is it the right file?`);
    const bytes = await source.read(0, source.size);
    const beyond = beyondBounds(bytes, { values: limits.values, depth: DEPTH });
    if (beyond) throw new UserError(`${source.name} ${beyond}: is it the right file?`);
    return parseJsonBytes(bytes, source.name);
  } finally {
    await source.close?.();
  }
}
