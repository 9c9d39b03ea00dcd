/**
 * A fingerprint of weights: equal for equal tensors, whatever files they lie in and in what order. Of up to a gigabyte every byte counts. Of more, which
 * would take longer to read than a restoration takes to begin, every tensor's name, dtype and shape, all of the small ones, and of each large one its
 * first and last bytes and a span in every mebibyte between: no fine-tune, and no download that was damaged in one of its pieces, passes for another.
 */
import type { TensorFile } from './tensor-file.ts';

/** Bytes of tensors up to which all of them are read. */
const WHOLE = 2 ** 30;
/** Bytes of a span of a larger file, and at most between the beginnings of two. */
const [SPAN, STRIDE] = [4096, 2 ** 20];
/** Bytes that are digested at once, and pieces that are read at once. */
const [PIECE, READS] = [2 ** 24, 16];

/** How fingerprints of this kind begin; those before had nothing in front, and saw less. */
const KIND = 'w2-';

/** True for fingerprints of one kind, which are equal for equal weights and different for others. */
export const comparable = (a: string, b: string): boolean => a.startsWith(KIND) === b.startsWith(KIND);

/** `w2-` and 64 hexadecimal digits. Throws UserError where the file cannot be read. */
export async function fingerprint(
  file: Pick<TensorFile, 'names' | 'info' | 'bytes'>,
  { whole = WHOLE }: { whole?: number } = {},
): Promise<string> {
  const names = file.names().sort();
  const sizeOf = (name: string) => file.info(name).end - file.info(name).begin;
  const isWhole = names.reduce((sum, name) => sum + sizeOf(name), 0) <= whole;
  const index = names.map((name) => JSON.stringify([name, file.info(name).dtype, file.info(name).shape])).join('\n');
  const digests = [await sha256([new TextEncoder().encode(index)])];
  for await (const bytes of inTurn(
    names.flatMap((name) => piecesOf(name, sizeOf(name), isWhole)),
    (piece) => file.bytes(...piece),
  ))
    digests.push(await sha256(bytes));
  const all = await sha256(digests);
  return KIND + Array.from(all, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

type Piece = [name: string, offset: number, length: number];

function piecesOf(name: string, size: number, isWhole: boolean): Piece[] {
  const pieces: Piece[] = [];
  if (isWhole || size <= 2 * SPAN) {
    for (let at = 0; at < size; at += PIECE) pieces.push([name, at, Math.min(PIECE, size - at)]);
    return pieces;
  }
  const steps = Math.ceil((size - SPAN) / STRIDE);
  for (let i = 0; i <= steps; i++) pieces.push([name, Math.floor((i * (size - SPAN)) / steps), SPAN]);
  return pieces;
}

/** What `read` gives for each, in order, some of them under way at once; small ones together. */
async function* inTurn(
  pieces: readonly Piece[],
  read: (piece: Piece) => Promise<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Uint8Array<ArrayBuffer>[]> {
  const under: Promise<Uint8Array<ArrayBuffer>>[] = [];
  let [together, size]: [Uint8Array<ArrayBuffer>[], number] = [[], 0];
  let next = 0;
  let ahead = 0;
  try {
    while (next < pieces.length || under.length > 0) {
      // As many at once as PIECE holds, and one in any case.
      while (next < pieces.length && under.length < READS && (under.length === 0 || ahead + pieces[next][2] <= PIECE)) {
        ahead += pieces[next][2];
        const reading = read(pieces[next++]);
        reading.catch(() => {}); // met again when its turn comes
        under.push(reading);
      }
      const bytes = await under.shift()!;
      ahead -= bytes.length;
      if (size > 0 && size + bytes.length > PIECE) {
        yield together;
        [together, size] = [[], 0];
      }
      together.push(bytes);
      size += bytes.length;
    }
    if (size > 0) yield together;
  } finally {
    await Promise.allSettled(under);
  }
}

async function sha256(parts: readonly Uint8Array<ArrayBuffer>[]): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
}
