/**
 * How large the result is to be, for every method: a factor on the photo's sides, or sides, a long side or megapixels in its place. A size of other
 * proportions than the photo's is fitted into, or filled by a part of the photo.
 */
import { UserError } from '../core/errors.ts';
import { checkSize, SIZE_LIMITS } from '../image/image.ts';
import { flag, integer, number, sidesOf, size } from '../options/schema.ts';
import type { Box, Framed, Size } from './sizes.ts';

/** In place of a factor. */
export const TARGET_OPTIONS = {
  size: size(1, SIZE_LIMITS.maxSide, {
    group: 'size',
    default: null,
    help: 'size of the result, in place of a factor',
    more: 'A photo of other proportions is fitted into it; filling takes exactly this size. Sides that are off by less than a pixel of the photo are made exact.',
  }),
  longSide: integer(1, SIZE_LIMITS.maxSide, {
    group: 'size',
    of: 'pixels',
    default: null,
    help: "the result's long side, in place of a factor",
  }),
  megapixels: number(0.001, SIZE_LIMITS.maxPixels / 1e6, {
    group: 'size',
    of: 'n',
    default: null,
    help: "the result's millions of pixels, in place of a factor",
  }),
  fit: flag({ group: 'size', default: false, help: 'with size: the whole photo, within it; so it is without either of the two' }),
  fill: flag({
    group: 'size',
    default: false,
    help: 'with size: exactly this size, of the middle of the photo; what hangs over is cut off',
  }),
};

/** The options that say how large the result is. */
const TARGETS = ['upscale', 'size', 'longSide', 'megapixels'] as const;
const GROUP = [...TARGETS, 'fit', 'fill'] as const;

export interface Target {
  upscale?: number;
  size: string | null;
  longSide: number | null;
  megapixels: number | null;
  fit: boolean;
  fill: boolean;
}

const conflict = (option: string, message: string): UserError => new UserError(message, { code: 'option-conflict', option });

/**
 * Options of which every layer overrides those before it, the defaults first. Of the options about the result's size only those of one layer count, the last
 * that names a target. Throws UserError where a layer names two, and for what does not go together in the end.
 */
export function layered<Options extends Target>(defaults: Options, ...layers: Partial<Options>[]): Options {
  const sized = Object.fromEntries(GROUP.filter((key) => key in defaults).map((key) => [key, defaults[key]])) as Partial<Options>;
  let values = defaults;
  for (const layer of layers) {
    const named = TARGETS.filter((key) => layer[key] !== undefined && layer[key] !== null);
    // A record of all options has the factor's default beside a target.
    const told = named.length > 1 ? named.filter((key) => key !== 'upscale' || layer.upscale !== defaults.upscale) : named;
    if (told.length > 1)
      throw conflict(told[1], `The options '${told[0]}' and '${told[1]}' both say how large the result is: give one of them.`);
    values = { ...values, ...(named.length > 0 ? sized : {}), ...layer };
  }
  const { size: given, fit, fill } = values;
  if (fit && fill) throw conflict('fill', "The options 'fit' and 'fill' exclude each other: give one of them.");
  if ((fit || fill) && given === null)
    throw conflict(
      fit ? 'fit' : 'fill',
      `The option '${fit ? 'fit' : 'fill'}' says how a photo goes into a size: give the option 'size' too.`,
    );
  return values;
}

/**
 * What of a photo is restored, and at which size, unless that was settled before. Throws UserError for a result that is too large, or has no pixels.
 */
export function framed(photo: Framed, target: Target): { box: Box; framed: Framed } {
  const box = { x: 0, y: 0, width: photo.width, height: photo.height };
  if (photo.result) return { box, framed: photo };
  const { box: shown, result } = frameOf(photo, target);
  return { box: shown, framed: { ...photo, width: shown.width, height: shown.height, ...(result ? { result } : {}) } };
}

function frameOf({ width, height, name = 'photo' }: Framed, target: Target): { box: Box; result: Size | null } {
  const box = { x: 0, y: 0, width, height };
  const scaled = (scale: number) => checked({ width: Math.round(width * scale), height: Math.round(height * scale) }, name);
  if (target.longSide !== null) return { box, result: scaled(target.longSide / Math.max(width, height)) };
  if (target.megapixels !== null) return { box, result: scaled(Math.sqrt((target.megapixels * 1e6) / (width * height))) };
  if (target.size === null) return { box, result: null };
  const size = sidesOf(target.size)!;
  const [byWidth, byHeight] = [size.width / width, size.height / height];
  const scale = target.fill ? Math.max(byWidth, byHeight) : Math.min(byWidth, byHeight);
  const hangsOver = { width: Math.abs(width - size.width / scale), height: Math.abs(height - size.height / scale) };
  if (Math.max(hangsOver.width, hangsOver.height) < 1) return { box, result: checked(size, name) };
  if (!target.fill) return { box, result: scaled(scale) };
  const [w, h] = [Math.max(1, Math.round(size.width / scale)), Math.max(1, Math.round(size.height / scale))];
  return { box: { x: (width - w) >> 1, y: (height - h) >> 1, width: w, height: h }, result: checked(size, name) };
}

function checked({ width, height }: Size, name: string): Size {
  const size = { width: Math.max(1, width), height: Math.max(1, height) };
  checkSize(size.width, size.height, `${name}: the result`);
  return size;
}
