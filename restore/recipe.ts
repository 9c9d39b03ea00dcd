/**
 * The recipe of a restoration: everything that decides its pixels. It travels inside the PNG it made, so that the picture can be made again,
 * and it identifies a run that was interrupted.
 */
import { UserError } from '../core/errors.ts';
import { VERSION } from '../core/version.ts';
import { joinBytes } from '../image/bytes.ts';
import type { Image } from '../image/image.ts';
import type { WeightDType } from '../weights/attach.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import type { LoraScaleText } from './lora-scales.ts';
import type { RestoreOptions } from './options.ts';

/** Keyword of the recipe's text chunk in a PNG. */
export const RECIPE_KEYWORD = 'supir-webgpu recipe';

export interface Recipe {
  /** Version of this program. */
  version: string;
  /** With how its weights lay in memory, where that was chosen. */
  model: { name: string; fingerprint: string; weights?: WeightDType };
  /** LoRA files in force, in order. */
  loras: { name: string; scale: LoraScaleText; fingerprint: string; merged?: boolean }[];
  /** Adapters round differently; the same one gives the same bits. */
  adapter: string;
  /** The photo: its name for people, size and SHA-256 of its pixels. */
  photo: { name: string; width: number; height: number; sha256: string };
  /** All of them, so that later defaults change nothing. */
  options: RestoreOptions;
}

export async function makeRecipe(
  photo: Image,
  name: string,
  options: RestoreOptions,
  model: Recipe['model'],
  loras: Recipe['loras'],
  adapter: string,
): Promise<Recipe> {
  const { width, height } = photo;
  return { version: VERSION, model, loras, adapter, photo: { name, width, height, sha256: await sha256(photo.data) }, options };
}

/** The recipe in a text of a PNG (image/png-chunks.ts, readPngText). Throws UserError when there is none or it is damaged. */
export function parseRecipe(text: string | undefined, file: string): Recipe {
  if (text === undefined)
    throw new UserError(`${file} carries no recipe: it was not written by this program, or another program saved it again.`);
  try {
    const recipe = JSON.parse(text) as Recipe;
    if (typeof recipe.options === 'object' && typeof recipe.photo?.sha256 === 'string' && typeof recipe.model?.fingerprint === 'string')
      return recipe;
  } catch {}
  throw new UserError(`The recipe in ${file} is damaged; give the options by hand.`);
}

/**
 * What stands in the way of making the same picture again: one sentence each; empty when the pixels will be the same. The photo must match,
 * for another one would make another picture. Throws UserError where it does not.
 */
export function compareRecipes(recipe: Recipe, now: Recipe): string[] {
  if (recipe.photo.sha256 !== now.photo.sha256) {
    throw new UserError(
      `The recipe is of ${recipe.photo.name} (${recipe.photo.width}x${recipe.photo.height}), and the photo given has other pixels. Give that photo.`,
    );
  }
  if (recipe.model.fingerprint !== now.model.fingerprint) {
    throw new UserError(
      `The recipe was made with the model '${recipe.model.name}' (${recipe.model.fingerprint.slice(0, 12)}), not '${now.model.name}' (${now.model.fingerprint.slice(0, 12)}). Give that model with --model.`,
    );
  }
  const weights = ({ model }: Recipe) => model.weights ?? 'as the files hold them';
  if (weights(recipe) !== weights(now))
    throw new UserError(
      `The recipe was made with weights ${weights(recipe)}; now they are ${weights(now)}. ${recipe.model.weights ? `Give --weights ${recipe.model.weights}` : 'Leave --weights out'}.`,
    );
  const list = ({ loras }: Recipe) =>
    loras
      .map(({ name, scale, fingerprint, merged }) => `${name}:${scale}${merged ? ' merged' : ''} (${fingerprint.slice(0, 12)})`)
      .join(', ') || 'none';
  if (list(recipe) !== list(now))
    throw new UserError(
      `The recipe was made with these LoRA files: ${list(recipe)}; now there are: ${list(now)}. Give the same with --lora.`,
    );
  const differences: string[] = [];
  if (recipe.adapter !== now.adapter)
    differences.push(`The recipe was made on another adapter (${recipe.adapter}); pixels may differ in the last bit.`);
  if (recipe.version !== now.version) differences.push(`The recipe was made by version ${recipe.version}; this is ${now.version}.`);
  return differences;
}

/** 16 hexadecimal digits that tell runs apart. */
export async function identity(recipe: Recipe): Promise<string> {
  const { name: _, ...photo } = recipe.photo;
  return (await sha256(new TextEncoder().encode(JSON.stringify({ ...recipe, photo })))).slice(0, 16);
}

/** Tensors that a fingerprint samples, and bytes of each: reading all of a 9 GB model would take longer than the restoration's start. */
const [SAMPLES, SAMPLE_BYTES] = [32, 4096];

/** SHA-256 over every tensor's name, dtype and shape and the first bytes of 32 tensors spread over the checkpoint. */
export async function fingerprint(checkpoint: Pick<Checkpoint, 'bytes' | 'info' | 'names'>): Promise<string> {
  const keys = checkpoint.names().sort();
  const index = keys.map((key) => `${key} ${checkpoint.info(key).dtype} ${checkpoint.info(key).shape.join('x')}`).join('\n');
  const parts = [new TextEncoder().encode(index)];
  for (let i = 0; i < Math.min(SAMPLES, keys.length); i++) {
    const key = keys[Math.floor((i * keys.length) / SAMPLES) % keys.length];
    const { begin, end } = checkpoint.info(key);
    parts.push(await checkpoint.bytes(key, 0, Math.min(SAMPLE_BYTES, end - begin)));
  }
  return sha256(joinBytes(...parts));
}

async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
