/** What is marked on a photo, in its pixels: rectangles, strokes of a brush, and faces that were found. */
import { createMask, fillEllipse, type Mask } from '../image/mask.ts';

export interface Stroke {
  /** x and y by turns. */
  points: number[];
  radius: number;
}

export interface Marks {
  /** As the option `region` has them. */
  regions: string[];
  strokes: Stroke[];
  /** As the option `face` has them, and whether each counts; null before anybody looked. */
  faces: { box: string; on: boolean }[] | null;
}

export const UNMARKED: Marks = { regions: [], strokes: [], faces: null };

/** The mask that strokes make, white where the brush was; null without strokes. */
export function maskOfStrokes({ width, height }: { width: number; height: number }, strokes: readonly Stroke[]): Mask | null {
  if (strokes.length === 0) return null;
  const mask = createMask(width, height);
  const stamp = (x: number, y: number, radius: number) =>
    fillEllipse(mask, {
      x: Math.round(x - radius),
      y: Math.round(y - radius),
      width: Math.max(1, Math.round(2 * radius)),
      height: Math.max(1, Math.round(2 * radius)),
    });
  for (const { points, radius } of strokes) {
    for (let i = 0; i + 1 < points.length; i += 2) {
      const [x, y] = [points[i], points[i + 1]];
      const [fromX, fromY] = i > 0 ? [points[i - 2], points[i - 1]] : [x, y];
      const steps = Math.max(1, Math.ceil(Math.hypot(x - fromX, y - fromY) / Math.max(1, radius / 2)));
      for (let step = 1; step <= steps; step++) stamp(fromX + ((x - fromX) * step) / steps, fromY + ((y - fromY) * step) / steps, radius);
    }
  }
  return mask;
}
