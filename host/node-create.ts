/** Files that only one process can make. */
import { link, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { temporaryPath, unwatch, watch } from './node-temporary.ts';

/** What file systems without links answer. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

/**
 * Makes a file, whole at once; false where there is one of others. `text` must be unlike any other's. Throws what the file system does.
 */
export async function createWhole(path: string, text: string): Promise<boolean> {
  const temporary = temporaryPath(dirname(path));
  watch(temporary);
  try {
    await writeFile(temporary, text, { flag: 'wx' });
    await link(temporary, path);
    return true;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    // NFS may lose the answer to a link that was made: the content tells.
    if (code === 'EEXIST') return (await readFile(path, 'utf8').catch(() => null)) === text;
    if (!NO_LINKS.includes(code ?? '')) throw cause;
    return writeFile(path, text, { flag: 'wx' }).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return false;
        throw error;
      },
    );
  } finally {
    await rm(temporary, { force: true });
    unwatch(temporary);
  }
}
