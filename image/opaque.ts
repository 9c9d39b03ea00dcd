/** Pictures without their alpha. */
import type { Image } from './image.ts';

/** Alpha from which a pixel's own colour counts in full; below it there is hardly anything to see of it, and it counts by the square. */
const VISIBLE = 16;

/** Sums over squares of pixels: (height, width, 4), colours times how much they are seen, and how much that is in all. */
interface Level {
  width: number;
  height: number;
  sums: Float32Array;
}

/**
 * The picture without its alpha. Nobody sees the colours under transparent pixels, and what looks the same must give the same: they become those of
 * the visible pixels around, from the nearest square of 2x2, 4x4, 8x8 and so on pixels in which there are any. A picture that is transparent all over
 * is black.
 */
export function opaque({ width, height, data, deep, alpha }: Image): Image {
  if (!alpha) return { width, height, data, ...(deep ? { deep } : {}) };
  const seen = (i: number) => Math.min(1, alpha[i] / VISIBLE) ** 2;
  const finest = halved({ width, height }, (i, c) => (c < 3 ? data[3 * i + c] : 1) * seen(i));
  const around = filled(finest);
  const result = new Uint8Array(data);
  const deepResult = deep?.slice();
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const own = seen(i);
      if (own === 1) continue;
      const at = 3 * ((y >> 1) * finest.width + (x >> 1));
      for (let c = 0; c < 3; c++) {
        result[3 * i + c] = Math.round(own * data[3 * i + c] + (1 - own) * around[at + c]);
        if (deepResult) deepResult[3 * i + c] = Math.round(own * deep![3 * i + c] + (1 - own) * 257 * around[at + c]);
      }
    }
  }
  return { width, height, data: result, ...(deepResult ? { deep: deepResult } : {}) };
}

/** A level's colours (height, width, 3): its own as far as they are seen, and else those of the next coarser level. */
function filled(level: Level): Float32Array {
  const { width, height, sums } = level;
  const colours = new Float32Array(width * height * 3);
  const single = width * height === 1;
  const coarser = single ? level : halved(level, (i, c) => sums[4 * i + c]);
  const around = single ? new Float32Array(3) : filled(coarser);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const weight = sums[4 * i + 3];
      const own = single && weight > 0 ? 1 : Math.min(1, weight);
      const at = single ? 0 : 3 * ((y >> 1) * coarser.width + (x >> 1));
      for (let c = 0; c < 3; c++) colours[3 * i + c] = (weight > 0 ? (own * sums[4 * i + c]) / weight : 0) + (1 - own) * around[at + c];
    }
  }
  return colours;
}

/** Sums over 2x2 of `value(pixel, channel)`. */
function halved({ width, height }: { width: number; height: number }, value: (i: number, c: number) => number): Level {
  const half = { width: Math.ceil(width / 2), height: Math.ceil(height / 2) };
  const sums = new Float32Array(half.width * half.height * 4);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const at = 4 * ((y >> 1) * half.width + (x >> 1));
      for (let c = 0; c < 4; c++) sums[at + c] += value(i, c);
    }
  }
  return { ...half, sums };
}
