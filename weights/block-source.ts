/** Small reads of a file, such as a network's biases and norms, out of larger ones: what lies side by side is mostly wanted together. */
import { type ByteSource, checkRange } from './byte-source.ts';

/** Bytes of a block, how many of the last ones are kept, and the longest read that is made out of one. */
export const BLOCK = 2 ** 20;
const KEPT = 4;
const SMALL = BLOCK / 4;

/** The same bytes; small reads are copies out of blocks of the source, of which the last few are kept. Throws as the source does. */
export function inBlocks(source: ByteSource): ByteSource {
  const { name, size } = source;
  const blocks = new Map<number, Promise<Uint8Array>>();
  const blockAt = (start: number): Promise<Uint8Array> => {
    const known = blocks.get(start);
    if (known) return known;
    const block = source.read(start, Math.min(BLOCK, size - start));
    blocks.set(start, block);
    block.catch(() => blocks.delete(start)); // another try may succeed
    if (blocks.size > KEPT) blocks.delete(blocks.keys().next().value!);
    return block;
  };
  return {
    name,
    size,
    async read(offset, length, into) {
      checkRange(source, offset, length);
      const start = offset - (offset % BLOCK);
      if (length > SMALL || offset + length > start + BLOCK) return source.read(offset, length, into);
      const block = await blockAt(start);
      const bytes = into?.subarray(0, length) ?? new Uint8Array(length);
      bytes.set(block.subarray(offset - start, offset - start + length));
      return bytes;
    },
    async close() {
      blocks.clear();
      await source.close?.();
    },
  };
}
