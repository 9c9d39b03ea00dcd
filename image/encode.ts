/** Images to PNG and JPEG files. */
import jpeg from 'jpeg-js';
import { PNG } from 'pngjs';
import { UserError } from '../core/errors.ts';
import { checkSize, type Image } from './image.ts';
import { textChunk, writeChunk } from './png-chunks.ts';

export interface PngOptions {
  /** texts stored in the file by keyword, see `textChunk`; default none */
  text?: Record<string, string>;
}

/** Bytes of an 8-bit RGB PNG file, RGBA if the image has alpha. UserError for an empty image or text that PNG does not allow. */
export function encodePng(image: Image, options: PngOptions = {}): Uint8Array<ArrayBuffer> {
  const texts = Object.entries(options.text ?? {}).map(([keyword, text]) => writeChunk(textChunk(keyword, text)));
  const png = new PNG({ width: image.width, height: image.height });
  png.data.set(toRgba(image));
  const file = PNG.sync.write(png, { colorType: image.alpha ? 6 : 2 });
  const parts = [file.subarray(0, HEADER_END), ...texts, file.subarray(HEADER_END)];
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Where a PNG file's signature and IHDR chunk end. */
const HEADER_END = 8 + 25;

/** Bytes of a JPEG file (JFIF, 4:4:4), quality 1 to 100; alpha is dropped. UserError for an empty image or a quality out of range. */
export function encodeJpeg(image: Image, quality: number): Uint8Array<ArrayBuffer> {
  if (!(quality >= 1 && quality <= 100)) throw new UserError(`JPEG quality is ${quality}; it must be from 1 to 100.`);
  const rgba = toRgba({ ...image, alpha: undefined });
  const { data } = withBuffer(() => jpeg.encode({ width: image.width, height: image.height, data: rgba }, Math.round(quality)));
  return new Uint8Array(data);
}

/** (height, width, 4) u8, opaque without alpha. */
function toRgba({ width, height, data, alpha }: Image): Uint8Array {
  checkSize(width, height, 'encode');
  const rgba = new Uint8Array(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    rgba[4 * i] = data[3 * i];
    rgba[4 * i + 1] = data[3 * i + 1];
    rgba[4 * i + 2] = data[3 * i + 2];
    rgba[4 * i + 3] = alpha ? alpha[i] : 255;
  }
  return rgba;
}

/** Runs a function that ends with Node's `Buffer.from(bytes)`, as jpeg-js's encoder does; browsers get it for that long. */
function withBuffer<T>(run: () => T): T {
  const host = globalThis as { Buffer?: unknown };
  if (host.Buffer) return run();
  host.Buffer = { from: (bytes: number[]) => Uint8Array.from(bytes) };
  try {
    return run();
  } finally {
    delete host.Buffer;
  }
}
