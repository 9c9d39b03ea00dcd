/** A model folder's configuration, without its weights. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../core/errors.ts';
import { parseJsonBytes } from '../core/json.ts';
import { SUPIR_SDXL, type SupirConfig } from '../models/config.ts';
import { readModelConfig } from '../restore/model-config.ts';

/** The model's sizes and recommendations; published checkpoints without config.json have SUPIR's. Throws UserError for a folder or file that is none. */
export function readConfig(folder: string): SupirConfig {
  const path = join(folder, 'config.json');
  if (!existsSync(folder)) throw new UserError(`There is no model folder ${folder}.`, { code: 'no-model', file: folder });
  if (!existsSync(path)) return SUPIR_SDXL;
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw new UserError(`${path} cannot be read as a file.`, { code: 'unreadable', file: path, cause });
  }
  return readModelConfig(parseJsonBytes(bytes, path), path);
}
