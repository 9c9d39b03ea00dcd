/**
 * An image on its way into the networks and out again, as the published SUPIR front ends do it: the command line (prepare, finish) and the web
 * demo (upscaleImage, fixResize). (arXiv 2401.13627 and its program)
 */
import { UserError } from '../core/errors.ts';
import {
  checkSize,
  type DeepImage,
  deepFromUnit,
  type FloatImage,
  fromUnit,
  type Image,
  isWithin,
  type Rounding,
  SIZE_LIMITS,
} from './image.ts';
import { opaque } from './opaque.ts';
import { resize, resizeBicubic } from './resize.ts';
import { resizeOpenCV } from './resize-opencv.ts';

/** Nearest whole number, halves to the even one. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const fraction = x - floor;
  if (fraction !== 0.5) return fraction < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

const roundTo = (side: number, multiple: number): number => Math.max(1, roundHalfEven(side / multiple)) * multiple;

export interface PrepareOptions {
  /** enlargement of the result, > 0; default 1 */
  upscale?: number;
  /** instead of upscale: the size of the result; default off */
  result?: { width: number; height: number };
  /** the network sees at least this many pixels on the short side; default 1024 */
  minSize?: number;
  /** the network's sides are multiples of this; default 64 */
  multiple?: number;
  /** instead of upscale and minSize: the short side of both the network's image and the result; default off */
  shortSide?: number;
  /** the photo's name, for messages; default 'photo' */
  name?: string;
}

export interface Sizes {
  /** the network's image, pixels */
  width: number;
  height: number;
  /** the result, pixels */
  width0: number;
  height0: number;
}

/**
 * The sizes that `prepare` will use: the result is the image times upscale, rounded half to even; the network's image is that, enlarged to
 * minSize on the short side, each side to the nearest multiple (half to even, never 0). UserError for options out of range or a size above SIZE_LIMITS.
 */
export function preparedSizes(width: number, height: number, options: PrepareOptions = {}): Sizes {
  const { upscale = 1, minSize = 1024, multiple = 64, shortSide, result, name = 'photo' } = options;
  checkPositive({ upscale, minSize, multiple, shortSide: shortSide ?? 1 });
  let scale = shortSide ? shortSide / Math.min(width, height) : result ? Math.max(result.width / width, result.height / height) : upscale;
  const { width: width0, height: height0 } = result ?? { width: roundHalfEven(width * scale), height: roundHalfEven(height * scale) };
  checkSize(width0, height0, `${name}: the result`);
  if (!shortSide) scale = Math.max(scale, minSize / Math.min(width, height));
  const sizes = { width: roundTo(width * scale, multiple), height: roundTo(height * scale, multiple), width0, height0 };
  if (isWithin(sizes.width, sizes.height)) return sizes;
  const [short, long] = [Math.min(width, height), Math.max(width, height)];
  const most = Math.floor(Math.min((SIZE_LIMITS.maxSide * short) / long, Math.sqrt((SIZE_LIMITS.maxPixels * short) / long)));
  throw new UserError(
    `${name}: ${width}x${height} pixels, enlarged to a short side of at least ${minSize} (minSize) for the networks, would be ${sizes.width}x${sizes.height}, which is too large. Crop it, or set minSize (--min-size) to ${most} or less.`,
    { code: 'photo-too-thin', option: 'minSize', file: name, values: { most } },
  );
}

/** The image without alpha at the network's size, by Pillow's bicubic, and the size of the result. `toUnit` makes it the network's input. Throws as `preparedSizes` does. */
export function prepare(image: Image, options: PrepareOptions = {}): Sizes & { image: Image } {
  const sizes = preparedSizes(image.width, image.height, options);
  return { ...sizes, image: resize(opaque(image), sizes.width, sizes.height, 'bicubic') };
}

/**
 * A photo of more than 8 bits with all of them, red, green and blue from 0 to 1, resized in f32 by the filter that `prepare` uses on bytes; null for other
 * photos.
 */
export function prepareDeep(photo: Image, width: number, height: number): FloatImage | null {
  const { deep } = photo.deep ? opaque(photo) : photo;
  if (!deep) return null;
  const x = { ...photo, channels: 3, data: Float32Array.from(deep, (value) => value / 65535) };
  const resized = resizeBicubic(x, width, height, { antialias: true });
  return { ...resized, data: resized.data.map((value) => Math.min(1, Math.max(0, value))) };
}

/** The demo's gamma correction of bytes: 255 * (v / 255) ** gamma, rounded half to even. */
export function gammaCorrected({ width, height, data }: Image, gamma: number): Image {
  const table = Uint8Array.from({ length: 256 }, (_, value) => roundHalfEven(255 * (value / 255) ** gamma));
  return { width, height, data: data.map((value) => table[value]) };
}

/** The network's result x (height, width, 3), unit range, as an image of the result's size: torch's bicubic (a = -0.75, no antialias), then bytes. */
export function finish(x: FloatImage, width0: number, height0: number, rounding: Rounding = 'truncate'): Image {
  return fromUnit(resizeBicubic(x, width0, height0), rounding);
}

/** `finish` with 16 bits a sample. */
export function finishDeep(x: FloatImage, width0: number, height0: number): DeepImage {
  return deepFromUnit(resizeBicubic(x, width0, height0));
}

/** The demo's `prepare`: sides to multiples of 32, OpenCV's Lanczos4 if upscale is above 1, else AREA (also where minSize enlarges). */
export function upscaleImage(image: Image, options: Omit<PrepareOptions, 'shortSide'> = {}): Image {
  const { upscale = 1, minSize = 1024, multiple = 32 } = options;
  checkPositive({ upscale, minSize, multiple });
  const scale = Math.max(upscale, minSize / Math.min(image.width, image.height));
  const [width, height] = [roundTo(image.width * scale, multiple), roundTo(image.height * scale, multiple)];
  return resizeOpenCV(image, width, height, upscale > 1 ? 'lanczos4' : 'area');
}

/** The demo's image for captions and previews: short side `size`, sides to multiples, OpenCV's Lanczos4 if that enlarges, else AREA. */
export function fixResize(image: Image, size = 512, multiple = 64): Image {
  checkPositive({ size, multiple });
  const scale = size / Math.min(image.width, image.height);
  const [width, height] = [roundTo(image.width * scale, multiple), roundTo(image.height * scale, multiple)];
  return resizeOpenCV(image, width, height, scale > 1 ? 'lanczos4' : 'area');
}

function checkPositive(options: Record<string, number>): void {
  for (const [name, value] of Object.entries(options)) {
    if (!(value > 0 && Number.isFinite(value))) throw new UserError(`${name} is ${value}; it must be a number above 0.`);
  }
}
