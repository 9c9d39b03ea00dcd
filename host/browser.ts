/**
 * Browsers: navigator.gpu, and files in the origin private file system (https://fs.spec.whatwg.org), where a path is folders and a name
 * joined by '/'. Web addresses and files a person picks are byte sources of their own (weights/), not files of the host.
 */

import type { Machine } from '../core/adapter.ts';
import { DeviceError, UserError } from '../core/errors.ts';
import { rememberedChoice } from '../gpu/matrix-choice.ts';
import { blobSource } from '../weights/byte-source.ts';
import { fileNotes } from './file-notes.ts';
import type { Files, Host } from './host.ts';
import { checkWritten } from './opfs-store.ts';

/** The folder a path's name is in, and the name. */
async function locate(path: string, create = false): Promise<[FileSystemDirectoryHandle, string]> {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  const name = names.pop() ?? '';
  return [await openFolder(names, create), name];
}

async function openFolder(names: string[], create: boolean): Promise<FileSystemDirectoryHandle> {
  if (!navigator.storage?.getDirectory) throw new UserError('This page cannot keep files: serve it over https or from localhost.');
  let folder = await navigator.storage.getDirectory();
  for (const name of names) folder = await folder.getDirectoryHandle(name, { create });
  return folder;
}

function fileError(verb: string, path: string, cause: unknown): UserError {
  if (cause instanceof UserError) return cause;
  const { name, message } = cause as DOMException;
  const reasons: Record<string, string> = {
    NotFoundError: "it is not in this site's storage",
    QuotaExceededError: 'the browser grants this site no more storage',
    TypeMismatchError: 'part of the path is a file where a folder should be, or the reverse',
  };
  return new UserError(`Cannot ${verb} ${path}: ${reasons[name] ?? message}.`, { cause });
}

async function openFile(path: string): Promise<File> {
  try {
    const [folder, name] = await locate(path);
    return await (await folder.getFileHandle(name)).getFile();
  } catch (cause) {
    throw fileError('open', path, cause);
  }
}

/** An iPad's browser says that it is a Mac's; its adapter tells (gpu/card-memory.ts). */
const SYSTEMS: readonly (readonly [RegExp, Machine['system']])[] = [
  [/iPhone|iPad|iPod/, 'ios'],
  [/Android/, 'android'],
  [/Windows/, 'windows'],
  [/Macintosh/, 'mac'],
  [/Linux|CrOS/, 'linux'],
];

/** By what a browser calls itself, and the GiB that it tells: at most 8, and only some do. */
export function machineOf(userAgent: string, deviceMemory?: number): Machine {
  const system = SYSTEMS.find(([pattern]) => pattern.test(userAgent))?.[1] ?? null;
  return { system, memory: deviceMemory ? deviceMemory * 2 ** 30 : null };
}

const files: Files = {
  async fileSource(path) {
    const file = await openFile(path);
    return blobSource(file.name, file);
  },
  async readFile(path) {
    return new Uint8Array(await (await openFile(path)).arrayBuffer());
  },
  async writeFileAtomic(path, bytes) {
    try {
      const [folder, name] = await locate(path, true);
      const handle = await folder.getFileHandle(name, { create: true });
      const writable = await handle.createWritable();
      try {
        await writable.write(bytes);
      } catch (cause) {
        await writable.abort();
        throw cause;
      }
      await writable.close(); // the new bytes replace the old ones here, at once
      await checkWritten(handle, bytes.length).catch(async (cause) => {
        await folder.removeEntry(name);
        throw cause;
      });
    } catch (cause) {
      throw fileError('write', path, cause);
    }
  },
  async list(folder) {
    try {
      const names: string[] = [];
      const handle = await openFolder(
        folder.split('/').filter((name) => name !== '' && name !== '.'),
        false,
      );
      for await (const [name, entry] of handle.entries()) if (entry.kind === 'file') names.push(name);
      return names.sort();
    } catch (cause) {
      throw fileError('list', folder, cause);
    }
  },
  async exists(path) {
    try {
      const [folder, name] = await locate(path);
      for await (const [entry] of folder.entries()) if (entry === name) return true;
    } catch {} // a folder on the way is not there
    return false;
  },
  async remove(path) {
    try {
      const [folder, name] = await locate(path);
      await folder.removeEntry(name);
    } catch (cause) {
      if ((cause as DOMException).name !== 'NotFoundError') throw fileError('remove', path, cause);
    }
  },
};

/** A worker does not know whether its page is seen: the page has to tell it, by setting `told`. */
export const screen = {
  told: false,
  get isSeen(): boolean {
    return globalThis.document ? document.visibilityState === 'visible' : this.told;
  },
};

// A browser's version is its compiler's too.
const notes = fileNotes(files, 'notes', globalThis.navigator?.userAgent ?? '');

export const host: Host = {
  name: 'browser',
  async gpu() {
    if (!navigator.gpu) {
      const why = isSecureContext ? 'Use a current Chrome, Edge, Firefox or Safari.' : 'Serve the page over https or from localhost.';
      throw new DeviceError(`This page has no WebGPU. ${why}`);
    }
    return navigator.gpu;
  },
  freeMemory: () => null,
  machine: () => machineOf(navigator.userAgent, (navigator as { deviceMemory?: number }).deviceMemory),
  screen,
  notes,
  // A device of its own is all that a page can give the probe, whose code few adapters make it fetch.
  chooseMatrixUnit: (adapter) =>
    rememberedChoice(notes, adapter, async () => (await import('../gpu/matrix-probe.ts')).chooseMatrixUnit(await host.gpu())),
  settle: (promise) => promise,
  ...files,
};
