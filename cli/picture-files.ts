/** Pictures from and to files. */
import { extname } from 'node:path';
import { host } from '../host/node.ts';
import { decode } from '../image/decode.ts';
import { type DeepImage, type Image, SIZE_LIMITS } from '../image/image.ts';
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

/** Looks whether a file can be read: the picture, or null of a large one, whose header is enough. Throws UserError. */
export async function checkPicture(path: string): Promise<Image | null> {
  const enough = new Error('its size is known');
  return readPicture(path, () => {
    throw enough;
  }).catch((error) => {
    if (error !== enough) throw error;
    return null;
  });
}

type Encoder = (image: Image | DeepImage, quality: number, recipe?: Recipe<unknown>) => Promise<Uint8Array<ArrayBuffer>>;

// Each is loaded when a file is written by it.
const png: Encoder = async (image, _, recipe) => {
  const { encodePng } = await import('../image/encode.ts');
  return encodePng(image, recipe ? { text: { [RECIPE_KEYWORD]: JSON.stringify(recipe) } } : {});
};
const jpeg: Encoder = async (image, quality) => (await import('../image/encode.ts')).encodeJpeg(image as Image, quality);
const webp: Encoder = async (image, quality) => (await import('../image/webp.ts')).encodeWebp(image as Image, quality);
const tiff: Encoder = async (image) => (await import('../image/tiff.ts')).encodeTiff(image);
const avif: Encoder = async (image, quality) => (await import('../image/avif-encode.ts')).encodeAvif(image, quality);

/** Files that are written, by the ending of their names: how, and whether they hold more than 8 bits. */
const FORMATS: Readonly<Record<string, { encode: Encoder; isDeep: boolean }>> = {
  png: { encode: png, isDeep: true },
  jpg: { encode: jpeg, isDeep: false },
  jpeg: { encode: jpeg, isDeep: false },
  webp: { encode: webp, isDeep: false },
  tif: { encode: tiff, isDeep: true },
  tiff: { encode: tiff, isDeep: true },
  avif: { encode: avif, isDeep: true },
};

/** Formats by name, as --format has them. */
export const FORMAT_NAMES = ['png', 'jpg', 'webp', 'tif', 'avif'] as const;
export type FormatName = (typeof FORMAT_NAMES)[number];

/** Endings of files that are written. */
export const WRITABLE: readonly string[] = Object.keys(FORMATS).map((ending) => `.${ending}`);

const formatOf = (path: string) => FORMATS[extname(path).toLowerCase().slice(1)];

/** Whether a file of this name can have 16 bits, or AVIF's 12. */
export const canBeDeep = (path: string): boolean => formatOf(path)?.isDeep ?? false;

/** Writes a picture in the format that the name's ending says; a PNG carries the recipe. Throws UserError. */
export async function writePicture(path: string, image: Image | DeepImage, quality: number, recipe?: Recipe<unknown>): Promise<void> {
  await host.writeFileAtomic(path, await formatOf(path).encode(image, quality, recipe));
}

/** Bytes of a picture in a format. Throws UserError. */
export async function encodePicture(
  format: FormatName,
  image: Image | DeepImage,
  quality: number,
  recipe?: Recipe<unknown>,
): Promise<Uint8Array<ArrayBuffer>> {
  return FORMATS[format].encode(image, quality, recipe);
}
