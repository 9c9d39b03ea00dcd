/** One photo, restored: from an image file's pixels to an image of the size that was asked for. (spec of sizes: SUPIR's command line) */
import { isGrey, withoutColor } from '../image/grey.ts';
import type { DeepImage, FloatImage, Image } from '../image/image.ts';
import { toUnit } from '../image/image.ts';
import { opaque } from '../image/opaque.ts';
import { finish, finishDeep, prepare } from '../image/prepare.ts';
import { resize } from '../image/resize.ts';
import { chooseOptions, type GivenOptions } from './choose-options.ts';
import { unsuitable } from './few-step.ts';
import type { Model } from './model.ts';
import { images, type Values } from './networks.ts';
import type { RestoreOptions } from './options.ts';
import { Results, runStages } from './pipeline.ts';
import type { ProgressMeter } from './progress.ts';
import type { SamplerState } from './run-state.ts';
import type { Method, RestoreEvents, Size } from './stage.ts';

export interface RestoredPhoto {
  image: Image;
  /** The same with 16 bits a sample, rounded from the networks' result and not from the bytes. */
  deep(): DeepImage;
  /** The stage-1 image: degradation removed, nothing invented. */
  stage1: Image;
  /** The options that were in force. */
  options: RestoreOptions;
  /** Size at which the networks worked, in pixels. */
  working: Size;
}

/** What a restoration takes over, and what tells of it. */
export interface Progressing<Made> {
  resume?: SamplerState | null;
  results?: Results<Made>;
  meter?: ProgressMeter | null;
}

/** Restores `photo`. Throws UserError for impossible options or sizes, DeviceError when the GPU fails, the signal's reason when aborted. */
export async function restorePhoto<M extends Model, Inputs, Made>(
  method: Method<M, Inputs, Made>,
  model: M,
  photo: Image,
  given: GivenOptions,
  events: RestoreEvents = {},
  { resume = null, results = new Results<Made>(), meter = null }: Progressing<Made> = {},
): Promise<RestoredPhoto> {
  const options = chooseOptions(given, model.config);
  const warning = unsuitable(options, model.baseNames, model.config);
  if (warning) await events.warning?.(warning);
  const { image, width, height, width0, height0 } = prepare(photo, {
    upscale: options.upscale,
    minSize: options.minSize,
    multiple: model.config.image_multiple,
  });
  const inputs = await method.inputs(model, { data: toUnit(image).data, shape: [1, height, width, 3] }, options, events);
  const { made } = await runStages(method.stages(options), { model, options, inputs, events, resume }, results, meter);

  const alpha = photo.alpha && resizePlane(photo.alpha, photo, width0, height0);
  const extras = { ...(alpha ? { alpha } : {}), ...(photo.metadata ? { metadata: photo.metadata } : {}) };
  const hasNoColor = options.grey === 'keep' && isGrey(opaque(photo));
  const ofPhoto = (values: Values): FloatImage => (hasNoColor ? withoutColor(images(values)[0]) : images(values)[0]);
  const picture = (values: Values): Image => ({ ...finish(ofPhoto(values), width0, height0, 'round'), ...extras });
  const result = method.result(made);
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
