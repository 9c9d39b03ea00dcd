/** The blocks of pixels in a TIFF file, unpacked no further than they may reach, whatever they claim. (TIFF 6.0, sections 9, 13, 14; Adobe's supplements) */
import { inflated } from './inflate.ts';

export const [UNCOMPRESSED, LZW, ADOBE_DEFLATE, DEFLATE, PACK_BITS] = [1, 5, 8, 32946, 32773];

/** The block's bytes, `size` at most; fewer where it is cut off or damaged. Undefined for other compressions. */
export async function unpacked(packed: Uint8Array, compression: number, size: number): Promise<Uint8Array | undefined> {
  switch (compression) {
    case UNCOMPRESSED:
      return packed.subarray(0, size);
    case LZW:
      return fromLzw(packed, size);
    case ADOBE_DEFLATE:
    case DEFLATE:
      return inflated(packed, size);
    case PACK_BITS:
      return fromPackBits(packed, size);
  }
  return undefined;
}

const [CLEAR, END] = [256, 257];

/** Codes of 9 to 12 bits, the highest bit first; a width is left one code before it is full. (section 13) */
function fromLzw(packed: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  /** a string is an earlier stretch of the output: where it begins, and how long it is */
  const [starts, lengths] = [new Int32Array(4096), new Int32Array(4096)];
  let filled = 0;
  let next = END + 1;
  let width = 9;
  let before = -1;
  let bits = 0;
  let held = 0;
  for (let at = 0; filled < size; ) {
    while (held < width && at < packed.length) {
      bits = ((bits << 8) | packed[at++]) & 0xffffff;
      held += 8;
    }
    if (held < width) break;
    const code = (bits >> (held - width)) & ((1 << width) - 1);
    held -= width;
    if (code === END) break;
    if (code === CLEAR) {
      [next, width, before] = [END + 1, 9, -1];
      continue;
    }
    if (code >= next && !(code === next && before >= 0)) break;
    const start = filled;
    if (code < CLEAR) out[filled++] = code;
    else {
      // the newest string is the one before it and its own first byte, which is being written
      const [from, length] = code === next ? [before, start - before + 1] : [starts[code], lengths[code]];
      for (let i = 0; i < length && filled < size; i++) out[filled++] = out[from + i];
    }
    if (before >= 0 && next < 4096) {
      starts[next] = before;
      lengths[next] = start - before + 1;
      next++;
      if (next === (1 << width) - 1 && width < 12) width++;
    }
    before = start;
  }
  return out.subarray(0, filled);
}

function fromPackBits(packed: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  let filled = 0;
  for (let at = 0; at < packed.length && filled < size; ) {
    const sign = packed[at++];
    if (sign === 128) continue;
    if (sign < 128) {
      const part = packed.subarray(at, at + Math.min(sign + 1, size - filled));
      out.set(part, filled);
      filled += part.length;
      at += sign + 1;
    } else if (at < packed.length) {
      const end = Math.min(size, filled + 257 - sign);
      out.fill(packed[at++], filled, end);
      filled = end;
    }
  }
  return out.subarray(0, filled);
}
