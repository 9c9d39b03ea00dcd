/** The options of a table as flags of commander, and what a person gave for them. */
import { readFileSync, statSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../core/errors.ts';
import { checkTextSize, plainText } from '../core/plain-text.ts';
import { keyOf, keysOf, type Option as OptionOfTable, type OptionValues, parseText, readOptions, type Schema } from '../options/schema.ts';
import { spelled } from '../options/spelling.ts';
import { captionPrompt } from '../restore/caption-prompt.ts';

/** What `parse` makes of a flag's text; what it refuses is told as the flag's. */
export function argument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof UserError) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}

/** Flags for options of a table, in its order, and hidden ones for their aliases. `whose`: what a default is called in the help. */
export function optionFlags<S extends Schema>(
  schema: S,
  keys: readonly (keyof S & string)[] = keysOf(schema),
  whose = 'default',
): Option[] {
  return keys.flatMap((key) => {
    const option = schema[key];
    const aliases = (option.aliases ?? []).map((alias) => flagOf(alias, option, '').hideHelp());
    return [flagOf(key, option, `${option.help}${shownDefault(option, whose)}`), ...aliases];
  });
}

/**
 * What was given on the command line for options of a table; defaults are not among it, so that a file or a model's recommendation can come between.
 * Throws UserError for an option that is given under two of its names.
 */
export function givenOptions<S extends Schema>(schema: S, command: Command): Partial<OptionValues<S>> {
  const flags = Object.keys(command.opts()).filter(
    (name) => command.getOptionValueSource(name) === 'cli' && keyOf(schema, name) !== undefined,
  );
  const given = flags.map((name) => [name, sorted(schema[keyOf(schema, name)!], command.getOptionValue(name), name)] as const);
  const twice = flags.find((name) => flags.some((other) => other !== name && keyOf(schema, other) === keyOf(schema, name)));
  if (twice !== undefined) throw new UserError(`--${spelled(twice, 'kebab')} is given under two of its names: give one.`);
  return readOptions(schema, Object.fromEntries(given), {}, 'kebab');
}

function flagOf(name: string, option: OptionOfTable, help: string): Option {
  const flag = spelled(name, 'kebab');
  if (option.kind === 'flag') return option.default === true ? new Option(`--no-${flag}`, option.off) : new Option(`--${flag}`, help);
  const isSeveral = option.kind === 'range' || option.kind === 'texts' || option.kind === 'names';
  const made = new Option(`--${flag} <${option.of}${isSeveral ? '...' : ''}>`, help);
  if (option.kind === 'choice' || option.kind === 'names') return made.choices([...option.choices]);
  if (option.kind === 'text' || option.kind === 'texts') return made;
  if (option.kind === 'boxes') {
    const some = argument((text) => parseText(option, text) as string[]);
    return made.argParser<string[]>((text, before) => [...(before ?? []), ...some(text)]);
  }
  if (option.kind === 'range') {
    const one = argument((text) => parseText(option, text) as number);
    return made.argParser<number[]>((text, before) => [...(before ?? []), one(text)]);
  }
  return made.argParser(option.kind === 'lines' ? linesOf : argument((text) => parseText(option, text)));
}

/** The value of a flag that takes one or several; of two numbers the lower comes first. */
function sorted(option: OptionOfTable, value: unknown, name: string): unknown {
  if (option.kind !== 'range') return value;
  const all = value as number[];
  if (all.length > 2) throw new UserError(`--${spelled(name, 'kebab')} takes one value or two, not ${all.length}.`);
  return all.length === 1 ? all[0] : [Math.min(...all), Math.max(...all)];
}

/** Bytes of a file of captions. */
const MOST_LINES = 2 ** 20;

/** The lines of a text file, each a caption; a last empty one does not count. */
function linesOf(path: string): string[] {
  try {
    checkTextSize(statSync(path).size, path, MOST_LINES);
    const text = plainText(readFileSync(path), path, MOST_LINES);
    return text
      .replace(/\r?\n$/, '')
      .split(/\r?\n/)
      .map(captionPrompt);
  } catch (error) {
    if (error instanceof UserError) throw new InvalidArgumentError(error.message);
    throw new InvalidArgumentError(
      `It cannot be read: ${(error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : 'is it a text file?'}`,
    );
  }
}

function shownDefault({ default: value, otherwise }: OptionOfTable, whose: string): string {
  if (otherwise !== undefined) return ` (default: ${otherwise})`;
  if (value === null || value === '' || typeof value === 'boolean' || (Array.isArray(value) && value.length === 0)) return '';
  const text = Array.isArray(value) ? value.join(',') : String(value);
  return ` (${whose}: ${text.length > 40 ? `"${text.slice(0, 40)}..."` : text})`;
}
