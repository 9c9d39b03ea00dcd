/**
 * WebP files, by libwebp as a WebAssembly module: the optional package @jsquash/webp, loaded when the first WebP file is read or written. Browsers
 * fetch the module from beside the package; elsewhere it is read from the installed package, and nothing is downloaded.
 */
import { UserError } from '../core/errors.ts';
import type { FileContents } from './file-contents.ts';
import { checkSize, type Image, type SizeLimits } from './image.ts';
import { sizedExif } from './metadata.ts';
import { Codec, initial, installed } from './wasm-codec.ts';
import { readWebpHeader, withMetadata } from './webp-file.ts';

/** A WebP side is a number of 14 bits. */
const MAX_SIDE = 16383;

type Decoder = (bytes: ArrayBuffer) => Promise<ImageData>;
type Encoder = (image: ImageData, options: { quality: number }) => Promise<ArrayBuffer>;

const decoder = new Codec(loadDecoder);
const encoder = new Codec(loadEncoder);

/**
 * A WebP, lossy or lossless, as 8-bit RGB with alpha where a pixel is not opaque, and its ICC profile and EXIF block; of an animation its first picture.
 * UserError for damaged files, sizes above the limits, and where the decoder is not installed.
 */
export async function readWebp(bytes: Uint8Array, name: string, limits: SizeLimits): Promise<FileContents> {
  const { width, height, icc, exif, pictures, first } = readWebpHeader(bytes, name, limits);
  const picture = first ?? { file: bytes, left: 0, top: 0, width, height };
  const decode = await decoder.for(picture.width * picture.height);
  const decoded = await decode(Uint8Array.from(picture.file).buffer).catch(() => null);
  if (decoded?.width !== picture.width || decoded.height !== picture.height) {
    throw new UserError(`${name}: the WebP file is damaged; get another copy or save it again.`);
  }
  const rgba = decoded.data;
  const image: Image = { width, height, data: new Uint8Array(width * height * 3) };
  // Of an animation a picture may fill a part; around it there is nothing.
  const alpha = new Uint8Array(width * height);
  for (let y = 0, from = 0; y < picture.height; y++) {
    for (let x = 0, i = (picture.top + y) * width + picture.left; x < picture.width; x++, i++, from += 4) {
      for (let c = 0; c < 3; c++) image.data[3 * i + c] = rgba[from + c];
      alpha[i] = rgba[from + 3];
    }
  }
  if (alpha.some((value) => value !== 255)) image.alpha = alpha;
  const notes = first ? [`the WebP file is animated; the first of its ${pictures} pictures was read.`] : [];
  return { image, icc, exif: exif ? [exif] : [], notes, grey: false };
}

/** Bytes of a lossy WebP file, quality 1 to 100, with the image's alpha and metadata. UserError for sides above 16383 or without the encoder. */
export async function encodeWebp(image: Image, quality: number): Promise<Uint8Array<ArrayBuffer>> {
  if (!(quality >= 1 && quality <= 100)) throw new UserError(`WebP quality is ${quality}; it must be from 1 to 100.`);
  const { width, height, data, alpha, metadata } = image;
  checkSize(width, height, 'WebP', { maxSide: MAX_SIDE, maxPixels: MAX_SIDE ** 2 });
  const rgba = new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = data[3 * i + c];
    rgba[4 * i + 3] = alpha ? alpha[i] : 255;
  }
  const encode = await encoder.for(width * height);
  const file = new Uint8Array(await encode({ width, height, data: rgba } as ImageData, { quality }));
  if (!metadata) return file;
  const { icc, exif } = metadata;
  return withMetadata(file, width, height, { icc, exif: exif && sizedExif(exif, width, height) });
}

async function loadDecoder() {
  const { default: run, init } = await installed(() => import('@jsquash/webp/decode.js'), 'WebP', '@jsquash/webp');
  return { run: run as Decoder, renew: await initial(init, '@jsquash/webp/codec/dec/webp_dec.wasm') };
}

async function loadEncoder() {
  const { default: run, init } = await installed(() => import('@jsquash/webp/encode.js'), 'WebP', '@jsquash/webp');
  return { run: run as Encoder, renew: await initial(init, '@jsquash/webp/codec/enc/webp_enc_simd.wasm') };
}
