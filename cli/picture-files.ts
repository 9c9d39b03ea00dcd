/** Pictures from and to files. */
import { extname } from 'node:path';
import { host } from '../host/node.ts';
import { decode } from '../image/decode.ts';
import { encodeJpeg, encodePng } from '../image/encode.ts';
import { type DeepImage, type Image, SIZE_LIMITS } from '../image/image.ts';
import { encodeWebp } from '../image/webp.ts';
import { RECIPE_KEYWORD, type Recipe } from '../restore/recipe.ts';
import type { Size } from '../restore/stage.ts';

/** Pixels from which on a picture takes seconds and hundreds of megabytes to be read and looked at. */
const LARGE = 2 ** 22;

/**
 * Reads a file of any format that is known. What `worksOn` throws for the size of a large picture is thrown before its pixels are decoded. Throws
 * UserError.
 */
export async function readPicture(path: string, worksOn?: (size: Size) => void): Promise<Image> {
  const allows = (size: Size) => {
    if (size.width * size.height >= LARGE) worksOn?.(size);
  };
  return decode(await host.readFile(path), path, { ...SIZE_LIMITS, allows });
}

/** Looks whether a file can be read, of a large picture only its header. Throws UserError. */
export async function checkPicture(path: string): Promise<void> {
  const enough = new Error('its size is known');
  await readPicture(path, () => {
    throw enough;
  }).catch((error) => {
    if (error !== enough) throw error;
  });
}

/** Writes a picture in the format that the name's ending says; a PNG carries the recipe, and only a PNG has 16 bits. Throws UserError. */
export async function writePicture(path: string, image: Image | DeepImage, quality: number, recipe?: Recipe<unknown>): Promise<void> {
  await host.writeFileAtomic(path, await encoded(path, image, quality, recipe));
}

export const isPng = (path: string): boolean => extname(path).toLowerCase() === '.png';

async function encoded(
  path: string,
  image: Image | DeepImage,
  quality: number,
  recipe?: Recipe<unknown>,
): Promise<Uint8Array<ArrayBuffer>> {
  if (extname(path).toLowerCase() === '.webp') return encodeWebp(image as Image, quality);
  if (!isPng(path)) return encodeJpeg(image as Image, quality);
  return encodePng(image, recipe ? { text: { [RECIPE_KEYWORD]: JSON.stringify(recipe) } } : {});
}
