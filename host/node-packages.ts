/** Files of npm packages that are installed only where somebody wants what they hold. */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { UserError } from '../core/errors.ts';

/** A file of a package. Throws UserError (code `no-package`) where that is not installed, or lacks it. */
export async function packageFile(name: string, path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const folder = dirname(createRequire(import.meta.url).resolve(`${name}/package.json`));
    return new Uint8Array(await readFile(join(folder, path)));
  } catch (cause) {
    throw new UserError(`The package ${name}, whose ${path} is needed, is not installed.`, { code: 'no-package', values: { name }, cause });
  }
}
