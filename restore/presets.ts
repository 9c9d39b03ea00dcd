/**
 * Settings that go together, under a name. SUPIR's are for its published sizes; a model folder may bring its own (config.json, `presets`), and then has
 * no others.
 */
import { UserError } from '../core/errors.ts';
import { isRecord, kindOf } from '../core/json.ts';
import { listed, shown } from '../core/text.ts';
import type { SupirConfig } from '../models/config.ts';
import { readOptions, type Schema } from '../options/schema.ts';
import { OPTIONS, type RestoreOptions } from './options.ts';

/** What of a model's configuration says how it wants to be used. */
export type Recommending = Pick<SupirConfig, 'name' | 'min_size' | 'recommended' | 'presets'>;

export interface Preset<Options = RestoreOptions> {
  /** What it is for, in half a sentence. */
  help: string;
  values: Partial<Options>;
}

/** SUPIR's quality and fidelity and its setting for few-step bases, and such a base at the settings it was distilled for, which halves the work of a step. */
export const PRESETS = {
  quality: {
    help: 'more invented detail',
    values: { sampler: 'edm', steps: 50, cfg: 7.5, cfgStart: 4, sChurn: 5, sNoise: 1.003, restoreCfg: -1, controlScale: 1 },
  },
  fidelity: {
    help: 'closer to the photo',
    values: { sampler: 'edm', steps: 50, cfg: 4, cfgStart: 1, sChurn: 5, sNoise: 1.003, restoreCfg: -1, controlScale: 1 },
  },
  lightning: {
    help: 'for distilled few-step bases',
    values: { sampler: 'dpmpp2m', steps: 8, cfg: 2, cfgStart: 2, sNoise: 1.003, controlScale: 1 },
  },
  fast: {
    help: 'for distilled few-step bases, without guidance',
    values: { sampler: 'euler', steps: 8, cfg: 1, cfgStart: 1, controlScale: 1 },
  },
} as const satisfies Record<string, Preset>;

/** A method's options, and the presets of its published models. */
export interface Presets<Options> {
  options: Schema;
  presets: Readonly<Record<string, Preset<Options>>>;
}

const SUPIRS: Presets<RestoreOptions> = { options: OPTIONS, presets: PRESETS };

/** The presets that a model has: its own, or its method's. Throws UserError for entries of config.json that are none. */
export function presetsOf(config: Recommending): Readonly<Record<string, Preset>>;
export function presetsOf<Options>(config: Recommending, method: Presets<Options>): Readonly<Record<string, Preset<Options>>>;
export function presetsOf(config: Recommending, { options, presets }: Presets<RestoreOptions> = SUPIRS): Readonly<Record<string, Preset>> {
  if (config.presets === undefined) return presets;
  return Object.fromEntries(
    Object.entries(config.presets).map(([name, preset]) => {
      const [file, place] = ['config.json', `'presets.${shown(name)}'`];
      if (!isRecord(preset) || typeof preset.help !== 'string' || preset.help === '')
        throw new UserError(
          `${file}: ${place} is ${kindOf(preset)}; it must be an object with a help (half a sentence) and values (options and their values).`,
          { code: 'bad-preset', file },
        );
      return [name, { help: preset.help, values: readOptions(options, preset.values, { file, place }, 'snake') }];
    }),
  );
}

/** One of the model's presets. Throws UserError for a name that is not among them. */
export function presetOf(name: string, config: Recommending): Preset;
export function presetOf<Options>(name: string, config: Recommending, method: Presets<Options>): Preset<Options>;
export function presetOf(name: string, config: Recommending, method: Presets<RestoreOptions> = SUPIRS): Preset {
  const presets = presetsOf(config, method);
  if (Object.hasOwn(presets, name)) return presets[name];
  const names = Object.keys(presets);
  throw new UserError(
    `There is no preset '${shown(name)}' for the model ${shown(config.name)}; ${names.length > 0 ? `there are: ${listed(names)}` : 'it has none'}.`,
    { code: 'no-preset', option: 'preset', values: { presets: names } },
  );
}
