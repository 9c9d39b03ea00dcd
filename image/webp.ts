/**
 * WebP files, by libwebp as a WebAssembly module: the optional package @jsquash/webp, loaded when the first WebP file is read or written. Browsers
 * fetch the module from beside the package; elsewhere it is read from the installed package, and nothing is downloaded.
 */
import { UserError } from '../core/errors.ts';
import type { FileContents } from './file-contents.ts';
import { checkSize, type Image, type SizeLimits } from './image.ts';
import { sizedExif } from './metadata.ts';
import { readWebpHeader, withMetadata } from './webp-file.ts';

/** A WebP side is a number of 14 bits. */
const MAX_SIDE = 16383;

type Decoder = (bytes: ArrayBuffer) => Promise<ImageData>;
type Encoder = (image: ImageData, options: { quality: number }) => Promise<ArrayBuffer>;

/**
 * A codec and its compiled module. An instance keeps the memory that its largest picture took, so it is made again after pictures of this many pixels
 * in all.
 */
class Codec<Run> {
  private readonly load: () => Promise<{ run: Run; renew: () => Promise<void> }>;
  private loaded: ReturnType<Codec<Run>['load']> | undefined;
  private pixels = 0;

  constructor(load: Codec<Run>['load']) {
    this.load = load;
  }

  async for(pixels: number): Promise<Run> {
    this.loaded ??= this.load();
    const { run, renew } = await this.loaded;
    if (this.pixels > RENEWED_AFTER) {
      this.pixels = 0;
      await renew();
    }
    this.pixels += pixels;
    return run;
  }
}

const RENEWED_AFTER = 4e6;
const decoder = new Codec(loadDecoder);
const encoder = new Codec(loadEncoder);

/**
 * A still WebP, lossy or lossless, as 8-bit RGB with alpha where a pixel is not opaque, and its ICC profile and EXIF block. UserError for damaged and
 * animated files, sizes above the limits, and where the decoder is not installed.
 */
export async function readWebp(bytes: Uint8Array, name: string, limits: SizeLimits): Promise<FileContents> {
  const { width, height, icc, exif } = readWebpHeader(bytes, name, limits);
  const decode = await decoder.for(width * height);
  const decoded = await decode(Uint8Array.from(bytes).buffer).catch(() => null);
  if (decoded?.width !== width || decoded.height !== height) {
    throw new UserError(`${name}: the WebP file is damaged; get another copy or save it again.`);
  }
  const rgba = decoded.data;
  const image: Image = { width, height, data: new Uint8Array(width * height * 3) };
  const alpha = new Uint8Array(width * height);
  for (let i = 0; i < alpha.length; i++) {
    for (let c = 0; c < 3; c++) image.data[3 * i + c] = rgba[4 * i + c];
    alpha[i] = rgba[4 * i + 3];
  }
  if (alpha.some((value) => value !== 255)) image.alpha = alpha;
  return { image, icc, exif: exif ? [exif] : [], notes: [], grey: false };
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
  const { default: run, init } = await installed(() => import('@jsquash/webp/decode.js'));
  return { run: run as Decoder, renew: await initial(init, '@jsquash/webp/codec/dec/webp_dec.wasm') };
}

async function loadEncoder() {
  const { default: run, init } = await installed(() => import('@jsquash/webp/encode.js'));
  return { run: run as Encoder, renew: await initial(init, '@jsquash/webp/codec/enc/webp_enc_simd.wasm') };
}

/** Makes an instance of a codec; gives what makes the next one. */
async function initial(init: (module?: WebAssembly.Module) => Promise<unknown>, path: string): Promise<() => Promise<void>> {
  const module = await installedModule(path);
  const renew = async () => void (await (module ? init(module) : init()));
  await renew();
  return renew;
}

async function installed<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    throw new UserError('WebP files need the package @jsquash/webp, which is not installed. Use PNG or JPEG, or install it.', {
      code: 'no-webp',
      cause,
    });
  }
}

/** A WebAssembly file of a package, compiled; undefined in browsers, where the package finds it itself. */
async function installedModule(path: string): Promise<WebAssembly.Module | undefined> {
  const { currentHost } = await import('../host/current.ts');
  const host = await currentHost();
  if (host.name === 'browser') return undefined;
  const { pathname } = new URL(import.meta.resolve(path));
  // a drive's letter is not behind a slash: /C:/x is C:/x
  return WebAssembly.compile(await host.readFile(decodeURIComponent(pathname).replace(/^\/(?=[A-Z]:)/i, '')));
}
