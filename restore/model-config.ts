/** A model folder's config.json as a restoration needs it: sizes, and options and presets that this program knows. */
import { UserError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import { shown } from '../core/text.ts';
import { parseConfig, type SupirConfig } from '../models/config.ts';
import { chooseOptions } from './choose-options.ts';
import { presetsOf } from './presets.ts';

/** Throws UserError naming the first entry that is missing or not what it should be, among sizes, what is recommended, and presets. */
export function readModelConfig(json: unknown, file: string): SupirConfig {
  if (isRecord(json) && typeof json.method === 'string' && json.method !== 'SUPIR')
    throw new UserError(`${file} is of a model of the method ${shown(json.method, 60)}, and SUPIR was to open it: leave the method out.`, {
      ...{ code: 'bad-config', file },
    });
  const config = parseConfig(json, file);
  chooseOptions({}, config);
  for (const preset of Object.keys(presetsOf(config))) chooseOptions({ preset }, config);
  return config;
}
