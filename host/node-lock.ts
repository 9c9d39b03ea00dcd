/**
 * Locks between processes: a file that holds its owner. One whose owner is gone is taken over, so that a killed process locks nobody out.
 */
import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { UserError } from '../core/errors.ts';
import { createWhole } from './node-create.ts';
import { fileError } from './node-files.ts';
import { type Owner, runs, thisProcess } from './node-owner.ts';
import { sweep, temporaryPath, unwatch, watch } from './node-temporary.ts';

interface Lock extends Owner {
  /** Tells this lock from others of the same process. */
  id: string;
  /** ISO 8601. */
  since: string;
}

/** A lock without an owner in it, which only a machine that lost its power leaves, is taken over after so many milliseconds. */
const EMPTY = 5000;

/**
 * Takes the lock `path`; the function returned gives it back. `what` begins the message for the one who comes second, such as
 * `out.safetensors is being written`. Throws UserError where another process has it, and where the folder cannot be written to.
 */
export async function lock(path: string, what: string): Promise<() => Promise<void>> {
  const folder = dirname(path);
  const own: Lock = { ...thisProcess, id: randomBytes(8).toString('hex'), since: new Date().toISOString() };
  const text = JSON.stringify(own);
  let made: string | undefined;
  try {
    made = await mkdir(folder, { recursive: true });
    await sweep(folder);
    for (let tries = 0; !(await createWhole(path, text)); tries++) {
      const there = await readFile(path, 'utf8').catch(() => null);
      if (there === null) continue; // given back meanwhile
      const owner = parse(there);
      const taken = owner ? runs(owner) : await isFresh(path);
      if (taken !== false || tries > 20) throw new UserError(`${what} by another process${owner ? described(owner, path) : ''}.`);
      await clear(path, there);
    }
  } catch (cause) {
    throw cause instanceof UserError ? cause : fileError('write', path, cause);
  }
  watch(path);
  return async () => {
    unwatch(path);
    if ((await readFile(path, 'utf8').catch(() => '')) === text) await rm(path, { force: true });
    if (made !== undefined) await removeEmpty(folder, made);
  };
}

/** Removes the folder where nothing was put into it, and those above it up to `made`. */
async function removeEmpty(folder: string, made: string): Promise<void> {
  for (let each = resolve(folder); each.startsWith(resolve(made)); each = dirname(each))
    if (
      !(await rmdir(each).then(
        () => true,
        () => false,
      ))
    )
      return;
}

function described({ pid, machine, since }: Lock, path: string): string {
  if (machine === thisProcess.machine)
    return ` (number ${pid}, since ${since}). Wait until it is done, or end it, or choose another name for the output`;
  return ` (number ${pid} of another machine, since ${since}). Wait until it is done; should it have ended, remove ${path}`;
}

function parse(text: string): Lock | null {
  try {
    const { pid, machine, began, id, since } = JSON.parse(text) as Lock;
    const isLock = Number.isSafeInteger(pid) && pid > 0 && typeof machine === 'string' && typeof id === 'string';
    return isLock ? { pid, machine, began: Number(began), id, since: String(since).slice(0, 30) } : null;
  } catch {
    return null;
  }
}

const isFresh = (path: string): Promise<boolean> =>
  stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs < EMPTY,
    () => false,
  );

/** Takes away a lock whose owner is gone, and puts it back should another have taken it over in the same moment. */
async function clear(path: string, text: string): Promise<void> {
  const aside = temporaryPath(dirname(path));
  try {
    await rename(path, aside);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw cause;
  }
  if ((await readFile(aside, 'utf8')) !== text) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}
