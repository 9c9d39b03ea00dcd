/**
 * The recipe of a restoration: everything that decides its pixels. It travels inside the PNG it made, so that the picture can be made again,
 * and it identifies a run that was interrupted.
 */
import { UserError, type Warning } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import { shown } from '../core/text.ts';
import { VERSION } from '../core/version.ts';
import type { Image } from '../image/image.ts';
import type { Mask } from '../image/mask.ts';
import type { LoraScaleText } from '../models/lora-scale.ts';
import { readOptions, type Schema, unsaidOf } from '../options/schema.ts';
import { WEIGHT_DTYPES, type WeightDType } from '../weights/attach.ts';
import { comparable } from '../weights/fingerprint.ts';
import { type CommonOptions, OPTIONS, type RestoreOptions } from './options.ts';

/** Keyword of the recipe's text chunk in a PNG. */
export const RECIPE_KEYWORD = 'supir-webgpu recipe';

export interface Recipe<Options = RestoreOptions> {
  /** Version of this program. */
  version: string;
  /** Where it is not SUPIR. */
  method?: string;
  /** With how its weights lay in memory, where that was chosen. */
  model: { name: string; fingerprint: string; weights?: WeightDType };
  /** LoRA files in force, in order. */
  loras: { name: string; scale: LoraScaleText; fingerprint: string; merged?: boolean; faces?: boolean }[];
  /** Adapters round differently; the same one gives the same bits. */
  adapter: string;
  /** The photo: its name for people, size and SHA-256 of its pixels. */
  photo: { name: string; width: number; height: number; sha256: string };
  /** SHA-256 of the mask, where there was one. */
  mask?: { sha256: string };
  /** All of them, so that later defaults change nothing. */
  options: Options;
}

export async function makeRecipe<Options>(
  photo: Image,
  name: string,
  options: Options,
  model: Recipe['model'],
  loras: Recipe['loras'],
  adapter: string,
  method = SUPIR_NAME,
  mask: Mask | null = null,
): Promise<Recipe<Options>> {
  const { width, height } = photo;
  const which = method === SUPIR_NAME ? {} : { method };
  const { data, deep } = photo;
  const pixels = deep ? Uint8Array.from(new Uint8Array(deep.buffer, deep.byteOffset, deep.byteLength)) : data;
  return {
    version: VERSION,
    ...which,
    model,
    loras,
    adapter,
    photo: { name, width, height, sha256: await sha256(pixels) },
    ...(mask ? { mask: { sha256: await sha256(mask.data) } } : {}),
    options,
  };
}

const SUPIR_NAME = 'SUPIR';
/** A method, as far as its recipes go. */
type NamedTable = { readonly name: string; readonly options: Schema };
const SUPIR_ALONE: readonly NamedTable[] = [{ name: SUPIR_NAME, options: OPTIONS }];

/** Most characters of a recipe: one has some three thousand, and prompts for tiles more. */
const RECIPE_LENGTH = 2_000_000;

/**
 * The recipe in a text of a PNG (image/png-chunks.ts, readPngText). Options may have former names; those that it lacks are newer than it, and are as they
 * were before there was a choice. `methods`: those that it may be of. Throws UserError when there is none, or naming what in it is not as it should be.
 */
export function parseRecipe(text: string | undefined, file: string): Recipe;
export function parseRecipe(text: string | undefined, file: string, methods: readonly NamedTable[]): Recipe<CommonOptions>;
export function parseRecipe(text: string | undefined, file: string, methods = SUPIR_ALONE): Recipe<object> {
  if (text === undefined)
    throw new UserError(`${file} carries no recipe: it was not written by this program, or another program saved it again.`, {
      code: 'no-recipe',
      file,
    });
  const damaged = (what: string): UserError =>
    new UserError(`The recipe in ${file} is damaged: ${what}. Give the options by hand.`, { code: 'damaged-recipe', file });
  if (text.length > RECIPE_LENGTH) throw damaged(`it has more than ${RECIPE_LENGTH} characters`);
  let recipe: unknown;
  try {
    recipe = JSON.parse(text);
  } catch {
    throw damaged('it is not JSON');
  }
  const section = (value: unknown, name: string): Record<string, unknown> => {
    if (isRecord(value)) return value;
    throw damaged(`${name} is ${shown(value)} and must be an object`);
  };
  const entry = <T>(of: Record<string, unknown>, name: string, key: string, right: string, good: (value: unknown) => boolean): T => {
    if (good(of[key])) return of[key] as T;
    throw damaged(`${name}${key} is ${shown(of[key])} and must be ${right}`);
  };
  const textOf = (of: Record<string, unknown>, name: string, key: string) =>
    entry<string>(of, name, key, 'a text of at most 4096 characters', (value) => typeof value === 'string' && value.length <= 4096);
  const side = (of: Record<string, unknown>, key: string) =>
    entry<number>(of, 'photo.', key, 'a whole number from 1', (value) => Number.isSafeInteger(value) && (value as number) >= 1);
  const optional = <Key extends string, T>(of: Record<string, unknown>, key: Key, read: () => T) =>
    (of[key] === undefined ? {} : { [key]: read() }) as { [K in Key]?: T };

  const root = section(recipe, 'it');
  const { method: name = SUPIR_NAME } = optional(root, 'method', () => textOf(root, '', 'method'));
  const method = methods.find((each) => each.name === name);
  if (!method)
    throw new UserError(`${file} was made by the method ${shown(name)}; here are: ${methods.map((each) => each.name).join(', ')}.`, {
      code: 'recipe-of-other-method',
      file,
    });
  const [model, photo] = [section(root.model, 'model'), section(root.photo, 'photo')];
  const weights = () => entry<WeightDType>(model, 'model.', 'weights', 'f16, q8 or q4', (value) => WEIGHT_DTYPES.includes(value as never));
  const loras = entry<unknown[]>(root, '', 'loras', 'a list', Array.isArray).map((given, i) => {
    const name = `loras[${i}].`;
    const lora = section(given, `loras[${i}]`);
    const isScale = (value: unknown) => typeof value === 'number' || (typeof value === 'string' && value.length <= 4096);
    return {
      name: textOf(lora, name, 'name'),
      scale: entry<LoraScaleText>(lora, name, 'scale', 'a number or a text', isScale),
      fingerprint: textOf(lora, name, 'fingerprint'),
      ...optional(lora, 'merged', () => entry<boolean>(lora, name, 'merged', 'true or false', (value) => typeof value === 'boolean')),
      ...optional(lora, 'faces', () => entry<boolean>(lora, name, 'faces', 'true or false', (value) => typeof value === 'boolean')),
    };
  });
  return {
    version: textOf(root, '', 'version'),
    ...(name === SUPIR_NAME ? {} : { method: name }),
    model: {
      name: textOf(model, 'model.', 'name'),
      fingerprint: textOf(model, 'model.', 'fingerprint'),
      ...optional(model, 'weights', weights),
    },
    loras,
    adapter: textOf(root, '', 'adapter'),
    photo: {
      name: textOf(photo, 'photo.', 'name'),
      width: side(photo, 'width'),
      height: side(photo, 'height'),
      sha256: textOf(photo, 'photo.', 'sha256'),
    },
    ...optional(root, 'mask', () => ({ sha256: textOf(section(root.mask, 'mask'), 'mask.', 'sha256') })),
    options: { ...unsaidOf(method.options), ...readOptions(method.options, root.options, { file, place: 'the recipe' }) },
  };
}

/**
 * What stands in the way of making the same picture again: a warning each; empty when the pixels will be the same. The photo must match,
 * for another one would make another picture. Throws UserError where photo, model or LoRA files do not.
 */
export function compareRecipes(recipe: Recipe<unknown>, now: Recipe<unknown>): Warning[] {
  const [was, is] = [recipe.model, now.model];
  if (recipe.photo.sha256 !== now.photo.sha256) {
    const { name, width, height } = recipe.photo;
    throw new UserError(`The recipe is of ${shown(name)} (${width}x${height}), and the photo given has other pixels. Give that photo.`, {
      code: 'recipe-of-other-photo',
    });
  }
  if (recipe.mask?.sha256 !== now.mask?.sha256) {
    const [had, has] = [recipe.mask, now.mask].map((mask) => (mask ? 'a mask' : 'none'));
    throw new UserError(
      had === has
        ? 'The recipe was made with another mask. Give that mask.'
        : `The recipe was made with ${had === 'none' ? 'no mask' : had}, and now there is ${has}.`,
      { code: 'recipe-of-other-mask', values: { mask: had } },
    );
  }
  const differences: Warning[] = [];
  const fingerprints = ({ model, loras }: Recipe<unknown>) => [model, ...loras].map(({ fingerprint }) => fingerprint);
  const isKnown = [...fingerprints(recipe), ...fingerprints(now)].every((each, _, [first]) => comparable(each, first));
  if (!isKnown)
    differences.push({
      code: 'former-fingerprints',
      message:
        'The recipe is of an earlier version, whose fingerprints of models and LoRA files cannot be compared with those of today: whether they are the same is not known.',
    });
  if (isKnown ? was.fingerprint !== is.fingerprint : was.name !== is.name)
    throw new UserError(
      `The recipe was made with the model '${shown(was.name)}' (${brief(was.fingerprint)}), not '${shown(is.name)}' (${brief(is.fingerprint)}). Give that model.`,
      { code: 'recipe-of-other-model' },
    );
  const weights = ({ model }: Recipe<unknown>) => model.weights ?? 'as the files hold them';
  if (weights(recipe) !== weights(now))
    throw new UserError(`The recipe was made with weights ${weights(recipe)}; now they are ${weights(now)}.`, {
      code: 'recipe-of-other-weights',
      values: { weights: was.weights ?? null },
    });
  const list = ({ loras }: Recipe<unknown>) =>
    loras
      .map(({ name, scale, fingerprint, merged, faces }) => {
        const print = isKnown ? ` (${brief(fingerprint)})` : '';
        return `${shown(name)}:${shown(scale)}${merged ? ' merged' : ''}${faces ? ' for faces' : ''}${print}`;
      })
      .join(', ') || 'none';
  if (list(recipe) !== list(now))
    throw new UserError(`The recipe was made with these LoRA files: ${list(recipe)}; now there are: ${list(now)}. Give the same.`, {
      code: 'recipe-of-other-loras',
    });
  if (recipe.adapter !== now.adapter)
    differences.push({
      code: 'other-adapter',
      message: `The recipe was made on another adapter (${shown(recipe.adapter)}); pixels may differ in the last bit.`,
    });
  if (recipe.version !== now.version)
    differences.push({
      code: 'other-version',
      message: `The recipe was made by version ${shown(recipe.version)}; this is ${now.version}.`,
    });
  return differences;
}

const brief = (fingerprint: string): string => shown(fingerprint.slice(0, 12));

/** 16 hexadecimal digits that tell runs apart. */
export async function identity(recipe: Recipe<unknown>): Promise<string> {
  const { name: _, ...photo } = recipe.photo;
  return (await sha256(new TextEncoder().encode(JSON.stringify({ ...recipe, photo })))).slice(0, 16);
}

/** 64 hexadecimal digits. */
export async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
