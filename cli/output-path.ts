/** Finds out before the work what would stop a file from being written after it. */
import { accessSync, constants, existsSync, lstatSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { UserError } from '../core/errors.ts';
import { nameKey } from '../core/plain-name.ts';
import { shown } from '../core/text.ts';

export function isFolder(path: string): boolean {
  return existsSync(path) && statSync(path).isDirectory();
}

/** Throws UserError where the path is a folder, lies below a file, has a name too long for the disk, or may not be written. */
export function checkWritable(path: string): void {
  const fail = (why: string): never => {
    throw new UserError(`Cannot write ${shown(path, 400)}: ${why}.`);
  };
  let folder = dirname(resolve(path));
  try {
    while (!existsSync(folder)) {
      lstatSync(join(nearestFolder(folder), basename(folder)), { throwIfNoEntry: false });
      folder = dirname(folder); // missing folders will be made
    }
    lstatSync(join(folder, basename(path)), { throwIfNoEntry: false });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENAMETOOLONG') fail('the name is longer than the file system allows');
    if (code !== 'ENOTDIR') throw error;
  }
  if (isFolder(path)) fail('it is a folder');
  if (!isFolder(folder)) fail(`${shown(folder, 400)} is a file, not a folder`);
  try {
    accessSync(folder, constants.W_OK);
  } catch {
    fail(`the folder ${shown(folder, 400)} may not be written to`);
  }
}

function nearestFolder(path: string): string {
  let folder = dirname(path);
  while (!existsSync(folder)) folder = dirname(folder);
  return folder;
}

/** Systems whose disks commonly take names for one that differ by letter case alone. */
const foldsCase = process.platform === 'darwin' || process.platform === 'win32';

/** The path without links, also where the end of it is not there yet. */
export function realPath(path: string): string {
  const absolute = resolve(path);
  if (existsSync(absolute)) return realpathSync(absolute);
  const folder = nearestFolder(absolute);
  return join(realpathSync(folder), absolute.slice(folder.length));
}

/** The same for two paths that lead to one file, links followed; also for files that are not there yet. */
export function pathKey(path: string): string {
  if (existsSync(path)) {
    const found = statSync(path, { bigint: true });
    if (found.isFile()) return `file ${found.dev} ${found.ino}`;
  }
  const key = realPath(path);
  return foldsCase ? nameKey(key) : key;
}
