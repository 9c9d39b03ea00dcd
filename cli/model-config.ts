/** A model folder's method and configuration, without its weights. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../core/errors.ts';
import { isRecord, parseJsonBytes } from '../core/json.ts';
import { host } from '../host/node.ts';
import { type AnyMethod, METHODS } from '../restore/methods.ts';
import { type Preset, presetsOf } from '../restore/presets.ts';
import { methodOf } from '../restore/restorer.ts';

/** The methods that --method allows. */
export function methodsNamed(name: string | undefined): readonly AnyMethod[] {
  return METHODS.filter((method) => name === undefined || method.name.toLowerCase() === name);
}

/** What --method may be. */
export const METHOD_NAMES: readonly string[] = METHODS.map(({ name }) => name.toLowerCase());

/** The method that restores with a model, and the model's sizes and recommendations. Throws UserError for a folder or file that is none. */
export async function methodAndConfig(model: string, name?: string): Promise<{ method: AnyMethod; config: AnyMethod['published'] }> {
  checkThere(model);
  const method = await methodOf(methodsNamed(name), host, model);
  return { method, config: await method.config(host, model) };
}

/** The same, or where no model is named the published model of the method that is; and where neither is, the model `otherwise`. */
export async function modelOr(model: string | undefined, name: string | undefined, otherwise: string) {
  if (model !== undefined || name === undefined) return methodAndConfig(model ?? otherwise, name);
  const [method] = methodsNamed(name);
  return { method, config: method.published };
}

/**
 * Presets of the model that is named, by the method that has them, told by its config.json alone; of published files, whose indices are not read for this,
 * those of every method. Throws UserError for a folder or a config.json that is none.
 */
export function presetsFor(model: string): { method: string; presets: Readonly<Record<string, Preset>> }[] {
  checkThere(model);
  const path = join(model, 'config.json');
  const json = existsSync(path) ? parseJsonBytes(readBytes(path), path) : {};
  const config = isRecord(json) ? json : {};
  const named = existsSync(path) ? METHODS.filter(({ name }) => name === (config.method ?? 'SUPIR')) : METHODS;
  return named.map((method) => {
    const recommending = { ...method.published, ...(config.presets === undefined ? {} : { presets: config.presets as never }) };
    return { method: method.name, presets: presetsOf(recommending, method) };
  });
}

function checkThere(model: string): void {
  if (!existsSync(model)) throw new UserError(`There is no model folder ${model}.`, { code: 'no-model', file: model });
}

function readBytes(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new UserError(`${path} cannot be read as a file.`, { code: 'unreadable', file: path, cause });
  }
}
