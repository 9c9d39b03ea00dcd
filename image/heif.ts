/**
 * AVIF and HEIC files to images: the container is read here, the pixels by libavif (the optional package @jsquash/avif) and libheif (libheif-js), both
 * WebAssembly. (ISO/IEC 23008-12; AV1 Image File Format)
 */
import type { FileContents } from './file-contents.ts';
import { checkSize, type Image, type SizeLimits } from './image.ts';
import { type Box, BoxReader, damagedHeif, type Heif, readHeif } from './isobmff.ts';
import { orient } from './orientation.ts';
import { readColours } from './png-metadata.ts';
import { Codec, initial, installed } from './wasm-codec.ts';

interface Decoded {
  width: number;
  height: number;
  data: Uint8ClampedArray | Uint16Array;
}
type AvifDecoder = (bytes: ArrayBuffer, options: { bitDepth: 8 | 16 }) => Promise<Decoded | null>;

interface HeicImage {
  get_width(): number;
  get_height(): number;
  is_primary(): boolean;
  display(into: { data: Uint8ClampedArray; width: number; height: number }, done: (filled: object | null) => void): void;
  free(): void;
}
interface HeicDecoder {
  decode(bytes: Uint8Array): HeicImage[];
}

const avifDecoder = new Codec(async () => {
  const { default: run, init } = await installed(() => import('@jsquash/avif/decode.js'), 'AVIF', '@jsquash/avif');
  return { run: run as AvifDecoder, renew: await initial(init, '@jsquash/avif/codec/dec/avif_dec.wasm') };
});

const heicDecoder = new Codec(async () => {
  // @ts-expect-error: the package has no types of this file
  const { default: make } = await installed(() => import('libheif-js/libheif-wasm/libheif-bundle.mjs'), 'HEIC', 'libheif-js');
  let instance = make();
  return {
    run: () => new instance.HeifDecoder() as HeicDecoder,
    renew: async () => {
      instance = make();
    },
  };
});

/**
 * A still AVIF or HEIC file: 8-bit RGB with alpha where a pixel is not opaque, upright; of AVIF all 16 bits are kept in `deep` where the file has more than
 * 8. UserError for damage, for sizes above the limits before a pixel is decoded, and where the decoder is not installed.
 */
export async function readAvifOrHeic(bytes: Uint8Array, name: string, limits: SizeLimits): Promise<FileContents> {
  const heif = readHeif(bytes, name);
  const stored = storedSize(heif, bytes, name);
  checkSize(stored.width, stored.height, name, limits);
  const isAvif = heif.items.some(({ type }) => type === 'av01');
  const decoded = isAvif
    ? await decodeAvif(
        bytes,
        stored.width * stored.height,
        heif.all.some((box) => box.type === 'av1C' && (bytes[box.start + 2] & 0x40) !== 0),
      )
    : await decodeHeic(bytes, stored.width * stored.height);
  if (!decoded || decoded.width * decoded.height > 2 * stored.width * stored.height) throw damagedHeif(name);
  const read = imageOf(decoded);
  // libheif turns pictures as the file says; libavif leaves that to others
  const image = isAvif ? turned(read, heif.properties, bytes, name) : read;
  const brand = String.fromCharCode(...bytes.subarray(8, 12));
  const isAnimated = brand === 'avis' || brand === 'hevc' || brand === 'msf1';
  const colours = await coloursOf(heif.properties, bytes, name);
  return {
    image,
    ...colours,
    exif: exifBlocks(heif, bytes),
    isUpright: true,
    grey: false,
    notes: [...(isAnimated ? ['the file is a sequence of pictures; the first was read.'] : []), ...colours.notes],
  };
}

function storedSize({ properties }: Heif, bytes: Uint8Array, name: string): { width: number; height: number } {
  const box = properties.find(({ type }) => type === 'ispe');
  if (!box) throw damagedHeif(name);
  const reader = new BoxReader(bytes, box, name);
  reader.number(4);
  return { width: reader.number(4), height: reader.number(4) };
}

async function decodeAvif(bytes: Uint8Array, pixels: number, isDeep: boolean): Promise<Decoded | null> {
  const decode = await avifDecoder.for(pixels);
  return decode(Uint8Array.from(bytes).buffer, { bitDepth: isDeep ? 16 : 8 }).catch(() => null);
}

async function decodeHeic(bytes: Uint8Array, pixels: number): Promise<Decoded | null> {
  const decoder = (await heicDecoder.for(pixels))();
  const images = decoder.decode(bytes);
  try {
    const image = images.find((each) => each.is_primary()) ?? images[0];
    if (!image) return null;
    const [width, height] = [image.get_width(), image.get_height()];
    const decoded = { width, height, data: new Uint8ClampedArray(width * height * 4) };
    return await new Promise<Decoded | null>((resolve) => image.display(decoded, (filled) => resolve(filled && decoded)));
  } finally {
    for (const image of images) image.free();
  }
}

function imageOf({ width, height, data: rgba }: Decoded): Image {
  const image: Image = { width, height, data: new Uint8Array(width * height * 3) };
  const isDeep = rgba instanceof Uint16Array;
  if (isDeep) image.deep = new Uint16Array(image.data.length);
  const alpha = new Uint8Array(width * height);
  const byte = (value: number) => (isDeep ? Math.round(value / 257) : value);
  for (let i = 0; i < alpha.length; i++) {
    for (let c = 0; c < 3; c++) {
      image.data[3 * i + c] = byte(rgba[4 * i + c]);
      if (isDeep) image.deep![3 * i + c] = rgba[4 * i + c];
    }
    alpha[i] = byte(rgba[4 * i + 3]);
  }
  if (alpha.some((value) => value !== 255)) image.alpha = alpha;
  return image;
}

/** The picture turned and mirrored as its properties say, in their order: a quarter turn is against the clock. (ISO/IEC 23008-12, 6.5.10, 6.5.12) */
function turned(image: Image, properties: Box[], bytes: Uint8Array, name: string): Image {
  for (const box of properties) {
    if (box.type === 'irot') image = orient(image, [1, 8, 3, 6][new BoxReader(bytes, box, name).number(1) & 3]);
    if (box.type === 'imir') image = orient(image, new BoxReader(bytes, box, name).number(1) & 1 ? 2 : 4);
  }
  return image;
}

/** The profile, or what a code says of the colours, as a PNG has it. */
async function coloursOf(properties: Box[], bytes: Uint8Array, name: string): ReturnType<typeof readColours> {
  const boxes = properties.filter(({ type }) => type === 'colr').map((box) => ({ box, reader: new BoxReader(bytes, box, name) }));
  const kinds = boxes.map(({ box, reader }) => ({ kind: reader.letters(), reader, box }));
  const profile = kinds.find(({ kind }) => kind === 'prof' || kind === 'rICC');
  if (profile) return { icc: bytes.slice(profile.reader.at, profile.box.end), notes: [] };
  const code = kinds.find(({ kind }) => kind === 'nclx');
  if (!code) return { notes: [] };
  const [primaries, transfer] = [code.reader.number(2), code.reader.number(2)];
  const [UNSPECIFIED, SRGB] = [2, 13];
  // BT.709 stands for sRGB in practice, as for browsers.
  if (primaries === UNSPECIFIED || (primaries === 1 && [1, UNSPECIFIED, SRGB].includes(transfer))) return { notes: [] };
  return readColours([{ type: 'cICP', data: Uint8Array.of(primaries, transfer === UNSPECIFIED ? SRGB : transfer, 0, 1) }]);
}

function exifBlocks({ items }: Heif, bytes: Uint8Array): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  for (const { extents } of items.filter(({ type }) => type === 'Exif').slice(0, 4)) {
    const [{ offset, length } = { offset: 0, length: 0 }] = extents;
    const block = bytes.subarray(offset, offset + length);
    if (block.length < 8) continue;
    const skipped = 4 + new DataView(block.buffer, block.byteOffset, 4).getUint32(0);
    if (skipped < block.length) blocks.push(block.subarray(skipped));
  }
  return blocks;
}
