/** Images of the library as bitmaps, which travel to the page without a copy and are drawn without decoding. */
import type { Image } from '../image/image.ts';
import { coloursOf } from '../image/metadata.ts';
import type { Values } from '../restore/networks.ts';

/** What writes picture files, which is large, and not needed by who only looks. */
export const encoding = () => import('../image/encode.ts');

/** An image as a bitmap that shows its colours: the browser reads a profile where there is one, as it does in the photo's own file. */
export async function bitmapOf(image: Image): Promise<ImageBitmap> {
  const colours = coloursOf(image);
  if (colours.metadata) {
    const { encodePng } = await encoding();
    return createImageBitmap(new Blob([encodePng({ ...image, ...colours }, { stored: true })], { type: 'image/png' }));
  }
  const { width, height, data, alpha } = image;
  const rgba = new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    rgba[4 * i] = data[3 * i];
    rgba[4 * i + 1] = data[3 * i + 1];
    rgba[4 * i + 2] = data[3 * i + 2];
    rgba[4 * i + 3] = alpha ? alpha[i] : 255;
  }
  return createImageBitmap(new ImageData(rgba, width, height));
}

/** A feature map (1, H, W, C) averaged over squares of pixels until no side is above `most`. */
export function pooled(values: Values, most: number): Values {
  const [, height, width, channels] = values.shape;
  const size = Math.ceil(Math.max(height, width) / most);
  if (size === 1) return values;
  const [h, w] = [Math.ceil(height / size), Math.ceil(width / size)];
  const data = new Float32Array(h * w * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [row, column] = [Math.floor(y / size), Math.floor(x / size)];
      const count = Math.min(size, height - row * size) * Math.min(size, width - column * size);
      const [from, to] = [(y * width + x) * channels, (row * w + column) * channels];
      for (let c = 0; c < channels; c++) data[to + c] += values.data[from + c] / count;
    }
  }
  return { data, shape: [1, h, w, channels] };
}

/** Where a feature map (1, H, W, C) is strong: each pixel's root mean square over the channels, black for the least, bright for the most. */
export function energy({ data, shape: [, height, width, channels] }: Values): Image {
  const strength = new Float32Array(height * width);
  for (let i = 0; i < strength.length; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += data[i * channels + c] ** 2;
    strength[i] = Math.sqrt(sum / channels);
  }
  const [least, most] = [strength.reduce((a, b) => Math.min(a, b)), strength.reduce((a, b) => Math.max(a, b))];
  return heatOf(
    strength.map((value) => (most > least ? (value - least) / (most - least) : 0)),
    { width, height },
  );
}

/** Shares of 0 to 1 as colours from near black through violet and orange to pale yellow, evenly lighter. */
export function heatOf(shares: Float32Array, { width, height }: { width: number; height: number }): Image {
  const data = new Uint8Array(shares.length * 3);
  shares.forEach((share, i) => {
    const place = Math.min(0.9999, Math.max(0, share)) * (HEAT.length - 1);
    const [low, high] = [HEAT[Math.floor(place)], HEAT[Math.floor(place) + 1]];
    for (let c = 0; c < 3; c++) data[3 * i + c] = low[c] + (high[c] - low[c]) * (place % 1);
  });
  return { width, height, data };
}

const HEAT = [
  [12, 8, 26],
  [73, 22, 94],
  [158, 44, 91],
  [225, 94, 61],
  [250, 170, 80],
  [252, 246, 190],
] as const;
