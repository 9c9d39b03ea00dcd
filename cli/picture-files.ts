/** Pictures from and to files. */
import { extname } from 'node:path';
import { factsOf, UserError } from '../core/errors.ts';
import { host } from '../host/node.ts';
import { decode } from '../image/decode.ts';
import { encodeJpeg, encodePng } from '../image/encode.ts';
import type { DeepImage, Image } from '../image/image.ts';
import { encodeWebp } from '../image/webp.ts';
import { RECIPE_KEYWORD, type Recipe } from '../restore/recipe.ts';

/** Reads a file of any format that is known. Throws UserError. */
export async function readPicture(path: string): Promise<Image> {
  try {
    return await decode(await host.readFile(path), path);
  } catch (error) {
    throw error instanceof UserError ? new UserError(error.message, { ...factsOf(error), file: path, cause: error }) : error;
  }
}

/** Writes a picture in the format that the name's ending says; a PNG carries the recipe, and only a PNG has 16 bits. Throws UserError. */
export async function writePicture(path: string, image: Image | DeepImage, quality: number, recipe?: Recipe): Promise<void> {
  await host.writeFileAtomic(path, await encoded(path, image, quality, recipe));
}

export const isPng = (path: string): boolean => extname(path).toLowerCase() === '.png';

async function encoded(path: string, image: Image | DeepImage, quality: number, recipe?: Recipe): Promise<Uint8Array<ArrayBuffer>> {
  if (extname(path).toLowerCase() === '.webp') return encodeWebp(image as Image, quality);
  if (!isPng(path)) return encodeJpeg(image as Image, quality);
  return encodePng(image, recipe ? { text: { [RECIPE_KEYWORD]: JSON.stringify(recipe) } } : {});
}
