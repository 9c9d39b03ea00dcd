/** What the library makes of a photo that the page restored. */
import { decode } from '../../image/decode.ts';
import type { Image } from '../../image/image.ts';
import { readPngText } from '../../image/png-chunks.ts';
import { restorePhoto } from '../../restore/job.ts';
import { METHODS } from '../../restore/methods.ts';
import { parseRecipe, RECIPE_KEYWORD } from '../../restore/recipe.ts';
import { testDevice } from '../support/device.ts';
import { projectFile } from '../support/fixtures.ts';
import { MemoryFiles } from '../support/memory-files.ts';

/** The largest difference of two pictures' values, in levels of 255. */
export const furthest = (a: Uint8Array, b: Uint8Array) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);

/** The demo model's. */
async function demoFiles(): Promise<Map<string, Uint8Array>> {
  const names = ['config.json', 'tokenizer.json', 'sdxl.safetensors', 'supir.safetensors'];
  return new Map(await Promise.all(names.map(async (name) => [name, await projectFile(`demo/${name}`)] as const)));
}

/** Restores `photo` with a model's files and the recipe in the page's `png`; gives the recipe's options and how many levels apart the two are. */
export async function besideLibrary(
  png: Uint8Array,
  photo: Image,
  files?: ReadonlyMap<string, Uint8Array>,
): Promise<{ options: { steps?: number; cfg?: number; upscale?: number; cache?: number }; apart: number }> {
  const { method: name = 'SUPIR', options } = parseRecipe(readPngText(png, 'result')[RECIPE_KEYWORD], 'result', METHODS);
  const folder = new MemoryFiles();
  for (const [name, bytes] of files ?? (await demoFiles())) folder.files.set(`model/${name}`, Uint8Array.from(bytes));
  const method = METHODS.find((each) => each.name === name)!;
  const model = await method.open(await testDevice(), folder, 'model', {});
  const { image } = await restorePhoto(method, model, photo, { ...options });
  await model.close();
  const { width, height, data } = await decode(png, 'result');
  if (width !== image.width || height !== image.height)
    throw new Error(`${width} x ${height} pixels, not ${image.width} x ${image.height}`);
  return { options: options as object, apart: furthest(data, image.data) };
}
