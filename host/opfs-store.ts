/** Blocks of weights in the browser's private file system (https://fs.spec.whatwg.org), for `cachedSource`: one file a block, complete or absent. */
import { UserError } from '../core/errors.ts';
import type { BlockStore } from '../weights/range-cache.ts';

/** Firefox may store a part of what is written when there is no room, and say nothing. Throws QuotaExceededError where a file has not all bytes. */
export async function checkWritten(handle: FileSystemFileHandle, bytes: number): Promise<void> {
  const { size } = await handle.getFile();
  if (size !== bytes) throw new DOMException(`${size} of ${bytes} bytes were stored.`, 'QuotaExceededError');
}

/** Opens a folder of blocks. @throws UserError if the page has no private file system. */
export async function opfsStore(folder = 'weights'): Promise<BlockStore & { remove(key: string): Promise<void>; clear(): Promise<void> }> {
  if (!navigator.storage?.getDirectory) throw new UserError('This page cannot keep files: serve it over https or from localhost.');
  const root = await navigator.storage.getDirectory();
  const open = () => root.getDirectoryHandle(folder, { create: true });
  const fileName = (key: string) => encodeURIComponent(key).replaceAll('*', '%2A').slice(-250);
  return {
    async get(key) {
      try {
        return await (await (await open()).getFileHandle(fileName(key))).getFile();
      } catch (error) {
        if ((error as DOMException).name === 'NotFoundError') return null;
        throw error;
      }
    },
    async put(key, bytes) {
      const directory = await open();
      const handle = await directory.getFileHandle(fileName(key), { create: true });
      const writable = await handle.createWritable();
      try {
        await writable.write(bytes);
        await writable.close(); // the block is there from here on
        await checkWritten(handle, bytes.length);
      } catch (error) {
        await writable.abort().catch(() => {});
        await directory.removeEntry(fileName(key)).catch(() => {});
        throw error;
      }
    },
    async remove(key) {
      await (await open()).removeEntry(fileName(key)).catch(() => {}); // nothing happens where there is none
    },
    async clear() {
      await root.removeEntry(folder, { recursive: true }).catch(() => {});
    },
  };
}
