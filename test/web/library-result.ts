/** What the library makes of a photo that the page restored. */
import { decode } from '../../image/decode.ts';
import type { Image } from '../../image/image.ts';
import { readPngText } from '../../image/png-chunks.ts';
import { restorePhoto } from '../../restore/job.ts';
import { parseRecipe, RECIPE_KEYWORD } from '../../restore/recipe.ts';
import { SUPIR } from '../../restore/supir.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { testDevice } from '../support/device.ts';
import { projectFile } from '../support/fixtures.ts';

/** The largest difference of two pictures' values, in levels of 255. */
export const furthest = (a: Uint8Array, b: Uint8Array) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);

/** Restores `photo` with the demo model and the recipe in the page's `png`; gives the recipe's steps and how many levels apart the two are. */
export async function besideLibrary(png: Uint8Array, photo: Image): Promise<{ steps: number; apart: number }> {
  const { options } = parseRecipe(readPngText(png, 'result')[RECIPE_KEYWORD], 'result');
  const model = await SupirModel.open(await testDevice(), async (name) => bytesSource(name, await projectFile(`demo/${name}`)));
  const { image } = await restorePhoto(SUPIR, model, photo, options);
  await model.close();
  const { width, height, data } = await decode(png, 'result');
  if (width !== image.width || height !== image.height)
    throw new Error(`${width} x ${height} pixels, not ${image.width} x ${image.height}`);
  return { steps: options.steps, apart: furthest(data, image.data) };
}
