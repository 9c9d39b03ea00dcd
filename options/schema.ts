/**
 * Options as data: what each is called, takes, means and is when nobody chooses. From one table come the TypeScript types, the checks, the command
 * line's flags and help, the page's form, what config.json recommends, recipes and the tables of the documentation, so that an option is added in one
 * place. A table is an object of options by their keys, in the order in which they are shown.
 */
import { UserError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import { shown } from '../core/text.ts';
import { type Case, spelled } from './spelling.ts';

/** What an option takes. `of` is the placeholder of its value. */
export type Kind =
  /** A number from `least` to `most`, both included. */
  | { kind: 'number'; of: string; least: number; most: number; whole: boolean }
  | { kind: 'choice'; of: string; choices: readonly string[] }
  | { kind: 'flag' }
  | { kind: 'text'; of: string }
  /** Width and height in pixels, such as 2048x1365. */
  | { kind: 'size'; of: string; least: number; most: number }
  /** Texts, which the command line takes as the lines of a file. */
  | { kind: 'lines'; of: string }
  /** Texts, such as names of files. */
  | { kind: 'texts'; of: string }
  /** Parts of a picture, each as x,y,width,height in pixels; typed with blanks or semicolons between, or given several times. */
  | { kind: 'boxes'; of: string; most: number }
  /** A list of numbers, typed with commas; `count` of them, where that is fixed. */
  | { kind: 'numbers'; of: string; least: number; most: number; count?: number }
  /** Whole numbers from 0, typed as 0,3-5. */
  | { kind: 'indices'; of: string }
  /** One number, or a lowest and a highest to draw from. */
  | { kind: 'range'; of: string; least: number; most: number }
  /** Several of a few names. */
  | { kind: 'names'; of: string; choices: readonly string[] };

export interface Said {
  /** In half a sentence. */
  help: string;
  /** Further sentences, for the documentation. */
  more?: string;
  /** Which heading it is shown under. */
  group: string;
  /** Former and foreign spellings that are read too; their case does not matter. */
  aliases?: readonly string[];
  /** Of a flag that is on by default: what switching it off does. */
  off?: string;
  /** How the default is told, where its value does not say it. */
  otherwise?: string;
}

/**
 * An option whose values are of the type `Value`; null, where it is allowed, is "not given". `unsaid` is what it was before there was such an option, where
 * that is not the default: so it is in recipes that lack it.
 */
export type Option<Value = unknown> = Kind & Said & { default: Value; unsaid?: Value };

export type Schema = Readonly<Record<string, Option>>;

/** The values of a table's options. */
export type OptionValues<S extends Schema> = { [Key in keyof S]: S[Key]['default'] };

type Of<Value> = Said & { default: Value; unsaid?: Value; of?: string };

export function number(least: number, most: number, said: Of<number>): Option<number>;
export function number(least: number, most: number, said: Of<number | null>): Option<number | null>;
export function number(least: number, most: number, said: Of<number | null>): Option<number | null> {
  return { kind: 'number', of: 'x', least, most, whole: false, ...said };
}

export function integer(least: number, most: number, said: Of<number>): Option<number>;
export function integer(least: number, most: number, said: Of<number | null>): Option<number | null>;
export function integer(least: number, most: number, said: Of<number | null>): Option<number | null> {
  return { kind: 'number', of: 'n', least, most, whole: true, ...said };
}

export function choice<Name extends string>(choices: readonly Name[], said: Of<NoInfer<Name>>): Option<Name>;
export function choice<Name extends string>(choices: readonly Name[], said: Of<NoInfer<Name> | null>): Option<Name | null>;
export function choice<Name extends string>(choices: readonly Name[], said: Of<NoInfer<Name> | null>): Option<Name | null> {
  return { kind: 'choice', of: 'name', choices, ...said };
}

export const flag = (said: Said & { default: boolean }): Option<boolean> => ({ kind: 'flag', ...said });

export function text(said: Of<string>): Option<string>;
export function text(said: Of<string | null>): Option<string | null>;
export function text(said: Of<string | null>): Option<string | null> {
  return { kind: 'text', of: 'text', ...said };
}

/** Width and height as a text, such as 2048x1365; each from `least` to `most` pixels. `sidesOf` reads it. */
export const size = (least: number, most: number, said: Of<string | null>): Option<string | null> => ({
  kind: 'size',
  of: 'WxH',
  least,
  most,
  ...said,
});

export const lines = (said: Of<readonly string[]>): Option<readonly string[]> => ({ kind: 'lines', of: 'file', ...said });

export const texts = (said: Of<readonly string[]>): Option<readonly string[]> => ({ kind: 'texts', of: 'texts', ...said });

/** Parts of a picture, each a text such as 10,20,200,150: left, top, width, height; at most `most` of them. `boxOf` reads one. */
export const boxes = (most: number, said: Of<readonly string[]>): Option<readonly string[]> => ({
  kind: 'boxes',
  of: 'x,y,w,h',
  most,
  ...said,
});

export const numbers = (least: number, most: number, said: Of<readonly number[]> & { count?: number }): Option<readonly number[]> => ({
  kind: 'numbers',
  of: 'numbers',
  least,
  most,
  ...said,
});

export const indices = (said: Of<readonly number[]>): Option<readonly number[]> => ({ kind: 'indices', of: 'indices', ...said });

export type Range = number | readonly [low: number, high: number];

export const range = (least: number, most: number, said: Of<Range | null>): Option<Range | null> => ({
  kind: 'range',
  of: 'x',
  least,
  most,
  ...said,
});

export const names = <Name extends string>(choices: readonly Name[], said: Of<readonly NoInfer<Name>[]>): Option<readonly Name[]> => ({
  kind: 'names',
  of: 'names',
  choices,
  ...said,
});

/** The two sides in a text such as 2048x1365; null where it is none. */
export function sidesOf(text: string): { width: number; height: number } | null {
  const [, width, height] = /^(\d{1,6})[x\u00d7](\d{1,6})$/i.exec(text.trim()) ?? [];
  return width === undefined ? null : { width: Number(width), height: Number(height) };
}

/** The numbers in a text such as 10,20,200,150; null where it is none, or of no pixels. */
export function boxOf(text: string): { x: number; y: number; width: number; height: number } | null {
  const numbers = /^\d{1,6}(,\d{1,6}){3}$/.test(text) ? text.split(',').map(Number) : [];
  const [x, y, width, height] = numbers;
  return width > 0 && height > 0 ? { x, y, width, height } : null;
}

/** Most characters of a text, and most entries of a list: far beyond any use, and little work. */
const [LONGEST, MOST] = [20_000, 10_000];

export const defaultsOf = <S extends Schema>(schema: S): OptionValues<S> =>
  Object.fromEntries(Object.entries(schema).map(([key, option]) => [key, option.default])) as OptionValues<S>;

/** The values that a record of all options means where it lacks some, for it is older than they. */
export const unsaidOf = <S extends Schema>(schema: S): OptionValues<S> =>
  Object.fromEntries(Object.entries(schema).map(([key, { default: value, unsaid = value }]) => [key, unsaid])) as OptionValues<S>;

export const keysOf = <S extends Schema>(schema: S): (keyof S & string)[] => Object.keys(schema);

const plain = (name: string) => name.replace(/[-_]/g, '').toLowerCase();

/** The key of an option by its name in any case (cfgStart, cfg-start, cfg_start) or an alias; undefined where there is none. */
export function keyOf<S extends Schema>(schema: S, name: string): (keyof S & string) | undefined {
  const wanted = plain(name);
  return keysOf(schema).find((key) => plain(key) === wanted || schema[key].aliases?.some((alias) => plain(alias) === wanted));
}

/** What an option's value must be, as the end of a sentence. */
export function expected(option: Option): string {
  const within = (least: number, most: number) => (most >= Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`);
  switch (option.kind) {
    case 'number':
      return `${option.whole ? 'an integer' : 'a number'} ${within(option.least, option.most)}`;
    case 'choice':
      return `one of ${option.choices.join(', ')}`;
    case 'flag':
      return 'true or false';
    case 'size':
      return `a width and a height in pixels, such as 2048x1365, each ${within(option.least, option.most)}`;
    case 'text':
      return `a text of at most ${LONGEST} characters`;
    case 'lines':
    case 'texts':
      return `a list of texts, at most ${MOST} of at most ${LONGEST} characters`;
    case 'boxes':
      return `parts of a picture as x,y,width,height in whole pixels, at most ${option.most}`;
    case 'numbers':
      return `a list of ${option.count ?? ''}${option.count ? ' ' : ''}numbers ${within(option.least, option.most)}`;
    case 'indices':
      return 'a list of integers from 0 to 999, such as 0,3-5';
    case 'range':
      return `a number ${within(option.least, option.most)}, or a lowest and a highest`;
    case 'names':
      return `a list of names out of ${option.choices.join(', ')}`;
  }
}

/** Whether a value is what the option takes. */
export function fits(option: Option, value: unknown): boolean {
  const within = (each: unknown, least: number, most: number) => typeof each === 'number' && each >= least && each <= most;
  const isText = (each: unknown) => typeof each === 'string' && each.length <= LONGEST;
  const every = (test: (each: unknown) => boolean) => Array.isArray(value) && value.length <= MOST && value.every(test);
  if (value === null) return option.default === null;
  switch (option.kind) {
    case 'number':
      return within(value, option.least, option.most) && (!option.whole || Number.isInteger(value));
    case 'choice':
      return option.choices.includes(value as string);
    case 'flag':
      return typeof value === 'boolean';
    case 'size': {
      const sides = typeof value === 'string' ? sidesOf(value) : null;
      return sides !== null && Object.values(sides).every((side) => within(side, option.least, option.most));
    }
    case 'text':
      return isText(value);
    case 'lines':
    case 'texts':
      return every(isText);
    case 'boxes':
      return every((each) => isText(each) && boxOf(each as string) !== null) && (value as unknown[]).length <= option.most;
    case 'numbers': {
      const good = every((each) => within(each, option.least, option.most));
      return good && (option.count === undefined || (value as unknown[]).length === option.count);
    }
    case 'indices':
      return every((each) => Number.isInteger(each) && within(each, 0, 999));
    case 'range': {
      const inside = (each: unknown) => within(each, option.least, option.most);
      return inside(value) || (every(inside) && (value as number[]).length === 2 && (value as number[])[0] <= (value as number[])[1]);
    }
    case 'names':
      return every((each) => option.choices.includes(each as string));
  }
}

/** Where values come from, for messages: the file, and the place in it. */
export interface Origin {
  file?: string;
  /** "recommended", "method 'strong'". */
  place?: string;
}

/** Throws UserError (code `option-value`) where the value is not what the option takes: what was given, and what is right. */
export function checkValue(schema: Schema, key: string, value: unknown, origin: Origin = {}): void {
  const option = schema[key];
  if (fits(option, value)) return;
  const [given, right] = [typeof value === 'string' ? `'${shown(value)}'` : shown(value), expected(option)];
  const { file, place } = origin;
  throw new UserError(`${prefix(origin, `the option '${key}' is ${given}; it must be ${right}.`)}`, {
    code: 'option-value',
    option: key,
    file,
    values: { given, expected: right, place },
  });
}

/**
 * Options that come from outside, by their keys: an object whose names may be in any case, or aliases. Throws UserError naming what is no option
 * (code `unknown-option`), what is there twice, and values of the wrong type or out of range (`option-value`).
 */
export function readOptions<S extends Schema>(
  schema: S,
  given: unknown,
  origin: Origin,
  spelling: Case = 'camel',
): Partial<OptionValues<S>> {
  if (!isRecord(given))
    throw new UserError(prefix(origin, `the options are ${shown(given)}; they must be an object.`), {
      code: 'no-options',
      file: origin.file,
    });
  const values: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const key = keyOf(schema, name);
    if (key === undefined) {
      const known = keysOf(schema).map((each) => spelled(each, spelling));
      throw new UserError(prefix(origin, `there is no option '${shown(name)}'; there are: ${known.join(', ')}.`), {
        code: 'unknown-option',
        file: origin.file,
        values: { given: shown(name), known, place: origin.place },
      });
    }
    if (key in values)
      throw new UserError(prefix(origin, `the option '${key}' is there twice, under two of its names.`), {
        code: 'option-twice',
        option: key,
        file: origin.file,
      });
    checkValue(schema, key, value, origin);
    values[key] = value;
  }
  return values as Partial<OptionValues<S>>;
}

function prefix({ file, place }: Origin, sentence: string): string {
  const where = [file, place].filter((each) => each !== undefined).join(', ');
  return where ? `${where}: ${sentence}` : sentence[0].toUpperCase() + sentence.slice(1);
}

/** The value that a person typed. Throws UserError saying what it must be, without the option's name, which the front end knows. */
export function parseText(option: Option, typed: string): unknown {
  const value = readTyped(option, typed);
  if (fits(option, value)) return value;
  throw new UserError(`It must be ${expected(option)}.`, {
    code: 'typed-value',
    values: { given: shown(typed), expected: expected(option) },
  });
}

function readTyped(option: Option, typed: string): unknown {
  switch (option.kind) {
    case 'number':
    case 'range': {
      const all = typed.trim().split(/\s+/).map(numberOf);
      return all.length === 1 ? all[0] : all;
    }
    case 'numbers':
      return typed.split(',').map(numberOf);
    case 'indices':
      return typed.split(',').flatMap(indicesOf);
    case 'lines':
      return typed.replace(/\n$/, '').split('\n');
    case 'boxes':
      return typed.split(/[\s;]+/).filter((each) => each !== '');
    case 'texts':
    case 'names':
      return typed.split(',').map((each) => each.trim());
    case 'flag':
      return { true: true, false: false }[typed.trim()];
    default:
      return typed;
  }
}

const numberOf = (typed: string): number => (typed.trim() === '' ? Number.NaN : Number(typed));

/** 3 or 3-5; NaN for anything else. */
function indicesOf(typed: string): number[] {
  const [, first, last = first] = /^\s*(\d{1,3})(?:-(\d{1,3}))?\s*$/.exec(typed) ?? [];
  if (!(Number(first) <= Number(last))) return [Number.NaN];
  return Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => Number(first) + i);
}
