/** A browser's private file system in memory, as far as files are written and read whole; with room for so many bytes. */
export interface PrivateFiles {
  /** Bytes that fit. */
  room: number;
  /** What happens to a write that does not: an error, or, as in Firefox, a part is stored and nothing said. */
  whenFull: 'error' | 'part';
  /** Paths and contents. */
  readonly files: Map<string, Uint8Array<ArrayBuffer>>;
  /** Calls of write. */
  writes: number;
  /** Gives back what `navigator` was. */
  restore(): void;
}

/** Puts one in the place of the platform's. */
export function privateFiles(): PrivateFiles {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const fake: PrivateFiles = {
    room: Number.POSITIVE_INFINITY,
    whenFull: 'error',
    files,
    writes: 0,
    restore: () => (before ? Object.defineProperty(globalThis, 'navigator', before) : Reflect.deleteProperty(globalThis, 'navigator')),
  };
  const missing = () => new DOMException('not there', 'NotFoundError');
  const fileAt = (path: string) => ({
    kind: 'file',
    async getFile() {
      const bytes = files.get(path);
      if (!bytes) throw missing();
      return new File([bytes], path.split('/').pop()!);
    },
    async createWritable() {
      let given: Uint8Array<ArrayBuffer> = new Uint8Array(0);
      return {
        async write(bytes: Uint8Array<ArrayBuffer>) {
          fake.writes++;
          const used = [...files].reduce((sum, [other, { length }]) => sum + (other === path ? 0 : length), 0);
          const fits = Math.max(0, Math.min(bytes.length, fake.room - used));
          if (fits < bytes.length && fake.whenFull === 'error') throw new DOMException('full', 'QuotaExceededError');
          given = bytes.slice(0, fits);
        },
        close: async () => void files.set(path, given),
        abort: async () => {},
      };
    },
  });
  const folderAt = (path: string): unknown => ({
    kind: 'directory',
    getDirectoryHandle: async (name: string) => folderAt(`${path}${name}/`),
    async getFileHandle(name: string, { create = false } = {}) {
      if (!files.has(path + name)) {
        if (!create) throw missing();
        files.set(path + name, new Uint8Array(0));
      }
      return fileAt(path + name);
    },
    async removeEntry(name: string) {
      if (!files.delete(path + name)) throw missing();
    },
    async *entries() {
      for (const each of [...files.keys()]) if (each.startsWith(path)) yield [each.slice(path.length).split('/')[0], fileAt(each)];
    },
  });
  const storage = { getDirectory: async () => folderAt(''), persist: async () => true, estimate: async () => ({ quota: 100, usage: 0 }) };
  Object.defineProperty(globalThis, 'navigator', { value: { storage }, configurable: true });
  return fake;
}
