/** EXIF orientation: how a stored image must be turned or mirrored to stand upright. (CIPA DC-008, tag 274) */
import { orientation } from 'exifr/dist/mini.esm.mjs';
import type { Image } from './image.ts';

/** The orientation, 1 to 8, in an EXIF block (TIFF); 1, upright, if there is none or the block is damaged. */
export async function readOrientation(exif: Uint8Array | undefined): Promise<number> {
  if (!exif || exif.length > 0xffff - 8) return 1;
  // exifr reads files, so the block becomes the only segment of one
  const length = exif.length + 8;
  const head = [0xff, 0xd8, 0xff, 0xe1, length >> 8, length & 255, 0x45, 0x78, 0x69, 0x66, 0, 0];
  const value = await orientation(Uint8Array.from([...head, ...exif, 0xff, 0xd9])).catch(() => undefined);
  return Number.isInteger(value) && value! >= 1 && value! <= 8 ? value! : 1;
}

/** The image, with its alpha, turned upright from an orientation 1 to 8; 5 to 8 swap width and height. */
export function orient(image: Image, orientation: number): Image {
  const { width: w, height: h } = image;
  /** source pixel = start + x * stepX + y * stepY for the output pixel (x, y) */
  const walks: Record<number, [start: number, stepX: number, stepY: number]> = {
    2: [w - 1, -1, w],
    3: [w * h - 1, -1, -w],
    4: [w * (h - 1), 1, -w],
    5: [0, w, 1],
    6: [w * (h - 1), -w, 1],
    7: [w * h - 1, -w, -1],
    8: [w - 1, w, -1],
  };
  if (!walks[orientation]) return image;
  const [start, stepX, stepY] = walks[orientation];
  const [width, height] = orientation > 4 ? [h, w] : [w, h];
  const turn = (data: Uint8Array, channels: number): Uint8Array => {
    const out = new Uint8Array(data.length);
    for (let y = 0, to = 0; y < height; y++) {
      for (let x = 0, from = start + y * stepY; x < width; x++, from += stepX) {
        for (let c = 0; c < channels; c++) out[to++] = data[from * channels + c];
      }
    }
    return out;
  };
  const turned: Image = { width, height, data: turn(image.data, 3) };
  if (image.alpha) turned.alpha = turn(image.alpha, 1);
  return turned;
}
