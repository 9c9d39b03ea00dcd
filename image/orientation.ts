/** EXIF orientation: how a stored image must be turned or mirrored to stand upright. (CIPA DC-008, tag 274) */
import type { Image } from './image.ts';

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
  const turn = <Data extends Uint8Array | Uint16Array>(data: Data, channels: number): Data => {
    const out = new (data.constructor as new (length: number) => Data)(data.length);
    for (let y = 0, to = 0; y < height; y++) {
      for (let x = 0, from = start + y * stepY; x < width; x++, from += stepX) {
        for (let c = 0; c < channels; c++) out[to++] = data[from * channels + c];
      }
    }
    return out;
  };
  const turned: Image = { width, height, data: turn(image.data, 3) };
  if (image.deep) turned.deep = turn(image.deep, 3);
  if (image.alpha) turned.alpha = turn(image.alpha, 1);
  return turned;
}
