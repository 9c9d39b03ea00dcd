/** One photo, restored: from an image file's pixels to an image of the size that was asked for. (spec of sizes: SUPIR's command line) */
import { isGrey, withoutColor } from '../image/grey.ts';
import type { DeepImage, FloatImage, Image } from '../image/image.ts';
import { opaque } from '../image/opaque.ts';
import { finish, finishDeep } from '../image/prepare.ts';
import { resize } from '../image/resize.ts';
import { images, type Values } from './networks.ts';
import type { RestoreOptions } from './options.ts';
import { Results, runStages } from './pipeline.ts';
import type { ProgressMeter } from './progress.ts';
import type { SamplerState } from './run-state.ts';
import type { Kind, Method, RestoreEvents, Size } from './stage.ts';

export interface RestoredPhoto<Options = RestoreOptions> {
  image: Image;
  /** The same with 16 bits a sample, rounded from the networks' result and not from the bytes. */
  deep(): DeepImage;
  /** The stage-1 image: degradation removed, nothing invented. */
  stage1: Image;
  /** The options that were in force. */
  options: Options;
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
export async function restorePhoto<K extends Kind>(
  method: Method<K>,
  model: K['model'],
  photo: Image,
  given: Readonly<Record<string, unknown>>,
  events: RestoreEvents = {},
  { resume = null, results = new Results<K['made']>(), meter = null }: Progressing<K['made']> = {},
): Promise<RestoredPhoto<K['options']>> {
  const options = method.choose(given, model.config);
  const { working, result: size } = method.sizes(photo, options, model.config);
  const inputs = await method.inputs(model, photo, options, events);
  const { made } = await runStages(method.stages(options), { model, options, inputs, events, resume }, results, meter);

  const alpha = photo.alpha && resizePlane(photo.alpha, photo, size.width, size.height);
  const extras = { ...(alpha ? { alpha } : {}), ...(photo.metadata ? { metadata: photo.metadata } : {}) };
  const hasNoColor = options.grey === 'keep' && isGrey(opaque(photo));
  const ofPhoto = (values: Values): FloatImage => (hasNoColor ? withoutColor(images(values)[0]) : images(values)[0]);
  const picture = (values: Values): Image => ({
    ...finish(ofPhoto(values), size.width, size.height, method.rounding ?? 'round'),
    ...extras,
  });
  const result = method.result(made);
  return {
    image: picture(result.image),
    deep: () => ({ ...finishDeep(ofPhoto(result.image), size.width, size.height), ...extras }),
    stage1: picture(result.stage1),
    options,
    working,
  };
}

/** One 8-bit plane, resized like a grey image. */
function resizePlane(plane: Uint8Array, { width, height }: Image, toWidth: number, toHeight: number): Uint8Array {
  const grey = { width, height, data: Uint8Array.from({ length: plane.length * 3 }, (_, i) => plane[Math.floor(i / 3)]) };
  const resized = resize(grey, toWidth, toHeight, 'bicubic').data;
  return Uint8Array.from({ length: toWidth * toHeight }, (_, i) => resized[3 * i]);
}
