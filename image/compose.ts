/** Pictures out of pictures: cutting, putting side by side, and short labels in a bitmap font, for comparisons. */
import { UserError } from '../core/errors.ts';
import { checkSize, createImage, type Image } from './image.ts';
import { opaque } from './opaque.ts';
import { resize } from './resize.ts';

/** The part of `image` whose top left pixel is (x, y), its data alone, without alpha. UserError if it does not lie inside. */
export function crop(image: Image, x: number, y: number, width: number, height: number): Image {
  if (!(x >= 0 && y >= 0 && x + width <= image.width && y + height <= image.height)) {
    throw new UserError(`crop: ${width}x${height} pixels at (${x}, ${y}) do not lie inside ${image.width}x${image.height}.`);
  }
  const part = createImage(width, height);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * image.width + x) * 3;
    part.data.set(image.data.subarray(from, from + width * 3), row * width * 3);
  }
  return part;
}

/** A part of a picture with all that it carries; the picture itself where that is all of it. UserError as `crop`. */
export function cutOut(image: Image, { x, y, width, height }: { x: number; y: number; width: number; height: number }): Image {
  if (width === image.width && height === image.height) return image;
  const part: Image = { ...image, ...crop(image, x, y, width, height) };
  if (!image.alpha) return part;
  const alpha = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const from = (y + row) * image.width + x;
    alpha.set(image.alpha.subarray(from, from + width), row * width);
  }
  return { ...part, alpha };
}

/** Copies `source` into `target` with its top left pixel at (x, y), where it must fit; alpha is left alone. */
export function paste(target: Image, source: Image, x: number, y: number): void {
  if (!(x >= 0 && y >= 0 && x + source.width <= target.width && y + source.height <= target.height)) {
    throw new UserError(`paste: ${source.width}x${source.height} pixels at (${x}, ${y}) do not fit into ${target.width}x${target.height}.`);
  }
  for (let row = 0; row < source.height; row++) {
    const from = row * source.width * 3;
    target.data.set(source.data.subarray(from, from + source.width * 3), ((y + row) * target.width + x) * 3);
  }
}

/** The image, opaque, reduced by Lanczos so that its longer side has at most `side` pixels. */
export function thumbnail(image: Image, side = 384): Image {
  const { width, height } = image;
  const scale = Math.min(1, side / Math.max(width, height));
  return resize(opaque(image), Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)), 'lanczos');
}

export interface Labelled {
  image: Image;
  label: string;
}

/** Rows of images, each under its label, in columns as wide as their widest image; white on black. */
export function grid(rows: Labelled[][], gap = 4): Image {
  const size = (of: (row: Labelled[]) => number) => rows.map(of);
  const heights = size((row) => Math.max(...row.map(({ image }) => image.height)) + BAR);
  const columns = Math.max(...size((row) => row.length));
  const widths = Array.from({ length: columns }, (_, i) => Math.max(...size((row) => row[i]?.image.width ?? 0)));
  const total = (sizes: number[]) => sizes.reduce((sum, each) => sum + each, gap * (sizes.length - 1));
  checkSize(total(widths), total(heights), 'grid');
  const whole = createImage(total(widths), total(heights));
  let y = 0;
  for (const [row, cells] of rows.entries()) {
    let x = 0;
    for (const [column, { image, label }] of cells.entries()) {
      write(whole, label, x + 3, y + 3, widths[column] - 3);
      paste(whole, image, x, y + BAR);
      x += widths[column] + gap;
    }
    y += heights[row] + gap;
  }
  return whole;
}

/** Images of one height beside each other, each under its label. UserError if the heights differ. */
export function sideBySide(parts: Labelled[], gap = 4): Image {
  const { height } = parts[0].image;
  if (parts.some(({ image }) => image.height !== height)) throw new UserError('sideBySide: the images must have the same height.');
  return grid([parts], gap);
}

const [COLUMNS, ROWS] = [5, 7];
/** Height of a label's bar: a row of letters and 3 pixels above and below. */
const BAR = ROWS + 6;

/** Writes `text` in white from (x, y) on, in capitals, as many letters as `width` pixels hold; characters without a glyph are left blank. */
export function write(image: Image, text: string, x: number, y: number, width = image.width - x): void {
  const letters = [...text.toUpperCase()].slice(0, Math.floor((width + 1) / (COLUMNS + 1)));
  for (const [i, letter] of letters.entries()) {
    const glyph = GLYPHS[letter] ?? '';
    for (let column = 0; column < glyph.length / 2; column++) {
      const bits = Number.parseInt(glyph.slice(2 * column, 2 * column + 2), 16);
      for (let row = 0; row < ROWS; row++) {
        const at = ((y + row) * image.width + x + i * (COLUMNS + 1) + column) * 3;
        if (bits & (1 << row)) image.data.fill(255, at, at + 3);
      }
    }
  }
}

/** A letter's five columns from left to right as hexadecimal bytes, the lowest bit on top. */
const GLYPHS: Record<string, string> = {
  '0': '3e5149453e',
  '1': '00427f4000',
  '2': '4261514946',
  '3': '2141454b31',
  '4': '1814127f10',
  '5': '2745454539',
  '6': '3c4a494930',
  '7': '0171090503',
  '8': '3649494936',
  '9': '064949291e',
  A: '7e1111117e',
  B: '7f49494936',
  C: '3e41414122',
  D: '7f4141221c',
  E: '7f49494941',
  F: '7f09090901',
  G: '3e4149497a',
  H: '7f0808087f',
  I: '00417f4100',
  J: '2040413f01',
  K: '7f08142241',
  L: '7f40404040',
  M: '7f020c027f',
  N: '7f0408107f',
  O: '3e4141413e',
  P: '7f09090906',
  Q: '3e4151215e',
  R: '7f09192946',
  S: '4649494931',
  T: '01017f0101',
  U: '3f4040403f',
  V: '1f2040201f',
  W: '3f4038403f',
  X: '6314081463',
  Y: '0708700807',
  Z: '6151494543',
  '-': '0808080808',
  '.': '0060600000',
  ',': '0050300000',
  ':': '0036360000',
  '/': '2010080402',
};
