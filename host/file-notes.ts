/** Notes as files in one folder. */
import type { Notes } from '../core/notes.ts';
import type { Files } from './host.ts';

/** Bytes of a note; a larger file is none. */
const LARGEST = 2 ** 16;

/** `folder`: null where there is no place for notes. */
export function fileNotes(files: Files, folder: string | null, runtime: string): Notes {
  return {
    runtime,
    async read(name) {
      if (folder === null) return null;
      try {
        const source = await files.fileSource(`${folder}/${name}`);
        try {
          return source.size > LARGEST ? null : new TextDecoder().decode(await source.read(0, source.size));
        } finally {
          await source.close?.();
        }
      } catch {
        return null; // it would be found out again
      }
    },
    async write(name, text) {
      if (folder === null) return;
      await files.writeFileAtomic(`${folder}/${name}`, new TextEncoder().encode(text)).catch(() => {});
    },
  };
}
