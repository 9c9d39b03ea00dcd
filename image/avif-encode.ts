/** Images to AVIF files, by libavif as a WebAssembly module: the optional package @jsquash/avif. Metadata are put into the container here. */
import { UserError } from '../core/errors.ts';
import { ascii, joinBytes } from './bytes.ts';
import { checkSize, type DeepImage, type Image } from './image.ts';
import { type Box, BoxReader, readHeif } from './isobmff.ts';
import { type ImageMetadata, sizedExif } from './metadata.ts';
import { Codec, initial, installed } from './wasm-codec.ts';

/** Longest side that AV1's levels have. */
const MAX_SIDE = 16384;
/** The bits that AVIF holds at most. */
const DEEPEST = 12;

type Encoder = (image: { width: number; height: number; data: Uint8ClampedArray | Uint16Array }, options: object) => Promise<ArrayBuffer>;

const encoder = new Codec(async () => {
  const { default: run, init } = await installed(() => import('@jsquash/avif/encode.js'), 'AVIF', '@jsquash/avif');
  return { run: run as Encoder, renew: await initial(init, '@jsquash/avif/codec/enc/avif_enc.wasm') };
});

/**
 * Bytes of an AVIF file, quality 1 to 100, colours at full resolution, with the image's alpha and metadata; a 16-bit image is rounded to 12. UserError for
 * sides above 16384 or without the encoder.
 */
export async function encodeAvif(image: Image | DeepImage, quality: number): Promise<Uint8Array<ArrayBuffer>> {
  if (!(quality >= 1 && quality <= 100)) throw new UserError(`AVIF quality is ${quality}; it must be from 1 to 100.`);
  const { width, height, data, alpha, metadata } = image;
  checkSize(width, height, 'AVIF', { maxSide: MAX_SIDE, maxPixels: MAX_SIDE ** 2 });
  const isDeep = data instanceof Uint16Array;
  const most = 2 ** DEEPEST - 1;
  const rgba = isDeep ? new Uint16Array(width * height * 4) : new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = isDeep ? Math.round((data[3 * i + c] * most) / 65535) : data[3 * i + c];
    rgba[4 * i + 3] = isDeep ? Math.round(((alpha?.[i] ?? 255) * most) / 255) : (alpha?.[i] ?? 255);
  }
  const encode = await encoder.for(width * height);
  const file = new Uint8Array(await encode({ width, height, data: rgba }, { quality, subsample: 3, bitDepth: isDeep ? DEEPEST : 8 }));
  const { icc, exif } = metadata ?? {};
  return withHeifMetadata(file, { icc, exif: exif && sizedExif(exif, width, height) });
}

/** Codes of sRGB (ITU-T H.273), which the encoder leaves open. */
const SRGB = [0, 1, 0, 13];
const CODED = [...ascii('colrnclx')];

/**
 * An AVIF file as the encoder writes it, with these metadata. Its colours are said to be sRGB's unless there is a profile. Further properties of the
 * picture, whole boxes, may be given.
 */
export function withHeifMetadata(file: Uint8Array, { icc, exif }: ImageMetadata, properties: Uint8Array[] = []): Uint8Array<ArrayBuffer> {
  const name = 'AVIF';
  const top = new BoxReader(file, { start: 0, end: file.length }, name).boxes();
  const [meta] = top.filter(({ type }) => type === 'meta');
  const whole = (box: Box) => file.subarray(box.start - 8, box.end);
  const inner = new BoxReader(file, { start: meta.start + 4, end: meta.end }, name).boxes();
  const { primary, items, properties: own, all } = readHeif(file, name);
  const exifId = Math.max(...items.map(({ id }) => id)) + 1;
  const exifItem = exif ? joinBytes([0, 0, 0, 0], exif) : new Uint8Array();

  const coded = all.map((property) => {
    const bytes = Uint8Array.from(whole(property));
    if (own.includes(property) && CODED.every((letter, i) => bytes[4 + i] === letter)) bytes.set(SRGB, 4 + CODED.length);
    return bytes;
  });
  const profile = icc ? [made('colr', ascii('prof'), icc)] : [];
  const iprp = new BoxReader(file, inner.find(({ type }) => type === 'iprp')!, name).boxes();
  const added = [...profile, ...properties];
  const ipma = withProperties(file, iprp.find(({ type }) => type === 'ipma')!, primary, all.length, added.length);

  const before = file.subarray(0, meta.start - 8);
  const after = file.subarray(meta.end);
  const metaOf = (moved: number): Uint8Array => {
    const located = [...items, ...(exif ? [{ id: exifId, extents: [{ offset: file.length + 8, length: exifItem.length }] }] : [])];
    const entries = located.map(({ id, extents }) =>
      joinBytes(two(id), two(0), two(extents.length), ...extents.map(({ offset, length }) => [...four(offset + moved), ...four(length)])),
    );
    const replaced: Record<string, () => Uint8Array> = {
      iloc: () => made('iloc', [0, 0, 0, 0, 0x44, 0], two(located.length), ...entries),
      iprp: () => made('iprp', made('ipco', ...coded, ...added), ipma),
      iinf: () =>
        exif ? withExifName(file, inner.find(({ type }) => type === 'iinf')!, exifId) : whole(inner.find(({ type }) => type === 'iinf')!),
    };
    const parts = inner.map((box) => replaced[box.type]?.() ?? (box.type === 'iref' ? new Uint8Array() : whole(box)));
    const references = inner.filter(({ type }) => type === 'iref').map((box) => file.subarray(box.start + 4, box.end));
    const describes = exif ? [made('cdsc', two(exifId), two(1), two(primary))] : [];
    const iref = references.length + describes.length > 0 ? [made('iref', [0, 0, 0, 0], ...references, ...describes)] : [];
    return made('meta', [0, 0, 0, 0], ...parts, ...iref);
  };
  const moved = metaOf(0).length - (meta.end - meta.start + 8);
  return joinBytes(before, metaOf(moved), after, exif ? made('mdat', exifItem) : []);
}

/** The box ipma, in which the primary item has `count` more properties, those behind the first `known`. */
function withProperties(file: Uint8Array, box: Box, primary: number, known: number, count: number): Uint8Array {
  const reader = new BoxReader(file, box, 'AVIF');
  const [version, flags] = [reader.number(1), reader.number(3)];
  const [idSize, size] = [version < 1 ? 2 : 4, flags & 1 ? 2 : 1];
  const parts: ArrayLike<number>[] = [];
  const entries = reader.number(4);
  for (let i = 0; i < entries; i++) {
    const id = reader.number(idSize);
    const associations = reader.number(1);
    const start = reader.at;
    reader.at += associations * size;
    const more = id === primary ? Array.from({ length: count }, (_, k) => known + 1 + k) : [];
    parts.push(idSize === 2 ? two(id) : four(id), [associations + more.length], file.subarray(start, reader.at));
    parts.push(...more.map((index) => (size === 2 ? two(index) : [index])));
  }
  return made('ipma', file.subarray(box.start, box.start + 4), four(entries), ...parts);
}

/** The box iinf with an item for EXIF. */
function withExifName(file: Uint8Array, box: Box, id: number): Uint8Array {
  const reader = new BoxReader(file, box, 'AVIF');
  const [version, flags] = [reader.number(1), reader.number(3)];
  const count = reader.number(version === 0 ? 2 : 4);
  const entry = made('infe', [2, 0, 0, 1], two(id), two(0), ascii('Exif'), [0]);
  return made('iinf', [version, 0, 0, flags], version === 0 ? two(count + 1) : four(count + 1), file.subarray(reader.at, box.end), entry);
}

const two = (x: number): number[] => [(x >> 8) & 255, x & 255];
const four = (x: number): number[] => [x >>> 24, (x >> 16) & 255, (x >> 8) & 255, x & 255];

/** A box. */
function made(type: string, ...parts: ArrayLike<number>[]): Uint8Array {
  const content = joinBytes(...parts);
  return joinBytes(four(content.length + 8), ascii(type), content);
}
