/** Files through Node's API, which Bun and Deno share. */
import { access, mkdir, open, readdir, readFile as readWhole, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { UserError } from '../core/errors.ts';
import { type ByteSource, checkRange } from '../weights/byte-source.ts';
import type { Files } from './host.ts';
import { sweep, temporaryPath, unwatch, watch } from './node-temporary.ts';

/** Says which file could not be read, written or listed, and why, in a person's words. */
export function fileError(verb: string, path: string, cause: unknown): UserError {
  const code = (cause as NodeJS.ErrnoException).code;
  const reasons: Record<string, string> = {
    ENOENT: `it does not exist (looked at ${resolve(path)})`,
    EACCES: 'permission is denied',
    EPERM: 'the system does not permit it',
    EISDIR: 'it is a folder, not a file',
    EEXIST: 'part of the path is a file, not a folder',
    ENOTDIR: 'part of the path is a file, not a folder',
    ENOSPC: 'the disk is full',
    EROFS: 'the disk is read-only',
    ENAMETOOLONG: 'the name is longer than the file system allows',
    EDQUOT: 'no more may be stored here (the quota is used up)',
    EFBIG: 'the file system takes no file of this size',
    EMFILE: 'too many files are open',
    ELOOP: 'its links lead in a circle',
  };
  const why = (code && reasons[code]) ?? (code ? `the system answers ${code}` : 'the system gives no reason');
  return new UserError(`Cannot ${verb} ${path}: ${why}.`, { code: 'file-trouble', file: path, values: { system: code ?? null }, cause });
}

/** Files that are open for reading, by device and inode, with how often. */
const reading = new Map<string, number>();

/** Throws UserError where the file is one that this process reads: writing it would take from under the work what the work is made of. */
export async function checkNotRead(path: string): Promise<void> {
  const found = await stat(path, { bigint: true }).catch(() => null);
  if (found && reading.has(`${found.dev} ${found.ino}`))
    throw new UserError(`${path} is read and cannot be written at once: choose another name for the output.`);
}

function openedForReading(key: string, change: 1 | -1): void {
  const count = (reading.get(key) ?? 0) + change;
  if (count > 0) reading.set(key, count);
  else reading.delete(key);
}

let underWay = 0;

/** Whether bytes of a file that is open are being read. */
export const isReading = (): boolean => underWay > 0;

async function fileSource(path: string): Promise<ByteSource> {
  try {
    // Asked before it is opened: opening a pipe waits for somebody to write into it.
    const found = await stat(path, { bigint: true });
    if (!found.isFile())
      throw new UserError(`Cannot open ${path}: it is ${found.isDirectory() ? 'a folder' : 'a pipe or a device'}, not a file.`);
    const file = await open(path, 'r');
    const { size } = await file.stat();
    const key = `${found.dev} ${found.ino}`;
    openedForReading(key, 1);
    const source: ByteSource = {
      name: basename(path),
      size,
      async read(offset, length, into) {
        checkRange(source, offset, length);
        const bytes = into?.subarray(0, length) ?? new Uint8Array(length);
        underWay++;
        try {
          for (let done = 0; done < length; ) {
            const { bytesRead } = await file.read(bytes, done, Math.min(length - done, 2 ** 30), offset + done).catch((cause) => {
              throw fileError('read', path, cause);
            });
            if (bytesRead === 0) throw new UserError(`Cannot read ${path}: it became shorter while it was read.`);
            done += bytesRead;
          }
        } finally {
          underWay--;
        }
        return bytes;
      },
      async close() {
        if (file.fd < 0) return; // closed before
        openedForReading(key, -1);
        await file.close();
      },
    };
    return source;
  } catch (cause) {
    throw cause instanceof UserError ? cause : fileError('open', path, cause);
  }
}

async function readFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await readWhole(path));
  } catch (cause) {
    throw fileError('read', path, cause);
  }
}

async function list(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.flatMap((entry) => (entry.isDirectory() ? [] : [entry.name])).sort();
  } catch (cause) {
    throw fileError('list', folder, cause);
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function remove(path: string): Promise<void> {
  try {
    await rm(path, { force: true });
  } catch (cause) {
    throw fileError('remove', path, cause);
  }
}

async function writeFileAtomic(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const folder = dirname(path);
  const temporary = temporaryPath(folder);
  watch(temporary);
  try {
    await checkNotRead(path);
    await mkdir(folder, { recursive: true });
    await sweep(folder);
    const file = await open(temporary, 'wx');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {}); // what went wrong with the write says more
    throw cause instanceof UserError ? cause : fileError('write', path, cause);
  } finally {
    unwatch(temporary);
  }
}

export const nodeFiles: Files = { fileSource, readFile, writeFileAtomic, list, exists, remove };
