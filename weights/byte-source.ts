/** Byte sources: random access to a file wherever it lives (memory, a Blob picked in a browser, a disk, an HTTP range), without reading it whole. */
import { UserError } from '../core/errors.ts';

export interface ByteSource {
  /** Name for messages: a file name or a URL. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Bytes [offset, offset + length). They may lie in `into`, which has room for them, where the source can spare a fresh array; without it they
   * are fresh, and the caller may keep and change them.
   * @throws UserError if the range is not inside the source.
   */
  read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  close?(): Promise<void>;
}

/** @throws UserError unless 0 <= offset, 0 <= length and offset + length <= source.size. */
export function checkRange(source: { name: string; size: number }, offset: number, length: number): void {
  const end = offset + length;
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(end) && offset >= 0 && length >= 0 && end <= source.size) return;
  throw new UserError(
    `${source.name}: bytes ${offset} to ${end} were asked for, but the file has ${source.size}. It is shorter than its own index says, so the copy is probably incomplete: copy or download it again.`,
  );
}

/** A source over bytes in memory. */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  const source = {
    name,
    size: bytes.byteLength,
    async read(offset: number, length: number) {
      checkRange(source, offset, length);
      return new Uint8Array(bytes.subarray(offset, offset + length));
    },
  };
  return source;
}

/** A source over a Blob or File, which stays where it is: only the ranges asked for are read. */
export function blobSource(name: string, blob: Blob): ByteSource {
  const source = {
    name,
    size: blob.size,
    async read(offset: number, length: number) {
      checkRange(source, offset, length);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
  };
  return source;
}
