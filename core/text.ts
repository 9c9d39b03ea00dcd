/** Text that comes from outside (names, captions, versions, keys of files) on its way into a message. */

/** Characters that move the cursor, colour or clear a terminal, turn the direction of writing, or cannot be seen: C0, DEL, C1, bidi, separators, half pairs. */
const UNSEEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
  /[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const NAMED: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

const escaped = (letter: string): string => {
  const code = letter.charCodeAt(0);
  return NAMED[letter] ?? (code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`);
};

/**
 * What came from outside, fit for a line of a message: control characters are shown as escapes (`\x1b`), and what is longer than `most` characters
 * is cut, with its length. What is no text is shown as JSON. Everything that a file, a server or a name holds goes through here before a person
 * sees it.
 */
export function shown(value: unknown, most = 120): string {
  const text = typeof value === 'string' ? value : jsonOf(value, most);
  const line = text.slice(0, most).replace(UNSEEN, escaped);
  return text.length > most ? `${line}... (${text.length} characters)` : line;
}

/** A text of others', a driver's say, as a whole sentence, so that another one can follow it. */
export function sentence(text: string): string {
  const whole = text.trimEnd();
  return /[.!?]['")]?$/.test(whole) ? whole : `${whole}.`;
}

/** A list of such texts, the first `most` of them. */
export function listed(values: readonly unknown[], most = 12): string {
  const some = values.slice(0, most).map((value) => shown(value));
  return values.length > most ? `${some.join(', ')} and ${values.length - most} more` : some.join(', ');
}

/** Most characters of a whole message. */
const MESSAGE = 4000;

/** A whole message, as a last guard: its lines stay, every other control character is shown, and it ends after 4000 characters. */
export function shownMessage(text: string): string {
  const safe = text.slice(0, MESSAGE).replace(UNSEEN, (letter) => (letter === '\n' || letter === '\t' ? letter : escaped(letter)));
  return text.length > MESSAGE ? `${safe}... (${text.length} characters)` : safe;
}

/** JSON of a value; of large ones only so much that it is seen to be cut. */
function jsonOf(value: unknown, most: number): string {
  if (Array.isArray(value) && value.length > most) return `[${value.length} values]`;
  if (typeof value === 'number' || typeof value === 'bigint' || value === undefined) return String(value);
  return JSON.stringify(value) ?? String(value);
}
