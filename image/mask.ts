/** Masks: how much of every pixel of a picture is meant, their connected parts, and edges that fade. */
import { UserError } from '../core/errors.ts';
import type { Image } from './image.ts';
import { luma } from './luma.ts';

/** data (height, width) u8: 0 is left alone, 255 is meant. */
export interface Mask {
  width: number;
  height: number;
  data: Uint8Array;
}

export interface MaskBox {
  x: number;
  y: number;
  width: number;
  height: number;
}

export function createMask(width: number, height: number): Mask {
  return { width, height, data: new Uint8Array(width * height) };
}

/** A picture as a mask: white is meant, black and what is transparent are not. */
export function maskOf(image: Image): Mask {
  const grey = luma(image);
  const data = Uint8Array.from(grey, (value, i) => Math.round((value * (image.alpha?.[i] ?? 255)) / 255));
  return { width: image.width, height: image.height, data };
}

/** Throws UserError unless the mask is of a picture of this size and means some of it. */
export function checkMask({ width, height, data }: Mask, of: { width: number; height: number }, name = 'The mask'): void {
  if (width !== of.width || height !== of.height)
    throw new UserError(
      `${name} has ${width}x${height} pixels and the photo ${of.width}x${of.height}: a mask must be of the photo's size, upright as the photo is shown.`,
      { code: 'mask-of-other-size' },
    );
  if (!data.some((value) => value > 0))
    throw new UserError(`${name} is black all over, so nothing would be restored: make white what is to be.`, { code: 'empty-mask' });
}

/** Makes all of a box white; what of it lies outside is left out. */
export function fillBox(mask: Mask, { x, y, width, height }: MaskBox): void {
  const right = Math.min(mask.width, x + width);
  for (let row = y; row < Math.min(mask.height, y + height); row++) mask.data.fill(255, row * mask.width + x, row * mask.width + right);
}

/** Makes the ellipse within a box white. */
export function fillEllipse(mask: Mask, { x, y, width, height }: MaskBox): void {
  const [cx, cy, rx, ry] = [x + width / 2, y + height / 2, width / 2, height / 2];
  for (let row = Math.max(0, y); row < Math.min(mask.height, y + height); row++) {
    const half = rx * Math.sqrt(Math.max(0, 1 - ((row + 0.5 - cy) / ry) ** 2));
    const [from, to] = [Math.max(0, Math.round(cx - half)), Math.min(mask.width, Math.round(cx + half))];
    if (to > from) mask.data.fill(255, row * mask.width + from, row * mask.width + to);
  }
}

/** Side of the squares by which parts are told apart, in pixels: what is nearer than that is one part. */
const CELL = 32;

/** A part of a mask: the box of its pixels, and which squares are its own. */
export interface MaskPart {
  box: MaskBox;
  /** The mask's values where they are this part's, else 0; of a box of the picture. (height, width) */
  within(box: MaskBox): Uint8Array;
}

/** The parts of a mask that lie apart, from the top. */
export function partsOf(mask: Mask): MaskPart[] {
  const [columns, rows] = [Math.ceil(mask.width / CELL), Math.ceil(mask.height / CELL)];
  const label = new Int32Array(columns * rows).fill(-1);
  for (let y = 0; y < mask.height; y++) {
    const cells = Math.floor(y / CELL) * columns;
    for (let x = 0; x < mask.width; x++) if (mask.data[y * mask.width + x] > 0) label[cells + Math.floor(x / CELL)] = 0;
  }
  let count = 0;
  for (let start = 0; start < label.length; start++) {
    if (label[start] !== 0) continue;
    const number = ++count;
    const open = [start];
    label[start] = number;
    for (let cell = open.pop(); cell !== undefined; cell = open.pop()) {
      const [column, row] = [cell % columns, Math.floor(cell / columns)];
      for (let r = Math.max(0, row - 1); r <= Math.min(rows - 1, row + 1); r++) {
        for (let c = Math.max(0, column - 1); c <= Math.min(columns - 1, column + 1); c++) {
          if (label[r * columns + c] !== 0) continue;
          label[r * columns + c] = number;
          open.push(r * columns + c);
        }
      }
    }
  }
  const bounds = Array.from({ length: count }, () => ({ left: mask.width, top: mask.height, right: 0, bottom: 0 }));
  const at = (x: number, y: number) => label[Math.floor(y / CELL) * columns + Math.floor(x / CELL)];
  for (let y = 0; y < mask.height; y++) {
    for (let x = 0; x < mask.width; x++) {
      if (mask.data[y * mask.width + x] === 0) continue;
      const found = bounds[at(x, y) - 1];
      found.left = Math.min(found.left, x);
      found.right = Math.max(found.right, x + 1);
      found.top = Math.min(found.top, y);
      found.bottom = Math.max(found.bottom, y + 1);
    }
  }
  return bounds.map(({ left, top, right, bottom }, i) => ({
    box: { x: left, y: top, width: right - left, height: bottom - top },
    within: (box) => {
      const plane = new Uint8Array(box.width * box.height);
      for (let y = 0; y < box.height; y++) {
        for (let x = 0; x < box.width; x++) {
          const value = mask.data[(box.y + y) * mask.width + box.x + x];
          if (value > 0 && at(box.x + x, box.y + y) === i + 1) plane[y * box.width + x] = value;
        }
      }
      return plane;
    },
  }));
}

/** Steps of a chamfer distance (Borgefors 1986): along a row 3, across 4, so 3 is a pixel. */
const [ALONG, ACROSS] = [3, 4];

/**
 * The plane of a mask (height, width) with edges that fade inwards over `feather` pixels, less where it is too thin for that, so that its middle is left as
 * it is. What is 0 stays 0. The border of the plane is no edge.
 */
export function feathered(plane: Uint8Array, width: number, height: number, feather: number): Uint8Array {
  const distance = Int32Array.from(plane, (value) => (value > 0 ? 2 ** 30 : 0));
  const take = (i: number, from: number, step: number) => {
    if (distance[from] + step < distance[i]) distance[i] = distance[from] + step;
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (x > 0) take(i, i - 1, ALONG);
      if (y > 0) take(i, i - width, ALONG);
      if (x > 0 && y > 0) take(i, i - width - 1, ACROSS);
      if (x < width - 1 && y > 0) take(i, i - width + 1, ACROSS);
    }
  }
  let deepest = 0;
  for (let y = height - 1; y >= 0; y--) {
    for (let x = width - 1; x >= 0; x--) {
      const i = y * width + x;
      if (x < width - 1) take(i, i + 1, ALONG);
      if (y < height - 1) take(i, i + width, ALONG);
      if (x < width - 1 && y < height - 1) take(i, i + width + 1, ACROSS);
      if (x > 0 && y < height - 1) take(i, i + width - 1, ACROSS);
      if (distance[i] > deepest) deepest = distance[i];
    }
  }
  const reach = ALONG * (Math.min(feather, deepest / ALONG / 2) + 1);
  return plane.map((value, i) => {
    const t = Math.min(1, distance[i] / reach);
    // Never 0 within the mask, so that what is meant is touched to its last pixel.
    return value === 0 ? 0 : Math.max(1, Math.round(value * t * t * (3 - 2 * t)));
  });
}

/**
 * Lays a part over a picture with its top left pixel at (x, y): base + weight (part - base), weight (height, width) of the part, 255 is all. Samples of weight 0
 * are not touched. Changes `base`.
 */
export function layOver(
  base: { width: number; data: Uint8Array | Uint16Array },
  part: { width: number; height: number; data: Uint8Array | Uint16Array },
  weight: Uint8Array,
  { x, y }: { x: number; y: number },
): void {
  for (let row = 0; row < part.height; row++) {
    for (let column = 0; column < part.width; column++) {
      const share = weight[row * part.width + column];
      if (share === 0) continue;
      const [to, from] = [((y + row) * base.width + x + column) * 3, (row * part.width + column) * 3];
      for (let c = 0; c < 3; c++) {
        const below = base.data[to + c];
        base.data[to + c] = Math.round(below + ((part.data[from + c] - below) * share) / 255);
      }
    }
  }
}
