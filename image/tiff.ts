/**
 * TIFF files to images and back. Sizes are checked before anything is allocated, and blocks of pixels are unpacked and painted one by one, so that
 * memory is that of the picture and one block. (TIFF 6.0; Adobe Photoshop TIFF Technical Notes)
 */
import { UserError } from '../core/errors.ts';
import type { FileContents } from './file-contents.ts';
import { checkSize, type DeepImage, type Image, isWithin, type SizeLimits } from './image.ts';
import { sizedExif } from './metadata.ts';
import { ADOBE_DEFLATE, DEFLATE, LZW, PACK_BITS, UNCOMPRESSED, unpacked } from './tiff-blocks.ts';
import { EXIF_LIST, GPS_LIST, LONG, numberTag, SHORT, TiffFile, type TiffList, type TiffTag, tiffBytes, UNDEFINED } from './tiff-tags.ts';

const [SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER] = [254, 256, 257, 258, 259, 262, 266];
const [STRIPS, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANAR, PREDICTOR, PALETTE] = [273, 277, 278, 279, 284, 317, 320];
const [TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, FORMAT, PROFILE] = [322, 323, 324, 325, 338, 339, 34675];
const ORIENTATION = 274;
/** What a file says of its picture beside the pixels: description, camera, resolution, software, dates, people. */
const TOLD = [270, 271, 272, ORIENTATION, 282, 283, 296, 305, 306, 315, 33432];

const [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTED] = [0, 1, 2, 3];
const SPACES: Record<number, string> = {
  4: 'a mask',
  5: 'CMYK',
  6: 'YCbCr',
  8: 'Lab',
  9: 'Lab',
  10: 'Lab',
  32803: 'raw sensor data',
  34892: 'raw data',
};
const COMPRESSIONS: Record<number, string> = {
  2: 'CCITT',
  3: 'CCITT',
  4: 'CCITT',
  6: 'JPEG',
  7: 'JPEG',
  34712: 'JPEG 2000',
  34887: 'LERC',
  34925: 'LZMA',
  50000: 'Zstandard',
  50001: 'WebP',
  50002: 'JPEG XL',
};
const ASSOCIATED = 1;
const UNASSOCIATED = 2;
/** Pages that are counted at most. */
const MOST_PAGES = 1000;

/** How the pixels lie in the file. */
interface Layout {
  width: number;
  height: number;
  bits: number;
  photometric: number;
  /** samples of a pixel, and which of them is alpha, if any */
  samples: number;
  alpha: number | null;
  /** whether colours are stored times alpha */
  isAssociated: boolean;
  /** each sample in blocks of its own */
  isPlanar: boolean;
  predictor: number;
  compression: number;
  block: { width: number; height: number; offsets: number[]; lengths: number[] };
  /** (3, colours) of 16 bits */
  palette: number[];
}

/**
 * The first page of a TIFF of 1, 2, 4, 8 or 16 bits: grey, palette or RGB, in strips or tiles, uncompressed, LZW, Deflate or PackBits. 16 bits are kept in
 * `deep`. UserError for other kinds and for damage, and, before anything is allocated, for sizes above the limits.
 */
export async function readTiff(bytes: Uint8Array, name: string, limits: SizeLimits): Promise<FileContents> {
  const file = new TiffFile(bytes);
  const tags = file.tags(file.first);
  const layout = readLayout(file, tags, name, limits);
  const image: Image = { width: layout.width, height: layout.height, data: new Uint8Array(layout.width * layout.height * 3) };
  if (layout.bits === 16) image.deep = new Uint16Array(image.data.length);
  if (layout.alpha !== null) image.alpha = new Uint8Array(layout.width * layout.height);
  await readPixels(file, layout, image, name);
  if (image.alpha && layout.isAssociated) divideByAlpha(image);
  if (image.alpha?.every((value) => value === 255)) delete image.alpha;
  const pages = countPages(file);
  return {
    image,
    icc: tags.get(PROFILE)?.bytes,
    exif: [exifOf(file, tags)],
    grey: layout.photometric <= BLACK_IS_ZERO,
    notes: pages > 1 ? [`the TIFF file has ${pages} pages; the first was read.`] : [],
  };
}

function readLayout(file: TiffFile, tags: Map<number, TiffTag>, name: string, limits: SizeLimits): Layout {
  const numbers = (tag: number) => file.numbers(tags.get(tag));
  const number = (tag: number, otherwise: number) => numbers(tag)[0] ?? otherwise;
  const refuse = (what: string) =>
    new UserError(`${name}: TIFF files ${what} are not read; save it as TIFF of 8 or 16 bits, RGB, with LZW or Deflate.`);
  const [width, height] = [number(WIDTH, 0), number(HEIGHT, 0)];
  checkSize(width, height, name, limits);
  const compression = number(COMPRESSION, UNCOMPRESSED);
  if (![UNCOMPRESSED, LZW, ADOBE_DEFLATE, DEFLATE, PACK_BITS].includes(compression))
    throw refuse(`with ${COMPRESSIONS[compression] ?? 'this'} compression (${compression})`);
  const photometric = number(PHOTOMETRIC, BLACK_IS_ZERO);
  if (photometric > PALETTED) throw refuse(`of ${SPACES[photometric] ?? `colour space ${photometric}`}`);
  const bits = number(BITS, 1);
  if (numbers(FORMAT).some((each) => each !== 1 && each !== 4)) throw refuse('of signed or floating-point numbers');
  const possible = photometric === RGB ? [8, 16] : [1, 2, 4, 8, 16];
  if (!possible.includes(bits) || numbers(BITS).some((each) => each !== bits))
    throw refuse(`of ${numbers(BITS).slice(0, 4).join(', ')} bits`);
  if (number(FILL_ORDER, 1) !== 1) throw refuse('with reversed bits');
  const colours = photometric === RGB ? 3 : 1;
  const samples = number(SAMPLES, 1);
  if (samples < colours || samples > colours + 8) throw refuse(`of ${samples} samples a pixel`);
  const extra = numbers(EXTRA).slice(0, samples - colours);
  const at = extra.findIndex((kind) => kind === ASSOCIATED || kind === UNASSOCIATED);
  const predictor = number(PREDICTOR, 1);
  if (predictor > 2 || (predictor === 2 && bits < 8)) throw refuse(`with predictor ${predictor}`);
  const isTiled = tags.has(TILES);
  const block = {
    width: isTiled ? number(TILE_WIDTH, 0) : width,
    height: isTiled ? number(TILE_HEIGHT, 0) : Math.min(height, number(STRIP_ROWS, height)),
    offsets: numbers(isTiled ? TILES : STRIPS),
    lengths: numbers(isTiled ? TILE_BYTES : STRIP_BYTES),
  };
  if (block.width < 1 || block.height < 1 || !isWithin(block.width, block.height)) throw damaged(name, 'its blocks have no possible size');
  return {
    width,
    height,
    bits,
    photometric,
    samples,
    alpha: at < 0 ? null : colours + at,
    isAssociated: extra[at] === ASSOCIATED,
    isPlanar: number(PLANAR, 1) === 2 && samples > 1,
    predictor,
    compression,
    block,
    palette: numbers(PALETTE),
  };
}

const damaged = (name: string, what: string) =>
  new UserError(`${name}: the TIFF file is damaged (${what}); get another copy or save it again.`);

async function readPixels(file: TiffFile, layout: Layout, image: Image, name: string): Promise<void> {
  const { width, height, bits, block, isPlanar, compression, predictor } = layout;
  const samples = isPlanar ? 1 : layout.samples;
  const [across, down] = [Math.ceil(width / block.width), Math.ceil(height / block.height)];
  const rowBytes = Math.ceil((block.width * samples * bits) / 8);
  const row = new Uint16Array(block.width * samples);
  const put = painter(layout, image);
  for (let plane = 0; plane < (isPlanar ? layout.samples : 1); plane++) {
    for (let index = 0; index < across * down; index++) {
      const at = plane * across * down + index;
      const [left, top] = [(index % across) * block.width, Math.floor(index / across) * block.height];
      const [columns, rows] = [Math.min(block.width, width - left), Math.min(block.height, height - top)];
      const offset = block.offsets[at] ?? Number.POSITIVE_INFINITY;
      const packed = file.bytes.subarray(
        offset,
        offset + (block.lengths[at] ?? (compression === UNCOMPRESSED ? rows * rowBytes : file.bytes.length)),
      );
      const bytes = (await unpacked(packed, compression, rows * rowBytes))!;
      if (bytes.length < rows * rowBytes) throw damaged(name, 'it holds fewer pixels than its header says');
      for (let y = 0; y < rows; y++) {
        readRow(bytes.subarray(y * rowBytes, (y + 1) * rowBytes), row, bits, file.little);
        if (predictor === 2)
          for (let i = samples; i < row.length; i++) row[i] = (row[i] + row[i - samples]) & (bits === 16 ? 0xffff : 0xff);
        put(row, columns, (top + y) * width + left, plane);
      }
    }
  }
}

function readRow(bytes: Uint8Array, row: Uint16Array, bits: number, little: boolean): void {
  if (bits === 8) row.set(bytes);
  else if (bits === 16)
    for (let i = 0; i < row.length; i++) row[i] = little ? bytes[2 * i] | (bytes[2 * i + 1] << 8) : (bytes[2 * i] << 8) | bytes[2 * i + 1];
  else for (let i = 0; i < row.length; i++) row[i] = (bytes[(i * bits) >> 3] >> (8 - bits - ((i * bits) & 7))) & ((1 << bits) - 1);
}

/** Puts rows of samples into the image: those of whole pixels, or those of one plane. */
function painter(layout: Layout, { data, deep, alpha }: Image): (row: Uint16Array, columns: number, first: number, plane: number) => void {
  const { bits, photometric, samples, isPlanar, palette } = layout;
  const most = 2 ** bits - 1;
  const levels = Uint8Array.from({ length: most + 1 }, (_, value) => Math.round((value * 255) / most));
  // Old programs stored palettes of 8 bits.
  const isShort = palette.every((value) => value < 256);
  const isGrey = photometric <= BLACK_IS_ZERO;
  const stored = isPlanar ? 1 : samples;
  const putSample = (pixel: number, sample: number, value: number) => {
    if (sample === layout.alpha) alpha![pixel] = levels[value];
    else if (isGrey && sample === 0) {
      const light = photometric === WHITE_IS_ZERO ? most - value : value;
      data.fill(levels[light], 3 * pixel, 3 * pixel + 3);
      deep?.fill(light, 3 * pixel, 3 * pixel + 3);
    } else if (photometric === PALETTED && sample === 0) {
      for (let c = 0; c < 3; c++) {
        const colour = palette[c * (most + 1) + value] ?? 0;
        data[3 * pixel + c] = isShort ? colour : Math.round(colour / 257);
      }
    } else if (photometric === RGB && sample < 3) {
      data[3 * pixel + sample] = levels[value];
      if (deep) deep[3 * pixel + sample] = value;
    }
  };
  return (row, columns, first, plane) => {
    for (let x = 0; x < columns; x++) {
      if (isPlanar) putSample(first + x, plane, row[x]);
      else for (let s = 0; s < stored; s++) putSample(first + x, s, row[x * stored + s]);
    }
  };
}

/** Colours that are stored times alpha, as they are. */
function divideByAlpha({ data, deep, alpha }: Image): void {
  for (let i = 0; i < alpha!.length; i++) {
    const share = alpha![i] / 255;
    for (let at = 3 * i; at < 3 * i + 3 && share > 0; at++) {
      data[at] = Math.min(255, Math.round(data[at] / share));
      if (deep) deep[at] = Math.min(65535, Math.round(deep[at] / share));
    }
  }
}

/** Pages that are no smaller versions of others. */
function countPages(file: TiffFile): number {
  const seen = new Set<number>();
  let pages = 0;
  for (let list = file.first; list > 0 && !seen.has(list) && seen.size < MOST_PAGES; list = file.after(list)) {
    seen.add(list);
    const tags = file.tags(list);
    if (tags.has(WIDTH) && ((file.numbers(tags.get(SUBFILE))[0] ?? 0) & 1) === 0) pages++;
  }
  return pages;
}

/** What the file says beside its pixels, as an EXIF block. */
function exifOf(file: TiffFile, tags: Map<number, TiffTag>): Uint8Array {
  let left = file.bytes.length; // tags may share their values, and a copy must not be longer than the file
  const kept = (list: Map<number, TiffTag>) => new Map([...list].filter(([, { bytes }]) => (left -= bytes.length + 12) > 0));
  const lists = [EXIF_LIST, GPS_LIST].flatMap((tag) => {
    const list = file.tags(file.numbers(tags.get(tag))[0] ?? 0);
    return list.size > 0 ? [[tag, kept(list)] as const] : [];
  });
  const told = kept(new Map([...tags].filter(([tag]) => TOLD.includes(tag))));
  return tiffBytes({ tags: told, lists: new Map(lists) }, file.little);
}

/** Rows of pixels that are packed together: some 256 kB. */
const STRIP = 2 ** 18;

/** Bytes of an RGB TIFF file of 8 or 16 bits, Deflate with differences, with the image's alpha and metadata. UserError for an empty image. */
export async function encodeTiff(image: Image | DeepImage): Promise<Uint8Array<ArrayBuffer>> {
  const { width, height, data, alpha, metadata: { icc, exif } = {} } = image;
  checkSize(width, height, 'encode');
  const [bits, samples] = [data instanceof Uint16Array ? 16 : 8, alpha ? 4 : 3];
  const told = exif && new TiffFile(sizedExif(exif, width, height));
  const little = told?.little ?? true;
  const rowBytes = (width * samples * bits) / 8;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP / rowBytes)));
  const strips: Uint8Array[] = [];
  for (let top = 0; top < height; top += rows) strips.push(await deflated(stripOf(image, top, Math.min(rows, height - top), little)));
  const offsets: number[] = [];
  for (let at = 8, i = 0; i < strips.length; at += strips[i++].length) offsets.push(at);
  const list: TiffList = { tags: new Map(), lists: new Map() };
  if (told) {
    const tags = told.tags(told.first);
    for (const [tag, value] of tags) if (TOLD.includes(tag)) list.tags.set(tag, value);
    for (const tag of [EXIF_LIST, GPS_LIST]) {
      const inner = told.tags(told.numbers(tags.get(tag))[0] ?? 0);
      if (inner.size > 0) list.lists.set(tag, inner);
    }
  }
  const put = (tag: number, type: number, ...values: number[]) => void list.tags.set(tag, numberTag(type, values, little));
  put(WIDTH, LONG, width);
  put(HEIGHT, LONG, height);
  put(BITS, SHORT, ...Array.from({ length: samples }, () => bits));
  put(COMPRESSION, SHORT, ADOBE_DEFLATE);
  put(PHOTOMETRIC, SHORT, RGB);
  put(STRIPS, LONG, ...offsets);
  put(SAMPLES, SHORT, samples);
  put(STRIP_ROWS, LONG, rows);
  put(STRIP_BYTES, LONG, ...strips.map((strip) => strip.length));
  put(PLANAR, SHORT, 1);
  put(PREDICTOR, SHORT, 2);
  if (alpha) put(EXTRA, SHORT, UNASSOCIATED);
  if (icc) list.tags.set(PROFILE, { type: UNDEFINED, count: icc.length, bytes: icc });
  return tiffBytes(list, little, strips);
}

/** Rows of pixels, each sample as its difference from the one of the pixel to its left. */
function stripOf({ width, data, alpha }: Image | DeepImage, top: number, rows: number, little: boolean): Uint8Array<ArrayBuffer> {
  const isDeep = data instanceof Uint16Array;
  const samples = alpha ? 4 : 3;
  const bytes = new Uint8Array(rows * width * samples * (isDeep ? 2 : 1));
  const view = new DataView(bytes.buffer);
  const value = (pixel: number, c: number) => (c < 3 ? data[3 * pixel + c] : alpha![pixel] * (isDeep ? 257 : 1));
  for (let y = 0, at = 0; y < rows; y++) {
    for (let x = 0, pixel = (top + y) * width; x < width; x++, pixel++) {
      for (let c = 0; c < samples; c++, at++) {
        const difference = value(pixel, c) - (x > 0 ? value(pixel - 1, c) : 0);
        if (isDeep) view.setUint16(2 * at, difference & 0xffff, little);
        else bytes[at] = difference;
      }
    }
  }
  return bytes;
}

async function deflated(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
