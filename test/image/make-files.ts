/** Small image files for tests: PNGs of any kind from raw rows, and JPEGs with an EXIF orientation. No library, so that odd and broken ones can be made. */
import { ascii, joinBytes } from '../../image/bytes.ts';
import { PNG_SIGNATURE, type PngChunk, writeChunk } from '../../image/png-chunks.ts';

export interface RawPng {
  width: number;
  height: number;
  depth: number;
  /** 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha */
  color: number;
  /** rows of packed samples, each after its filter byte; of all passes where interlaced */
  rows: ArrayLike<number>;
  interlaced?: boolean;
  /** chunks between IHDR and IDAT */
  chunks?: PngChunk[];
}

export function makePng({ width, height, depth, color, rows, interlaced = false, chunks = [] }: RawPng): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([depth, color, 0, 0, interlaced ? 1 : 0], 8);
  const all = [
    { type: 'IHDR', data: header },
    ...chunks,
    { type: 'IDAT', data: storeZlib(rows) },
    { type: 'IEND', data: new Uint8Array() },
  ];
  return joinBytes(PNG_SIGNATURE, ...all.map(writeChunk));
}

/** A zlib stream of stored blocks. */
function storeZlib(data: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const bytes = Uint8Array.from(data);
  const blocks: ArrayLike<number>[] = [[0x78, 0x01]];
  for (let at = 0; ; at += 65535) {
    const block = bytes.subarray(at, at + 65535);
    const n = block.length;
    const last = at + n >= bytes.length;
    blocks.push([last ? 1 : 0, n & 255, n >> 8, ~n & 255, (~n >> 8) & 255], block);
    if (last) break;
  }
  let [a, b] = [1, 0];
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return joinBytes(...blocks, [b >> 8, b & 255, a >> 8, a & 255]);
}

/** An EXIF block (TIFF) with the orientation as its one tag. */
export function exifBlock(orientation: number, bigEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(26);
  const view = new DataView(bytes.buffer);
  bytes.set(bigEndian ? [0x4d, 0x4d] : [0x49, 0x49]);
  view.setUint16(2, 42, !bigEndian);
  view.setUint32(4, 8, !bigEndian); // offset of the tags
  view.setUint16(8, 1, !bigEndian); // one tag
  view.setUint16(10, 0x0112, !bigEndian);
  view.setUint16(12, 3, !bigEndian); // a 16-bit number
  view.setUint32(14, 1, !bigEndian);
  view.setUint16(18, orientation, !bigEndian);
  return bytes;
}

/** The JPEG with a segment put in right after its start. */
export function withSegment(jpeg: Uint8Array, marker: number, data: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const length = data.length + 2;
  return joinBytes(jpeg.subarray(0, 2), [0xff, marker, length >> 8, length & 255], data, jpeg.subarray(2));
}

/**
 * A baseline JPEG of four components, a row of blocks of 8 x 8 pixels with one colour each, as the file stores it. `adobe` is the transform byte
 * of Adobe's segment (0 CMYK, 2 YCCK), null for a file without it. Only what stands still in a block is coded. (ITU T.81, annex F)
 */
export function makeCmykJpeg(blocks: number[][], adobe: number | null): Uint8Array<ArrayBuffer> {
  const marker = (code: number, ...data: number[]) => [0xff, code, 0, data.length + 2, ...data];
  let bits = '';
  blocks.forEach((colour, i) => {
    for (const [c, level] of colour.entries()) {
      const change = level - (i > 0 ? blocks[i - 1][c] : 128); // the quantisation table holds eights, so a coefficient is a level
      const size = change === 0 ? 0 : Math.floor(Math.log2(Math.abs(change))) + 1;
      const value = change < 0 ? change + 2 ** size - 1 : change;
      bits += `${size.toString(2).padStart(4, '0')}${size ? value.toString(2).padStart(size, '0') : ''}0`;
    }
  });
  const components = [1, 2, 3, 4];
  return joinBytes(
    [0xff, 0xd8],
    adobe === null ? [] : marker(0xee, ...ascii('Adobe'), 0, 100, 0, 0, 0, 0, adobe),
    marker(0xdb, 0, ...new Array<number>(64).fill(8)),
    marker(0xc0, 8, 0, 8, (8 * blocks.length) >> 8, (8 * blocks.length) & 255, 4, ...components.flatMap((id) => [id, 0x11, 0])),
    marker(0xc4, 0x00, 0, 0, 0, 12, ...new Array<number>(12).fill(0), ...Array.from({ length: 12 }, (_, size) => size)),
    marker(0xc4, 0x10, 1, ...new Array<number>(15).fill(0), 0),
    marker(0xda, 4, ...components.flatMap((id) => [id, 0]), 0, 63, 0),
    scanBytes(bits),
    [0xff, 0xd9],
  );
}

/** A JPEG scan's bits, written with 0 and 1, as bytes: ones at the end, and a 0 after every FF. (ITU T.81, F.1.2.3) */
export function scanBytes(bits: string): number[] {
  return (bits.match(/.{1,8}/g) ?? []).flatMap((byte) => {
    const value = Number.parseInt(byte.padEnd(8, '1'), 2);
    return value === 0xff ? [value, 0] : [value];
  });
}

export { ascii, joinBytes };
