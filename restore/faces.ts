/** Faces in a photo, as a finder gives them and as restorations take them. */
import type { Host } from '../host/host.ts';
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

/** A finder with the weights of the package, which a host reads when faces are first looked for; null where the host knows no packages. */
export function faceFinder(host: Pick<Host, 'packageFile'>): FaceFinder | null {
  const file = host.packageFile;
  if (!file) return null;
  let finder: Promise<FaceFinder> | null = null;
  const load = async () => {
    const { readFaceWeights, tinyFaceFinder } = await import('./tiny-face-detector.ts');
    const [manifest, bytes] = await Promise.all(FACE_FILES.map((path) => file(FACE_PACKAGE, path)));
    return tinyFaceFinder(readFaceWeights(manifest, bytes));
  };
  return async (image, signal) => {
    finder ??= load().catch((error) => {
      finder = null;
      throw error;
    });
    return (await finder)(image, signal);
  };
}

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
