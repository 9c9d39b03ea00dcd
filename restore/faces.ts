/** Faces in a photo, as a finder gives them and as restorations take them. */
import type { Image } from '../image/image.ts';
import { MOST_FACES } from './part-options.ts';
import type { Box } from './sizes.ts';

/** In pixels of the photo. */
export interface Face extends Box {
  /** How sure the finder is, 0 to 1. */
  score: number;
}

/** Finds faces. Throws UserError where it cannot work, the signal's reason when aborted. */
export type FaceFinder = (image: Image, signal?: AbortSignal) => Promise<Face[]>;

/** Where the detector's weights are. */
export const FACE_PACKAGE = '@vladmandic/face-api';
export const FACE_FILES = ['model/tiny_face_detector_model-weights_manifest.json', 'model/tiny_face_detector_model.bin'] as const;

/** Faces as the option `face` has them, the largest of those that are too many; and how many were left out. */
export function facesChosen(found: readonly Face[], photo: { width: number; height: number }): { face: string[]; leftOut: number } {
  const inside = found.flatMap(({ x, y, width, height }) => {
    const [left, top] = [Math.max(0, Math.round(x)), Math.max(0, Math.round(y))];
    const [right, bottom] = [Math.min(photo.width, Math.round(x + width)), Math.min(photo.height, Math.round(y + height))];
    return right > left && bottom > top ? [{ x: left, y: top, width: right - left, height: bottom - top }] : [];
  });
  const largest = inside.sort((a, b) => b.width * b.height - a.width * a.height).slice(0, MOST_FACES);
  return { face: largest.map(({ x, y, width, height }) => [x, y, width, height].join(',')), leftOut: inside.length - largest.length };
}
