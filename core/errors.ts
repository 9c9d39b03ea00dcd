/**
 * Errors that a person can act on. The message is for a library's user: what is wrong, where, and what to do next, without flags or commands.
 * What else it says is data, so that front ends can add what helps there: the command line its flags (cli/messages.ts), the page its places
 * (web/messages.ts). No front end takes a sentence apart.
 */
import { shownMessage } from './text.ts';

/** What an error or a warning is about, beside its sentence. */
export interface Facts {
  /** Which error it is, where something is to be said or done about this one: `no-adapter`. Never a sentence. */
  code?: string;
  /** The option that it is about, by its key: `cfgStart`. */
  option?: string;
  /** The file that it is about, as it was named. */
  file?: string;
  /** Numbers and names that the sentence holds, or that say what would be right. */
  values?: Readonly<Record<string, unknown>>;
}

/** Something that a person should know and that does not stop the work. */
export interface Warning extends Facts {
  code: string;
  message: string;
}

/** What an error takes beside its message. */
export interface ErrorDetails extends Facts, ErrorOptions {}

/** An error with facts. Control characters in the message are shown, and it ends somewhere, whatever came in from outside. */
class FactualError extends Error implements Facts {
  readonly code?: string;
  readonly option?: string;
  readonly file?: string;
  readonly values?: Facts['values'];

  constructor(message: string, { code, option, file, values, ...options }: ErrorDetails = {}) {
    super(shownMessage(message), options);
    if (code !== undefined) this.code = code;
    if (option !== undefined) this.option = option;
    if (file !== undefined) this.file = file;
    if (values !== undefined) this.values = values;
  }
}

/** A cause the caller can mend: a bad file, option, shape or size. Front ends exit with code 2. */
export class UserError extends FactualError {
  override name = 'UserError';
}

/** Shapes that do not fit an operation. The message names the operation, the shapes and, where there is one, the weight. */
export class ShapeError extends UserError {
  override name = 'ShapeError';
}

/** The adapter went away, ran out of memory, or refused a command. Front ends exit with code 3. */
export class DeviceError extends FactualError {
  override name = 'DeviceError';
}

/** The adapter has less memory than was asked of it. */
export class MemoryError extends DeviceError {
  override name = 'MemoryError';
}

/** The facts of an error, to go where errors themselves cannot: to the page, into JSON. */
export function factsOf(error: unknown): Facts {
  const { code, option, file, values } = error as Facts;
  return Object.fromEntries(Object.entries({ code, option, file, values }).filter(([, value]) => value !== undefined));
}
