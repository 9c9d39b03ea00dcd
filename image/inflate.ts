/** Zlib streams, inflated by the host piece by piece, so that what a stream claims is never waited for or kept beyond what is asked for. (RFC 1950) */
import { joinBytes } from './bytes.ts';

/** Bytes that are given to the host at once. */
const PIECE = 65_536;

/**
 * Inflates a stream and hands its bytes to `take`, which returns false when it has enough. Says whether it had enough, or the stream ended or broke
 * off before. Bytes behind the stream's end are passed over.
 */
export async function inflate(stream: Uint8Array, take: (bytes: Uint8Array) => boolean): Promise<Inflation['outcome']> {
  let taken = 0;
  const first = await inflateFrom(stream, stream.length, (bytes) => {
    taken += bytes.length;
    return take(bytes);
  });
  if (first.outcome !== 'damage') return first.outcome;
  // Browsers refuse bytes behind the end, and drop with them what the same piece had given. So the pieces around them go in byte by byte.
  let skip = taken;
  const second = await inflateFrom(stream, first.given - 3 * PIECE, (bytes) => {
    const fresh = bytes.subarray(Math.min(skip, bytes.length));
    skip -= bytes.length - fresh.length;
    return fresh.length === 0 || take(fresh);
  });
  return second.outcome;
}

/** The bytes that a stream gives, up to `limit`; whatever came before it broke off. */
export async function inflated(stream: Uint8Array, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let size = 0;
  await inflate(stream, (bytes) => {
    parts.push(bytes.subarray(0, limit - size));
    size += bytes.length;
    return size < limit;
  });
  return joinBytes(...parts);
}

interface Inflation {
  outcome: 'enough' | 'end' | 'damage';
  /** bytes of the stream that the host has taken */
  given: number;
}

/** One try; from offset `single` on, a byte at a time. */
async function inflateFrom(stream: Uint8Array, single: number, take: (bytes: Uint8Array) => boolean): Promise<Inflation> {
  const result: Inflation = { outcome: 'end', given: 0 };
  const source = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      pull(controller) {
        if (result.given >= stream.length) return controller.close();
        const size = result.given >= single ? 1 : PIECE;
        controller.enqueue(Uint8Array.from(stream.subarray(result.given, result.given + size)));
        result.given = Math.min(stream.length, result.given + size);
      },
    },
    { highWaterMark: 0 },
  );
  const reader = source.pipeThrough(new DecompressionStream('deflate')).getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      if (take(piece.value)) continue;
      result.outcome = 'enough';
      break;
    }
  } catch {
    result.outcome = 'damage';
  } finally {
    reader.cancel().catch(() => {});
  }
  return result;
}

/** Zlib's checksum of bytes, going on from an earlier one. */
export function adler32(bytes: Uint8Array, from = 1): number {
  let [a, b] = [from & 0xffff, from >>> 16];
  for (let at = 0; at < bytes.length; ) {
    for (const end = Math.min(at + 3800, bytes.length); at < end; at++) {
      a += bytes[at];
      b += a;
    }
    a %= 65521;
    b %= 65521;
  }
  return ((b << 16) | a) >>> 0;
}
