/** JSON from outside. */
import { UserError } from './errors.ts';

/** Parses the text of a file. Throws UserError naming the file, with line and column where the parser tells them; never in the parser's own words. */
export function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${file} is not JSON${placeOf(cause as Error, text)}.`, { code: 'not-json', file, cause });
  }
}

/** Parses the bytes of a file, in UTF-8. Throws UserError as `parseJson`. */
export function parseJsonBytes(bytes: Uint8Array, file: string): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new UserError(`${file} is not JSON: it is no UTF-8 text.`, { code: 'not-json', file, cause });
  }
  return parseJson(text, file);
}

/** An object with names, and no list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What a value is, in a word, for a message that says what it should be. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  return (
    { string: 'a text', number: 'a number', boolean: 'true or false', object: 'an object', undefined: 'missing' }[typeof value as string] ??
    typeof value
  );
}

function placeOf({ message }: Error, text: string): string {
  const [, position] = /position (\d+)/.exec(message) ?? [];
  if (position === undefined) return text.trim() === '' ? ': it is empty' : '';
  const before = text.slice(0, Number(position)).split('\n');
  return ` (line ${before.length}, column ${before[before.length - 1].length + 1})`;
}
