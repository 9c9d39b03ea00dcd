/** A model folder's configuration, without its weights. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../core/errors.ts';
import { host } from '../host/node.ts';
import { parseConfig, SUPIR_SDXL, type SupirConfig } from '../models/config.ts';

/** The model's sizes and recommendations; published checkpoints without config.json have SUPIR's. */
export async function configOf(folder: string): Promise<SupirConfig> {
  const path = join(folder, 'config.json');
  if (!existsSync(folder)) throw new UserError(`There is no model folder ${folder}.`);
  if (!existsSync(path)) return SUPIR_SDXL;
  try {
    return parseConfig(JSON.parse(new TextDecoder().decode(await host.readFile(path))), path);
  } catch (error) {
    if (error instanceof SyntaxError) throw new UserError(`${path} is not JSON: ${error.message}`);
    throw error;
  }
}
