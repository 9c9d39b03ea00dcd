/** A model folder's config.json as a restoration needs it: sizes, and options and presets that this program knows. */
import { parseConfig, type SupirConfig } from '../models/config.ts';
import { chooseOptions } from './choose-options.ts';
import { presetsOf } from './presets.ts';

/** Throws UserError naming the first entry that is missing or not what it should be, among sizes, what is recommended, and presets. */
export function readModelConfig(json: unknown, file: string): SupirConfig {
  const config = parseConfig(json, file);
  chooseOptions({}, config);
  for (const preset of Object.keys(presetsOf(config))) chooseOptions({ preset }, config);
  return config;
}
