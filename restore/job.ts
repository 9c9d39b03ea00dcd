/**
 * One photo, restored: from an image file's pixels to an image of the size that was asked for, as a whole or in pieces. (spec of sizes: SUPIR's command line)
 */

import { UserError } from '../core/errors.ts';
import { cutOut } from '../image/compose.ts';
import { isGrey, withoutColor } from '../image/grey.ts';
import { type DeepImage, deepFromUnit, type FloatImage, fromUnit, type Image } from '../image/image.ts';
import { layOver, type Mask } from '../image/mask.ts';
import { opaque } from '../image/opaque.ts';
import { resize, resizeBicubic } from '../image/resize.ts';
import { images, type Values } from './networks.ts';
import type { RestoreOptions } from './options.ts';
import { type Division, divide, type Piece } from './pieces.ts';
import { Results, runStages } from './pipeline.ts';
import type { ProgressMeter } from './progress.ts';
import type { SamplerState } from './run-state.ts';
import type { Kind, Method, RestoreEvents, Size } from './stage.ts';

export interface RestoredPhoto<Options = RestoreOptions> {
  image: Image;
  /** What of the photo it shows: the photo, unless it was cut to fill a size. */
  photo: Image;
  /** The same with 16 bits a sample, rounded from the networks' result and not from the bytes. */
  deep(): DeepImage;
  /** The stage-1 image: degradation removed, nothing invented. */
  stage1: Image;
  /** The options that were in force. */
  options: Options;
  /** Size at which the networks worked, in pixels; of several pieces that of the largest. */
  working: Size;
}

/** What a restoration takes over, and what tells of it. */
export interface Progressing<Made> {
  resume?: SamplerState | null;
  results?: Results<Made>;
  meter?: ProgressMeter | null;
}

/** A piece, restored: float pictures in [-1, 1] of the size that it takes in the picture. */
export interface RestoredPiece {
  image: FloatImage;
  stage1: FloatImage;
  working: Size;
}

/** Restores `photo`, in pieces where the options or a mask say so. Throws UserError for impossible options or sizes, DeviceError when the GPU fails, the signal's reason when aborted. */
export async function restorePhoto<K extends Kind>(
  method: Method<K>,
  model: K['model'],
  photo: Image,
  given: Readonly<Record<string, unknown>>,
  events: RestoreEvents = {},
  mask: Mask | null = null,
): Promise<RestoredPhoto<K['options']>> {
  const options = method.choose(given, model.config);
  const division = divide(method, model.config, photo, options, mask);
  const pieces: RestoredPiece[] = [];
  for (const piece of division.pieces) pieces.push(await restorePiece(method, model, photo, piece, division, events));
  return composed(method, photo, options, division, pieces);
}

/** Runs the stages for one piece. Throws as `restorePhoto`. */
export async function restorePiece<K extends Kind>(
  method: Method<K>,
  model: K['model'],
  photo: Image,
  piece: Piece<K['options']>,
  { pieces }: Pick<Division<unknown>, 'pieces'>,
  events: RestoreEvents = {},
  { resume = null, results = new Results<K['made']>(), meter = null }: Progressing<K['made']> = {},
): Promise<RestoredPiece> {
  if (events.trace && pieces.length > 1)
    throw new UserError('Activations are taken out of one picture, and this photo is restored in pieces: leave the trace out.', {
      code: 'no-trace',
    });
  const { options } = piece;
  const sizes = method.sizes(piece.asked, options, model.config);
  const inputs = await method.inputs(model, cutOut(photo, piece.box), sizes, options, events);
  const { made } = await runStages(method.stages(options), { model, options, inputs, events, resume }, results, meter);
  const { image, stage1 } = method.result(made);
  const hasNoColor = options.grey === 'keep' && isGrey(opaque(photo));
  const picture = (values: Values): FloatImage => {
    const float = hasNoColor ? withoutColor(images(values)[0]) : images(values)[0];
    return resizeBicubic(float, piece.at.width, piece.at.height);
  };
  return { image: picture(image), stage1: picture(stage1), working: sizes.working };
}

/** The picture that pieces make, over each other and over the photo where that stays. */
export function composed<K extends Kind>(
  method: Method<K>,
  whole: Image,
  options: K['options'],
  { frame, picture, inPlace, pieces }: Division<K['options']>,
  restored: readonly RestoredPiece[],
): RestoredPhoto<K['options']> {
  const photo = cutOut(whole, frame);
  const alpha = photo.alpha && (inPlace ? photo.alpha : resizePlane(photo.alpha, photo, picture.width, picture.height));
  const extras = { ...(alpha ? { alpha } : {}), ...(photo.metadata ? { metadata: photo.metadata } : {}) };
  const laid = <Picture extends Image | DeepImage>(below: () => Picture, of: (piece: RestoredPiece) => Picture): Picture => {
    const parts = restored.map(of);
    const base = inPlace ? below() : parts[0];
    for (const [i, part] of parts.entries()) {
      const { weight, at } = pieces[i];
      if (weight) layOver(base, part, weight, at);
    }
    return base;
  };
  const bytes = (of: (piece: RestoredPiece) => FloatImage): Image => ({
    ...laid(
      (): Image => ({ width: photo.width, height: photo.height, data: photo.data.slice() }),
      (piece) => fromUnit(of(piece), method.rounding ?? 'round'),
    ),
    ...extras,
  });
  return {
    image: bytes(({ image }) => image),
    photo,
    deep: () => ({
      ...laid(
        (): DeepImage => ({ width: photo.width, height: photo.height, data: Uint16Array.from(photo.data, (value) => value * 257) }),
        ({ image }) => deepFromUnit(image),
      ),
      ...extras,
    }),
    stage1: bytes(({ stage1 }) => stage1),
    options,
    working: restored.map(({ working }) => working).sort((a, b) => b.width * b.height - a.width * a.height)[0] ?? picture,
  };
}

/** One 8-bit plane, resized like a grey image. */
function resizePlane(plane: Uint8Array, { width, height }: Image, toWidth: number, toHeight: number): Uint8Array {
  const grey = { width, height, data: Uint8Array.from({ length: plane.length * 3 }, (_, i) => plane[Math.floor(i / 3)]) };
  const resized = resize(grey, toWidth, toHeight, 'bicubic').data;
  return Uint8Array.from({ length: toWidth * toHeight }, (_, i) => resized[3 * i]);
}
