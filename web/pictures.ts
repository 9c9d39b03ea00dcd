/** Images of the library as bitmaps, which travel to the page without a copy and are drawn without decoding. */
import type { Image } from '../image/image.ts';

export function bitmapOf({ width, height, data, alpha }: Image): Promise<ImageBitmap> {
  const rgba = new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    rgba[4 * i] = data[3 * i];
    rgba[4 * i + 1] = data[3 * i + 1];
    rgba[4 * i + 2] = data[3 * i + 2];
    rgba[4 * i + 3] = alpha ? alpha[i] : 255;
  }
  return createImageBitmap(new ImageData(rgba, width, height));
}
