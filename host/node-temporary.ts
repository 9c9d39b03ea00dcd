/**
 * Temporary files: named for the process that writes them, so that two at once never share one, and short, so that every name that a file may have can
 * be written. An exit or an unhandled signal removes them; what a killed process left is removed when a later one first writes into the folder.
 */
import { createHash, randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { NAME_BYTES } from '../core/plain-name.ts';
import { runs, thisProcess } from './node-owner.ts';

const NAME = /^\.supir-([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]+\.tmp$/;

/** A temporary file of another machine is left alone for so long, in milliseconds. */
const DAY = 86_400_000;

/** Temporary files and locks of this process. */
const unfinished = new Set<string>();
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function removeUnfinished(): void {
  for (const path of unfinished) rmSync(path, { force: true });
}

/** Where nobody else handles the signal, the process is about to die: clean up and let it. Otherwise the other handler decides. */
function onSignal(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) return;
  removeUnfinished();
  process.off(signal, onSignal);
  process.kill(process.pid, signal);
}

/** Has a file removed should the process end before `unwatch`. */
export function watch(path: string): void {
  if (unfinished.size === 0) {
    process.on('exit', removeUnfinished);
    for (const signal of SIGNALS) process.on(signal, onSignal);
  }
  unfinished.add(path);
}

export function unwatch(path: string): void {
  unfinished.delete(path);
  if (unfinished.size > 0) return;
  process.off('exit', removeUnfinished);
  for (const signal of SIGNALS) process.off(signal, onSignal);
}

/** A new path in the folder, for this process alone. */
export function temporaryPath(folder: string): string {
  const { machine, pid, began } = thisProcess;
  return join(folder, `.supir-${machine}-${pid}-${began}-${randomBytes(6).toString('hex')}.tmp`);
}

/** The path of a file beside another, of the same name and an ending more; of a name too long for that, the beginning and a digest. */
export function besidePath(path: string, ending: string): string {
  const name = basename(path);
  if (Buffer.byteLength(name + ending) <= NAME_BYTES) return join(dirname(path), name + ending);
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 16);
  return join(dirname(path), `${[...name].slice(0, 40).join('')}-${digest}${ending}`);
}

/** Folders that were looked through. */
const swept = new Set<string>();

/** Removes what processes that are gone left in the folder; at the first call for it. Never throws: it is no part of the work. */
export async function sweep(folder: string): Promise<void> {
  if (swept.has(folder)) return;
  swept.add(folder);
  for (const name of await readdir(folder).catch(() => [])) {
    const [, machine, pid, began] = NAME.exec(name) ?? [];
    if (machine === undefined) continue;
    const path = join(folder, name);
    const owned = runs({ machine, pid: Number(pid), began: Number(began) });
    if (owned || (owned === null && !(await isOld(path)))) continue;
    await rm(path, { force: true }).catch(() => {});
  }
}

async function isOld(path: string): Promise<boolean> {
  return stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs > DAY,
    () => false,
  );
}
