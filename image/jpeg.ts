/**
 * JPEG files to images. jpeg-js decodes the blocks; the header is read here first (sizes, kind, colours, EXIF), and the halved colour planes are
 * enlarged here with the triangle filter that libjpeg uses, for jpeg-js would repeat their pixels. (ITU T.81; JFIF 1.02; Adobe TN 5116)
 */
import jpeg from 'jpeg-js';
import { UserError } from '../core/errors.ts';
import { ascii, joinBytes } from './bytes.ts';
import { checkSize, type Image, type SizeLimits } from './image.ts';

interface JpegHeader {
  width: number;
  height: number;
  components: { id: number; h: number; v: number }[];
  /** offset of Adobe's colour transform byte: 0 none, 1 YCbCr, 2 YCCK */
  adobeTransformAt?: number;
  jfif: boolean;
  /** TIFF block of the first EXIF segment */
  exif?: Uint8Array;
  /** pieces of the ICC profile, by their numbers from 1 on */
  icc: Map<number, Uint8Array>;
  iccPieces: number;
}

/** How the segment begins that holds a piece of an ICC profile: then its number, from 1 on, and how many there are. */
export const ICC_PREFIX = 'ICC_PROFILE\0';
export const EXIF_PREFIX = 'Exif\0\0';

/** The segment by which a file says that four components are Adobe's CMYK; what other programs write without it is taken for the same. */
const ADOBE_CMYK = [0xff, 0xee, 0, 14, ...ascii('Adobe'), 0, 100, 0, 0, 0, 0, 0];

const CMYK_NOTE = 'its CMYK colours were converted without its colour profile and may be off.';

/** More scans than any encoder writes; a small file with thousands would keep the decoder busy for hours. */
const MAX_SCANS = 200;

/**
 * A baseline or progressive JPEG, grey or colour, as 8-bit RGB, not yet turned by its EXIF orientation. CMYK, as Adobe writes it (inverted, also
 * as YCCK), becomes (255 - C)(255 - K) / 255 and so on, to a level, with a note. UserError for damaged files, sizes above the limits, and
 * kinds that are not supported (12-bit, lossless, arithmetic). Also gives the file's ICC profile and EXIF block (TIFF), if any.
 */
export function readJpeg(
  bytes: Uint8Array,
  name: string,
  limits: SizeLimits,
): {
  image: Image;
  icc?: Uint8Array;
  exif?: Uint8Array;
} {
  const header = readHeader(bytes, name, limits);
  const { width, height, components } = header;
  const data = decodeComponents(bytes, header, name);
  if (components.length === 3 && isYCbCr(bytes, header)) {
    const [maxH, maxV] = largestSampling(components);
    for (let c = 0; c < 3; c++) smoothChannel(data, width, height, c, maxH / components[c].h, maxV / components[c].v);
    toRgb(data);
  }
  const note = components.length === 4 ? { note: CMYK_NOTE } : {};
  return { image: { width, height, data, ...note }, icc: joinProfile(header), exif: header.exif };
}

/** The ICC profile; undefined if a piece of it is missing. (ICC.1:2022, annex B.4) */
function joinProfile({ icc, iccPieces }: JpegHeader): Uint8Array | undefined {
  const pieces = Array.from({ length: iccPieces }, (_, i) => icc.get(i + 1));
  if (pieces.length === 0 || pieces.includes(undefined)) return undefined;
  return joinBytes(...(pieces as Uint8Array[]));
}

const largestSampling = (components: { h: number; v: number }[]): [maxH: number, maxV: number] => [
  Math.max(...components.map(({ h }) => h)),
  Math.max(...components.map(({ v }) => v)),
];

/** jpeg-js -> (height, width, 3) u8 of the components as stored; grey is repeated, CMYK converted. */
function decodeComponents(bytes: Uint8Array, header: JpegHeader, name: string): Uint8Array {
  const { width, height, components, adobeTransformAt } = header;
  let file = bytes;
  if (components.length === 4) {
    if (adobeTransformAt === undefined) file = joinBytes(bytes.subarray(0, 2), ADOBE_CMYK, bytes.subarray(2));
  } else if (adobeTransformAt !== undefined) {
    file = Uint8Array.from(bytes); // jpeg-js would let this marker overrule colorTransform
    file[adobeTransformAt] = 0;
  }
  const [maxH, maxV] = largestSampling(components);
  const blocks = components.reduce((sum, { h, v }) => sum + Math.ceil((width * h) / (8 * maxH)) * Math.ceil((height * v) / (8 * maxV)), 0);
  if (bytes.length * 8 < blocks) {
    // every block takes a bit at least; without this a few bytes could claim a size that takes seconds and gigabytes
    throw new UserError(
      `${name}: the JPEG file is damaged or cut off (${bytes.length} bytes for ${width}x${height} pixels); get another copy.`,
    );
  }
  const padded = (width + 128) * (height + 128) * components.length;
  try {
    const decoded = jpeg.decode(file, {
      useTArray: true,
      formatAsRGBA: false,
      colorTransform: false,
      maxResolutionInMP: (width * height + 1) / 1e6,
      maxMemoryUsageInMB: 64 + (padded * 8) / 2 ** 20,
    });
    if (decoded.width !== width || decoded.height !== height) throw new Error('two sizes');
    return decoded.data;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UserError(`${name}: the JPEG file is damaged or cut off (${why}); get another copy or save it anew.`);
  }
}

/** As libjpeg decides: JFIF is YCbCr, Adobe says so itself, otherwise components named R, G and B are RGB. */
function isYCbCr(bytes: Uint8Array, { components, jfif, adobeTransformAt }: JpegHeader): boolean {
  if (jfif) return true;
  if (adobeTransformAt !== undefined) return bytes[adobeTransformAt] !== 0;
  return components.map(({ id }) => String.fromCharCode(id)).join('') !== 'RGB';
}

/** Walks the markers: the frame's size and components, colour markers, EXIF; counts scans. Reads no pixels. */
function readHeader(bytes: Uint8Array, name: string, limits: SizeLimits): JpegHeader {
  const damaged = (what: string) => new UserError(`${name}: the JPEG file is damaged (${what}); get another copy or save it anew.`);
  const unsupported = (what: string) => new UserError(`${name}: ${what} is not supported; save it as an ordinary RGB JPEG or as PNG.`);
  const header: JpegHeader = { width: 0, height: 0, components: [], jfif: false, icc: new Map(), iccPieces: 0 };
  let scans = 0;
  for (let at = 2; ; ) {
    at = bytes.indexOf(0xff, at);
    if (at < 0 || at + 4 > bytes.length) break;
    const marker = bytes[at + 1];
    const standsAlone = marker === 0x00 || marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    if (marker === 0xff || standsAlone) {
      at += marker === 0xff ? 1 : 2;
      continue;
    }
    if (marker === 0xd9) break;
    const segment = bytes.subarray(at + 4, at + 2 + ((bytes[at + 2] << 8) | bytes[at + 3]));
    if (marker === 0xda) {
      if (header.components.length === 0) throw damaged('pixels before the frame header');
      if (++scans > MAX_SCANS) throw unsupported(`a JPEG with more than ${MAX_SCANS} scans`);
    } else if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      if (header.components.length > 0) throw damaged('two frame headers');
      if (marker > 0xc2) throw unsupported(marker < 0xc8 ? 'a lossless or hierarchical JPEG' : 'an arithmetic-coded JPEG');
      const count = segment[5];
      if (!(segment.length >= 6 + 3 * count)) throw damaged('short frame header');
      if (segment[0] !== 8) throw unsupported(`a JPEG of ${segment[0]} bits`);
      if (count !== 1 && count !== 3 && count !== 4) throw unsupported(`a JPEG of ${count} components`);
      [header.height, header.width] = [(segment[1] << 8) | segment[2], (segment[3] << 8) | segment[4]];
      checkSize(header.width, header.height, name, limits);
      for (let i = 0; i < count; i++) {
        const [id, sampling] = segment.subarray(6 + 3 * i);
        header.components.push({ id, h: sampling >> 4, v: sampling & 15 });
      }
      if (header.components.some(({ h, v }) => h < 1 || h > 4 || v < 1 || v > 4)) throw damaged('sampling factors');
    } else if (marker === 0xe0 && startsWith(segment, 'JFIF\0')) header.jfif = true;
    else if (marker === 0xe1 && startsWith(segment, EXIF_PREFIX)) header.exif ??= segment.subarray(EXIF_PREFIX.length);
    else if (marker === 0xe2 && startsWith(segment, ICC_PREFIX) && segment.length > ICC_PREFIX.length + 2) {
      const [index, count] = segment.subarray(ICC_PREFIX.length);
      header.icc.set(index, segment.subarray(ICC_PREFIX.length + 2));
      header.iccPieces = count;
    } else if (marker === 0xee && startsWith(segment, 'Adobe') && segment.length >= 12) header.adobeTransformAt = at + 4 + 11;
    at += 4 + segment.length;
  }
  if (header.components.length === 0) throw damaged('no frame header');
  return header;
}

const startsWith = (bytes: Uint8Array, text: string): boolean => [...text].every((letter, i) => bytes[i] === letter.charCodeAt(0));

/**
 * Replaces channel c of data (height, width, 3), enlarged by repeating `across` x `down` pixels, by its triangle-filtered enlargement: an output
 * is 3/4 of the stored sample it lies in and 1/4 of the one it is next to, along each halved axis. Other factors stay as they are.
 */
function smoothChannel(data: Uint8Array, width: number, height: number, c: number, across: number, down: number): void {
  if ((across !== 1 && across !== 2) || (down !== 1 && down !== 2) || across * down === 1) return;
  const [columns, rows] = [Math.ceil(width / across), Math.ceil(height / down)];
  if (across === 2 && columns <= 2) return;
  const stored = new Uint8Array(columns * rows);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) stored[y * columns + x] = data[(y * down * width + x * across) * 3 + c];
  }
  const mixed = new Int32Array(columns); // the row mix, times 4 if rows are halved
  for (let y = 0; y < height; y++) {
    const here = (y / down) | 0;
    const next = Math.min(Math.max(here + (y % 2 ? 1 : -1), 0), rows - 1);
    for (let x = 0; x < columns; x++)
      mixed[x] = down === 1 ? stored[y * columns + x] : 3 * stored[here * columns + x] + stored[next * columns + x];
    for (let x = 0, i = y * width * 3 + c; x < width; x++, i += 3) {
      if (across === 1) data[i] = (mixed[x] + (y % 2 ? 2 : 1)) >> 2;
      else {
        const own = mixed[x >> 1];
        const other = mixed[Math.min(Math.max((x >> 1) + (x % 2 ? 1 : -1), 0), columns - 1)];
        data[i] = down === 1 ? (3 * own + other + (x % 2 ? 2 : 1)) >> 2 : (3 * own + other + (x % 2 ? 7 : 8)) >> 4;
      }
    }
  }
}

/** YCbCr to RGB in place, data (pixels, 3); 16-bit fixed point, rounded. (JFIF 1.02, page 3) */
function toRgb(data: Uint8Array): void {
  const fixed = (x: number) => Math.round(x * 65536);
  const [redOfCr, greenOfCr, greenOfCb, blueOfCb] = [fixed(1.402), fixed(0.714136286), fixed(0.344136286), fixed(1.772)];
  const rgb = new Uint8ClampedArray(data.buffer, data.byteOffset, data.length); // its stores clip
  for (let i = 0; i < data.length; i += 3) {
    const y = data[i];
    const cb = data[i + 1] - 128;
    const cr = data[i + 2] - 128;
    rgb[i] = y + ((redOfCr * cr + 32768) >> 16);
    rgb[i + 1] = y + ((-greenOfCb * cb - greenOfCr * cr + 32768) >> 16);
    rgb[i + 2] = y + ((blueOfCb * cb + 32768) >> 16);
  }
}
