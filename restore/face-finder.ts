/** The finder of faces on a host, loaded with its weights when it is first asked. */
import type { Host } from '../host/host.ts';
import { FACE_FILES, FACE_PACKAGE, type FaceFinder } from './faces.ts';

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
