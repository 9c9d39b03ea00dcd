/**
 * One rule for every file name that comes from a file: a plain name within its folder, on every system. What a downloaded config.json, index or list
 * of methods names can then neither leave the folder nor be another file than it seems.
 */
import { UserError } from './errors.ts';
import { shown } from './text.ts';

/** Most bytes of a file's name that common file systems allow. */
export const NAME_BYTES = 255;

/** Names that Windows gives to devices, whatever ending follows. */
const DEVICE = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
const FORBIDDEN = /[/\\:*?"<>|\x00-\x1f\x7f-\x9f]/;

/** Why a name is no plain file name, as the end of a sentence that begins with it; null for one that is. */
export function whyNotPlain(name: unknown): string | null {
  if (typeof name !== 'string') return 'is no text';
  if (name === '') return 'is empty';
  if (/^\.+$/.test(name)) return 'means a folder';
  if (/[/\\]/.test(name)) return 'leads to another folder';
  if (FORBIDDEN.test(name)) return 'holds a character that file names may not have';
  if (/^\s|[\s.]$/.test(name)) return 'begins or ends with a blank, or ends with a dot, which some systems take away';
  if (DEVICE.test(name)) return 'is the name of a device on Windows';
  if (new TextEncoder().encode(name).length > NAME_BYTES) return `is longer than ${NAME_BYTES} bytes`;
  return null;
}

/**
 * The name, where it is that of a file within its folder: not empty, no dots alone, neither slash nor colon, no control characters, no blank or
 * dot at an end, at most 255 bytes. Throws UserError with `what` in front, such as `config.json: 'files.sdxl'`.
 */
export function plainName(name: unknown, what: string): string {
  const why = whyNotPlain(name);
  if (why !== null) throw new UserError(`${what} is ${shown(name)}, which ${why}; it must be the name of a file within its folder.`);
  return name as string;
}

/** What two names have in common that some system takes for one: letter case and the form of accents do not count. */
export const nameKey = (name: string): string => name.normalize('NFC').toLowerCase();
