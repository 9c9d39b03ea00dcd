/** Reads plain files out of a tar archive (POSIX.1-1988 ustar: 512-byte headers, sizes in octal), enough to unpack a driver. */

export interface TarFile {
  /** Path in the archive, without a leading `./`. */
  name: string;
  /** Permission bits. */
  mode: number;
  bytes: Uint8Array;
}

/** The archive's plain files, in order. Throws Error on a damaged header. */
export function* tarFiles(archive: Uint8Array): Generator<TarFile> {
  const text = (offset: number, length: number) => new TextDecoder().decode(archive.subarray(offset, offset + length)).split('\0')[0];
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    if (!(size >= 0) || at + 512 + size > archive.length) throw new Error(`The tar archive is damaged at byte ${at}.`);
    const kind = text(at + 156, 1);
    const prefix = text(at + 345, 155);
    if (kind === '' || kind === '0') {
      yield {
        name: (prefix ? `${prefix}/${text(at, 100)}` : text(at, 100)).replace(/^\.\//, ''),
        mode: Number.parseInt(text(at + 100, 8), 8) & 0o777,
        bytes: archive.subarray(at + 512, at + 512 + size),
      };
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
}
