/** The methods of restoration that there are. */

import type { Option, Schema } from '../options/schema.ts';
import { CLEANER } from './clean-method.ts';
import { DIFFBIR } from './diffbir-method.ts';
import type { Kind, Method } from './stage.ts';
import { SUPIR } from './supir.ts';

export type AnyMethod = Method<Kind>;

/** What two methods have under one name, for whom the method is not known yet: what either takes. */
function either(a: Option, b: Option): Option {
  const aliases = [...new Set([...(a.aliases ?? []), ...(b.aliases ?? [])])];
  if (a.kind === 'choice' && b.kind === 'choice') return { ...a, aliases, choices: [...new Set([...a.choices, ...b.choices])] };
  if (a.kind === 'number' && b.kind === 'number')
    return { ...a, aliases, least: Math.min(a.least, b.least), most: Math.max(a.most, b.most) };
  return { ...a, aliases };
}

/** A folder is of the first that recognises it; SUPIR, the last, takes what no other knows, and tells what it lacks. */
export const METHODS: readonly AnyMethod[] = [DIFFBIR, CLEANER, SUPIR];

/** The same with SUPIR first, as options are told. */
export const OPTION_ORDER: readonly AnyMethod[] = [...METHODS.slice(-1), ...METHODS.slice(0, -1)];

/** The options of all methods, with the first one's defaults; what is given is checked once more by the method that it is for. */
export const ALL_OPTIONS: Schema = OPTION_ORDER.reduce<Record<string, Option>>((all, { options }) => {
  for (const [key, option] of Object.entries(options)) all[key] = all[key] ? either(all[key], option) : option;
  return all;
}, {});
