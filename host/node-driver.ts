/**
 * Which Vulkan driver Dawn uses on a machine without a working one of its own: scripts/setup.ts unpacks a software driver under
 * node_modules/.cache and notes it in a file, which every later process follows. A driver chosen by hand always wins.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** The Vulkan loader's variables that choose a driver, the newer first. */
export const DRIVER_VARIABLES = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'] as const;

/** The folder of an installed package; null where it is not installed, as optional ones may be. */
function packageFolder(name: string): string | null {
  try {
    return dirname(createRequire(import.meta.url).resolve(name));
  } catch {
    return null;
  }
}

/** Folder of the npm package `webgpu`, null without it: Dawn looks for the Vulkan loader beside its own library first. */
export const dawnFolder = packageFolder('webgpu');

/** Where set-up keeps what it unpacks, beside the installed packages; `npm ci` empties it. */
export const cacheFolder = join(dirname(dawnFolder ?? packageFolder('commander') ?? process.cwd()), '.cache', 'supir-webgpu');

/** The note that set-up leaves: environment variables, by name. */
export const driverNote = join(cacheFolder, 'driver.json');

/** The variables which a person has set to choose a driver, as `NAME=value`. */
export function driverByHand(): string[] {
  return DRIVER_VARIABLES.flatMap((name) => (process.env[name] ? [`${name}=${process.env[name]}`] : []));
}

/** Set to 1, the note is not followed: this is how set-up tries the system's own driver. */
export const IGNORE_NOTE = 'SUPIR_SYSTEM_DRIVER';

/** The environment that set-up noted; empty where the system's own driver serves. */
export function notedDriver(): Record<string, string> {
  if (process.env[IGNORE_NOTE] || !existsSync(driverNote)) return {};
  const noted = JSON.parse(readFileSync(driverNote, 'utf8')) as Record<string, string>;
  return Object.values(noted).every(existsSync) ? noted : {};
}

/** Makes this process use the noted driver, unless one was chosen by hand. Must run before Dawn starts. */
export function useNotedDriver(): void {
  if (driverByHand().length === 0) Object.assign(process.env, notedDriver());
}
