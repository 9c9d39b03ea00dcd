/**
 * The options of a restoration in force: SUPIR's defaults, what a model folder recommends (config.json, `recommended`), a preset, and what a person gives.
 */
import { UserError } from '../core/errors.ts';
import { defaultsOf, keyOf, type Option, type OptionValues, readOptions, type Schema } from '../options/schema.ts';
import { conflictOf, DEFAULTS, OPTIONS, type RestoreOptions } from './options.ts';
import { checkParts, type PART_OPTIONS, type Parted } from './part-options.ts';
import { type Presets, presetOf, type Recommending } from './presets.ts';
import { layered, type TARGET_OPTIONS, type Target } from './target-size.ts';

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
  const options = layered(DEFAULTS, recommended, preset, readOptions(OPTIONS, known, {}));
  checkParts(options, DEFAULTS.upscale);
  const conflict = conflictOf(options);
  if (conflict) throw new UserError(conflict.message, { code: 'option-conflict', option: conflict.option });
  return options;
}

/**
 * The same for any method: its defaults, what the model recommends, the preset, what was given. Throws UserError for an option that the method does not
 * know, naming it, and as `chooseOptions`.
 */
export function chooseFrom<S extends Schema & Record<'upscale' | keyof typeof TARGET_OPTIONS | keyof typeof PART_OPTIONS, Option>>(
  method: Presets<OptionValues<S>> & { options: S },
  { preset, ...given }: Readonly<Record<string, unknown>>,
  config: Recommending,
): OptionValues<S> {
  const { options } = method;
  const recommended = readOptions(options, config.recommended ?? {}, RECOMMENDED, 'snake');
  const chosen = preset === undefined ? {} : presetOf(String(preset), config, method).values;
  const layers = [recommended, chosen, readOptions(options, given, {})] as Partial<Target>[];
  const values = layered(defaultsOf(options) as Target, ...layers);
  checkParts(values as Target & Parted & { upscale: number }, options.upscale.default as number);
  return values as OptionValues<S>;
}

const RECOMMENDED = { file: 'config.json', place: "'recommended'" };
