/**
 * A cache for slow sources: blocks of a file are kept where they survive a reload, each as soon as it has been read, so an interrupted download goes
 * on where it ended and nothing is ever fetched twice.
 */
import { type ByteSource, checkRange } from './byte-source.ts';

/** Keeps blocks by key. `put` must be all or nothing; `get` yields null for what is not there. */
export interface BlockStore {
  get(key: string): Promise<Blob | null>;
  put(key: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
}

export interface CacheOptions {
  /** Bytes of a block. Default 16 MiB. */
  block?: number;
  /** Called after each block that had to be fetched: bytes of the file that are kept now, as far as this source has seen. */
  onProgress?: (kept: number, size: number) => void;
}

/**
 * Reads `source` through a store. `id` tells files apart, and must change when the file does: for a web address, its version belongs in it.
 * A store that is full stops being written to; reading goes on.
 */
export function cachedSource(
  source: ByteSource,
  id: string,
  store: BlockStore,
  { block = 2 ** 24, onProgress }: CacheOptions = {},
): ByteSource {
  const pending = new Map<number, Promise<Blob>>();
  const kept = new Set<number>();
  let full = false;

  const lengthOf = (index: number) => Math.min(block, source.size - index * block);
  const keep = (index: number) => {
    kept.add(index);
    return [...kept].reduce((sum, i) => sum + lengthOf(i), 0);
  };

  async function load(index: number): Promise<Blob> {
    const key = `${id}.${block}.${index}`;
    const stored = await store.get(key);
    if (stored?.size === lengthOf(index)) {
      keep(index);
      return stored;
    }
    const bytes = await source.read(index * block, lengthOf(index));
    if (!full) {
      await store.put(key, bytes).then(
        () => onProgress?.(keep(index), source.size),
        () => {
          full = true;
        },
      );
    }
    return new Blob([bytes]);
  }

  const cached: ByteSource = {
    name: source.name,
    size: source.size,
    async read(offset, length) {
      checkRange(source, offset, length);
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const index = Math.floor((offset + done) / block);
        const from = offset + done - index * block;
        const part = Math.min(length - done, lengthOf(index) - from);
        let blob = pending.get(index);
        if (!blob) {
          blob = load(index).finally(() => pending.delete(index));
          pending.set(index, blob);
        }
        bytes.set(new Uint8Array(await (await blob).slice(from, from + part).arrayBuffer()), done);
        done += part;
      }
      return bytes;
    },
    close: () => source.close?.() ?? Promise.resolve(),
  };
  return cached;
}
