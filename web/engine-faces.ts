/** The finder of faces, with its weights from beside the page; loaded when faces are first looked for. */
import { UserError } from '../core/errors.ts';
import { faceFinder } from '../restore/face-finder.ts';
import type { FaceFinder } from '../restore/faces.ts';

async function fetched(_: string, path: string): Promise<Uint8Array> {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const response = await fetch(new URL(`../faces/${name}`, import.meta.url)).catch(() => null);
  if (!response?.ok) throw new UserError(`The finder of faces could not be loaded (${name}). Try again with a connection.`);
  return new Uint8Array(await response.arrayBuffer());
}

export const findFaces: FaceFinder = faceFinder({ packageFile: fetched })!;
