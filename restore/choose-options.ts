/**
 * The options of a restoration in force: SUPIR's defaults, what a model folder recommends (config.json, `recommended`), a preset, and what a person gives.
 */
import { UserError } from '../core/errors.ts';
import { defaultsOf, keyOf, type OptionValues, readOptions, type Schema } from '../options/schema.ts';
import { conflictOf, DEFAULTS, OPTIONS, type RestoreOptions } from './options.ts';
import { type Presets, presetOf, type Recommending } from './presets.ts';

/** What a caller gives: some options, and a preset for the rest. */
export type GivenOptions = Partial<RestoreOptions> & { preset?: string };

/**
 * SUPIR's defaults, then the model's recommendations, then the preset, then what was given, which may be spelled in any case or by an alias. Other
 * properties of `given` are ignored. Throws UserError naming the first impossible option, and a preset that is not the model's.
 */
export function chooseOptions(given: GivenOptions, config: Recommending): RestoreOptions {
  const recommended = { minSize: config.min_size, ...readOptions(OPTIONS, config.recommended ?? {}, RECOMMENDED, 'snake') };
  const preset = given.preset === undefined ? {} : presetOf(given.preset, config).values;
  const known = Object.fromEntries(Object.entries(given).filter(([name]) => keyOf(OPTIONS, name) !== undefined));
  const options: RestoreOptions = { ...DEFAULTS, ...recommended, ...preset, ...readOptions(OPTIONS, known, {}) };
  const conflict = conflictOf(options);
  if (conflict) throw new UserError(conflict.message, { code: 'option-conflict', option: conflict.option });
  return options;
}

/**
 * The same for any method: its defaults, what the model recommends, the preset, what was given. Throws UserError for an option that the method does not
 * know, naming it, and as `chooseOptions`.
 */
export function chooseFrom<S extends Schema>(
  method: Presets<OptionValues<S>> & { options: S },
  { preset, ...given }: Readonly<Record<string, unknown>>,
  config: Recommending,
): OptionValues<S> {
  const { options } = method;
  const recommended = readOptions(options, config.recommended ?? {}, RECOMMENDED, 'snake');
  const chosen = preset === undefined ? {} : presetOf(String(preset), config, method).values;
  return { ...defaultsOf(options), ...recommended, ...chosen, ...readOptions(options, given, {}) };
}

const RECOMMENDED = { file: 'config.json', place: "'recommended'" };
