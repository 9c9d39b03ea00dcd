/**
 * Images as the rest of the program passes them around: 8-bit RGB, and float with any number of channels. Both are interleaved (H, W, C), the
 * layout of the tensors inside.
 */
import { UserError } from '../core/errors.ts';
import type { ImageMetadata } from './metadata.ts';

/** An 8-bit RGB image. data (height, width, 3) u8; alpha (height, width) u8, present only where a pixel is not opaque. */
export interface Image {
  width: number;
  height: number;
  data: Uint8Array;
  alpha?: Uint8Array;
  /** (height, width, 3) u16, where the file has more than 8 bits: the same pixels with all of them. What computes new pixels leaves it out. */
  deep?: Uint16Array;
  /** of the file that it was decoded from; encoders write it. What computes new pixels leaves it out. */
  metadata?: ImageMetadata;
  /** What reading the file could not keep, a sentence for a person to stand behind the file's name. */
  note?: string;
}

/** A float image. data (height, width, channels) f32. "Unit range" means -1 is black and 1 is white, what the networks read and write. */
export interface FloatImage {
  width: number;
  height: number;
  channels: number;
  data: Float32Array;
}

/** An RGB image of 16 bits a sample. data (height, width, 3) u16; alpha stays at 8 bits. */
export interface DeepImage extends Omit<Image, 'data' | 'deep'> {
  data: Uint16Array;
}

/** Sizes above which an image is refused before its pixels are decoded or allocated. */
export interface SizeLimits {
  /** longest side, pixels */
  maxSide: number;
  /** width * height, pixels */
  maxPixels: number;
  /** Throws where pictures of this size, in pixels as stored, are of no use. */
  allows?(size: { width: number; height: number }): void;
}

export const SIZE_LIMITS: SizeLimits = { maxSide: 16384, maxPixels: 100e6 };

/** Whether neither side nor the pixels in all are above the limits. */
export const isWithin = (width: number, height: number, { maxSide, maxPixels } = SIZE_LIMITS): boolean =>
  Math.max(width, height) <= maxSide && width * height <= maxPixels;

/** Throws a UserError that starts with `name` if the size is not positive whole numbers within the limits. */
export function checkSize(width: number, height: number, name: string, limits: SizeLimits = SIZE_LIMITS): void {
  const size = `${width}x${height} pixels`;
  if (!(Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0)) {
    throw new UserError(`${name}: the image has no pixels (${size}); choose another file or size.`);
  }
  if (Math.max(width, height) > limits.maxSide) {
    throw new UserError(`${name}: ${size} is too large, a side may have at most ${limits.maxSide} pixels; scale or crop it first.`);
  }
  if (width * height > limits.maxPixels) {
    const millions = (pixels: number) => (pixels / 1e6).toFixed(1);
    throw new UserError(
      `${name}: ${size} is too large (${millions(width * height)} megapixels), at most ${millions(limits.maxPixels)} are accepted; scale or crop it first.`,
    );
  }
  limits.allows?.({ width, height });
}

/** A black image of the given size, within SIZE_LIMITS (UserError otherwise). */
export function createImage(width: number, height: number): Image {
  checkSize(width, height, 'new image');
  return { width, height, data: new Uint8Array(width * height * 3) };
}

/** A float image of zeros, within SIZE_LIMITS (UserError otherwise). */
export function createFloatImage(width: number, height: number, channels: number): FloatImage {
  checkSize(width, height, 'new image');
  return { width, height, channels, data: new Float32Array(width * height * channels) };
}

const UNIT_OF_BYTE = Float32Array.from({ length: 256 }, (_, byte) => (byte / 255) * 2 - 1);

/** 8-bit to unit range: x / 255 * 2 - 1, three channels; alpha is dropped. */
export function toUnit(image: Image): FloatImage {
  const x = new Float32Array(image.data.length);
  for (let i = 0; i < x.length; i++) x[i] = UNIT_OF_BYTE[image.data[i]];
  return { width: image.width, height: image.height, channels: 3, data: x };
}

/** How a float becomes a byte: the published command line truncates, its demo rounds (half to even). */
export type Rounding = 'truncate' | 'round';

/**
 * Unit range to 8-bit: x * 127.5 + 127.5 in f32, clipped to 0..255, then truncated or rounded half to even. x has three channels (UserError
 * otherwise). A value that is not a number throws a RangeError with its place instead of becoming a black pixel.
 */
export function fromUnit(x: FloatImage, rounding: Rounding): Image {
  const { width, height, data } = checkedUnit('fromUnit', x);
  const bytes = new Uint8ClampedArray(data.length); // its stores clip and round half to even
  for (let i = 0; i < data.length; i++) {
    const value = Math.fround(Math.fround(data[i] * 127.5) + 127.5);
    bytes[i] = rounding === 'truncate' ? Math.floor(value) : value;
  }
  return { width, height, data: new Uint8Array(bytes.buffer) };
}

/** Unit range to 16-bit: (x + 1) / 2 * 65535, clipped and rounded to the nearest. Throws as `fromUnit`. */
export function deepFromUnit(x: FloatImage): DeepImage {
  const { width, height, data } = checkedUnit('deepFromUnit', x);
  return { width, height, data: Uint16Array.from(data, (value) => Math.min(65535, Math.max(0, Math.round((value + 1) * 32767.5)))) };
}

function checkedUnit(name: string, x: FloatImage): FloatImage {
  if (x.channels !== 3) throw new UserError(`${name}: an RGB image has 3 channels, this one has ${x.channels}.`);
  const at = x.data.findIndex(Number.isNaN);
  if (at < 0) return x;
  const pixel = Math.floor(at / 3);
  throw new RangeError(`${name}: the value at x ${pixel % x.width}, y ${Math.floor(pixel / x.width)}, channel ${at % 3} is not a number.`);
}
