/** One photo, restored: from an image file's pixels to an image of the size that was asked for. (spec of sizes: SUPIR's command line) */
import { isGrey, withoutColor } from '../image/grey.ts';
import type { DeepImage, FloatImage, Image } from '../image/image.ts';
import { toUnit } from '../image/image.ts';
import { finish, finishDeep, prepare } from '../image/prepare.ts';
import { resize } from '../image/resize.ts';
import type { SupirModel } from './model-folder.ts';
import type { Values } from './networks.ts';
import { chooseOptions, type GivenOptions, isGuided, type RestoreOptions, unsuitable } from './options.ts';
import { images, type RestoreEvents, restoreImages } from './pipeline.ts';
import type { SamplerState } from './run-state.ts';

export interface RestoredPhoto {
  image: Image;
  /** The same with 16 bits a sample, rounded from the networks' result and not from the bytes. */
  deep(): DeepImage;
  /** The stage-1 image: degradation removed, nothing invented. */
  stage1: Image;
  /** The options that were in force. */
  options: RestoreOptions;
  /** Size at which the networks worked, in pixels. */
  working: { width: number; height: number };
}

/** Restores `photo`. Throws UserError for impossible options or sizes, DeviceError when the GPU fails, the signal's reason when aborted. */
export async function restorePhoto(
  model: SupirModel,
  photo: Image,
  given: GivenOptions,
  events: RestoreEvents = {},
  resume: SamplerState | null = null,
): Promise<RestoredPhoto> {
  const options = chooseOptions(given, model.config);
  const warning = unsuitable(options, model.baseNames);
  if (warning) await events.warning?.(warning);
  const { image, width, height, width0, height0 } = prepare(photo, {
    upscale: options.upscale,
    minSize: options.minSize,
    multiple: model.config.image_multiple,
  });
  const unit: Values = { data: toUnit(image).data, shape: [1, height, width, 3] };
  const prompts = options.tilePrompts.length > 0 ? options.tilePrompts : [options.prompt];
  const texts = prompts.map((prompt) => prompt + options.positive);
  const tokens = { positive: texts.map((text) => model.tokens(text)), negative: model.tokens(options.negative) };
  if (!options.stage1Only) {
    for (const text of isGuided(options) ? [...texts, options.negative] : texts) {
      const cut = model.cutOff(text);
      if (cut) await events.warning?.(`The prompt is longer than ${tokens.negative.tower1.length} tokens; its end is ignored: "${cut}"`);
    }
  }
  const result = await restoreImages(model.networks, { image: unit, ...tokens, resume }, options, events);

  const alpha = photo.alpha && resizePlane(photo.alpha, photo, width0, height0);
  const extras = { ...(alpha ? { alpha } : {}), ...(photo.metadata ? { metadata: photo.metadata } : {}) };
  const hasNoColor = options.grey === 'keep' && isGrey(photo);
  const ofPhoto = (values: Values): FloatImage => (hasNoColor ? withoutColor(images(values)[0]) : images(values)[0]);
  const picture = (values: Values): Image => ({ ...finish(ofPhoto(values), width0, height0, 'round'), ...extras });
  return {
    image: picture(result.image),
    deep: () => ({ ...finishDeep(ofPhoto(result.image), width0, height0), ...extras }),
    stage1: picture(result.stage1),
    options,
    working: { width, height },
  };
}

/** One 8-bit plane, resized like a grey image. */
function resizePlane(plane: Uint8Array, { width, height }: Image, toWidth: number, toHeight: number): Uint8Array {
  const grey = { width, height, data: Uint8Array.from({ length: plane.length * 3 }, (_, i) => plane[Math.floor(i / 3)]) };
  const resized = resize(grey, toWidth, toHeight, 'bicubic').data;
  return Uint8Array.from({ length: toWidth * toHeight }, (_, i) => resized[3 * i]);
}
