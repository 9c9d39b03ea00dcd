/** Seeded damage to image files, shared by the fuzz test and scripts/fuzz-image.ts. */
import { UserError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import { decode } from '../../image/decode.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import { powerCurve, rgbProfile, SRGB_COLOURS } from '../../image/icc.ts';
import { crc32 } from '../../image/png-chunks.ts';
import { encodeWebp } from '../../image/webp.ts';
import { ascii, exifBlock, joinBytes, makePng, withSegment } from '../image/make-files.ts';
import { fixture } from '../support/fixtures.ts';

/** Milliseconds within which a file of this size (about 2 kB) must be decoded or refused; a machine under load included. */
export const TIME_LIMIT = 5000;

export interface FuzzResult {
  decoded: number;
  refused: number;
  /** slowest file, milliseconds */
  slowest: number;
  /** what neither decoded nor was refused with a UserError in time: the seed repeats it */
  failures: string[];
}

/** PNGs, JPEGs and WebPs of several kinds. */
export async function seedFiles(): Promise<Uint8Array[]> {
  const [width, height] = [23, 17];
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => 128 + 100 * Math.sin(i / 40));
  const alpha = Uint8Array.from({ length: width * height }, (_, i) => i & 255);
  const interlaced = [0, 1, 0, 2, 0, 3, 4];
  const palette = { type: 'PLTE', data: Uint8Array.from({ length: 12 }, (_, i) => 20 * i) };
  const icc = rgbProfile(SRGB_COLOURS, powerCurve(1.8));
  const exif = [...ascii('Exif\0\0'), ...exifBlock(6, true)];
  return [
    encodePng({ width, height, data }),
    encodePng({ width, height, data, alpha }, { text: { Software: 'fuzz' } }),
    makePng({ width: 2, height: 2, depth: 8, color: 0, interlaced: true, rows: interlaced }),
    makePng({ width: 3, height: 2, depth: 2, color: 3, chunks: [palette], rows: [0, 0b10010000, 0, 0b01101100] }),
    makePng({ width: 2, height: 2, depth: 16, color: 2, rows: Array.from({ length: 26 }, (_, i) => (i % 13 ? 9 * i : 1)) }),
    encodeJpeg({ width, height, data }, 75),
    withSegment(encodeJpeg({ width, height, data }, 30), 0xe1, exif),
    await fixture('image/chroma-420.jpg'),
    await fixture('image/jpeg/progressive-restart-420.jpg'),
    await fixture('image/jpeg/cmyk-progressive.jpg'),
    encodePng({ width, height, data, metadata: { icc, exif: exifBlock(6, false) } }),
    await encodeWebp({ width, height, data, alpha, metadata: { icc, exif: exifBlock(3, true) } }, 60),
  ];
}

/** Mutates and decodes `count` files. The same seed gives the same files everywhere. */
export async function fuzzImages(count: number, seed: number): Promise<FuzzResult> {
  const files = await seedFiles();
  const result: FuzzResult = { decoded: 0, refused: 0, slowest: 0, failures: [] };
  for (let i = 0; i < count; i++) {
    const file = mutate(files[i % files.length], new TorchRandom(seed + i));
    const start = performance.now();
    try {
      const image = await withinLimit(decode(file, 'fuzz'));
      if (image.data.length !== image.width * image.height * 3) throw new Error('the image has another size than it says');
      result.decoded++;
    } catch (error) {
      if (error instanceof UserError) result.refused++;
      else result.failures.push(`seed ${seed + i}, file ${i % files.length}: ${error}`);
    }
    const time = performance.now() - start;
    result.slowest = Math.max(result.slowest, time);
    if (time > TIME_LIMIT) result.failures.push(`seed ${seed + i}, file ${i % files.length}: ${time.toFixed(0)} ms`);
  }
  return result;
}

/** Rejects when a promise has not settled within the limit. */
async function withinLimit<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('it never settled')), TIME_LIMIT);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** One to four damages. Half of the PNGs get their checksums mended, so that the damage is not caught by them. */
function mutate(original: Uint8Array, random: TorchRandom): Uint8Array {
  const below = (n: number) => random.uint32() % n;
  let file = original.slice();
  const isPng = file[0] === 0x89;
  for (let times = 1 + below(4); times > 0; times--) {
    const at = below(file.length);
    switch (below(8)) {
      case 0: // flip a bit
        file[at] ^= 1 << below(8);
        break;
      case 1: // another byte
        file[at] = below(256);
        break;
      case 2: // cut off
        file = file.slice(0, at);
        break;
      case 3: // lose a stretch
        file = joinBytes(file.subarray(0, at), file.subarray(at + 1 + below(40)));
        break;
      case 4: // repeat a stretch
        file = joinBytes(file.subarray(0, at), file.subarray(Math.max(0, at - below(40))));
        break;
      case 5: // an extreme byte
        file[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)];
        break;
      case 6: // a length, size or sampling factor in the first part of the file
        file[below(Math.min(file.length, 200))] = below(256);
        break;
      default: // a JPEG marker or a PNG chunk length
        if (isPng) damageLength(file, below);
        else file.set([0xff, 0xc0 + below(64)].slice(0, file.length - at), at);
    }
    if (file.length === 0) return file;
  }
  return isPng && below(2) ? mendChecksums(file) : file;
}

/** Changes the length of a chunk: the one that begins at a random place among those that can be found. */
function damageLength(file: Uint8Array, below: (n: number) => number): void {
  const view = new DataView(file.buffer);
  const starts: number[] = [];
  for (let at = 8; at + 12 <= file.length; at += 12 + view.getUint32(at)) starts.push(at);
  if (starts.length === 0) return;
  const at = starts[below(starts.length)];
  view.setUint32(at, [0, 1, view.getUint32(at) + 1, below(4096), 0x7fffffff, 0xffffffff][below(6)]);
}

/** Rewrites every checksum that can be found. */
function mendChecksums(file: Uint8Array): Uint8Array {
  const view = new DataView(file.buffer);
  for (let at = 8; at + 12 <= file.length; ) {
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > file.length) break;
    view.setUint32(end, crc32(file.subarray(at + 4, end)));
    at = end + 4;
  }
  return file;
}
