/**
 * A restoration in pieces: the photo as a whole, or parts of it that are laid over what stays, or over the restored whole. Each piece goes through all stages
 * of the method by itself, at the size that the networks want.
 */
import { UserError, type Warning } from '../core/errors.ts';
import { checkMask, createMask, feathered, fillBox, fillEllipse, type Mask, partsOf } from '../image/mask.ts';
import { boxOf } from '../options/schema.ts';
import { checkParts, isInPlace, MOST_REGIONS, type Parted, wantsFaces } from './part-options.ts';
import type { Box, Framed, NamedSize, Size } from './sizes.ts';
import type { Kind, Method } from './stage.ts';
import { framed } from './target-size.ts';

export interface Piece<Options> {
  what: 'photo' | 'region' | 'face';
  /** Of the photo, what the networks see. */
  box: Box;
  /** The same as a method is asked for it. */
  asked: Framed;
  /** Where its result goes in the picture; of its result's size. */
  at: Box;
  /** How much of each of its pixels counts, 0 to 255; null for all of all. */
  weight: Uint8Array | null;
  options: Options;
}

export interface Division<Options> {
  /** Of the photo, what the picture shows. */
  frame: Box;
  /** Size of the picture. */
  picture: Size;
  /** Whether the photo itself lies below the pieces. */
  inPlace: boolean;
  /** One after the other, later ones over earlier ones. */
  pieces: Piece<Options>[];
  notes: Warning[];
}

/** What lies around a part is seen too: this share of its longer side, and at least so many pixels. */
const [CONTEXT, LEAST_CONTEXT] = [0.25, 16];
/** The networks enlarge a part at most this often, where the photo has more around it. */
const MOST_ENLARGED = 8;
/** A face with hair and chin, by the box of a detector; of this ellipse this share of the shorter side fades. */
const [FACE, FACE_FEATHER] = [1.5, 0.15];

/**
 * How a photo is divided. Throws UserError for impossible options, regions that lie outside and masks of other sizes.
 */
export function divide<K extends Kind>(
  method: Method<K>,
  config: K['model']['config'],
  photo: Framed,
  options: K['options'],
  mask: Mask | null = null,
): Division<K['options']> {
  checkParts(options, method.options.upscale.default as number, mask !== null);
  const inPlace = isInPlace(options, mask !== null);
  const { region: _, face: __, ...rest } = options;
  const alone: K['options'] = { ...rest, region: [], face: [], faces: false, facesOnly: false };
  const notes: Warning[] = [];
  const { box: frame, framed: asked } = inPlace ? { box: { x: 0, y: 0, ...sizeOf(photo) }, framed: photo } : framed(photo, options);
  const picture = inPlace ? sizeOf(photo) : method.sizes(asked, alone, config).result;
  const pieces: Piece<K['options']>[] = [];
  if (!inPlace) pieces.push({ what: 'photo', box: frame, asked, at: { x: 0, y: 0, ...picture }, weight: null, options: alone });
  else pieces.push(...regionPieces(photo, options, mask, alone, notes));
  if (wantsFaces(options)) pieces.push(...facePieces(photo, frame, picture, options, alone));
  return { frame, picture, inPlace, pieces, notes };
}

const sizeOf = ({ width, height }: Size): Size => ({ width, height });

/** A part whose result has to fit into its place. */
const inPlaceOf = ({ name }: NamedSize, box: Size, at: Size): Framed => ({
  ...sizeOf(box),
  ...(name === undefined ? {} : { name }),
  result: sizeOf(at),
});

/** Short side that a part's surroundings are given where the photo has them. */
const leastSide = (options: Parted): number => Math.ceil(((options as { minSize?: number }).minSize ?? 0) / MOST_ENLARGED);

function regionPieces<Options extends Parted>(photo: NamedSize, options: Options, mask: Mask | null, alone: Options, notes: Warning[]) {
  const { width, height, name = 'photo' } = photo;
  if (!mask && options.region.length === 0) return [];
  const meant = createMask(width, height);
  if (mask) {
    checkMask(mask, photo);
    meant.data.set(mask.data);
  }
  for (const given of options.region) {
    const box = boxOf(given)!;
    if (box.x >= width || box.y >= height)
      throw new UserError(`${name}: the region ${given} lies outside the photo, which has ${width}x${height} pixels.`, {
        code: 'region-outside',
        option: 'region',
      });
    if (box.x + box.width > width || box.y + box.height > height)
      notes.push({
        code: 'region-cut',
        option: 'region',
        message: `${name}: the region ${given} goes beyond the photo (${width}x${height} pixels); what lies inside is restored.`,
      });
    fillBox(meant, box);
  }
  const parts = partsOf(meant);
  if (parts.length > MOST_REGIONS)
    throw new UserError(
      `${name}: the mask has ${parts.length} parts that lie apart, and at most ${MOST_REGIONS} are restored one by one: join them, or leave the mask out.`,
      { code: 'too-many-regions' },
    );
  return parts.map((part): Piece<Options> => {
    const box = withContext(part.box, photo, options);
    return {
      what: 'region',
      box,
      asked: inPlaceOf(photo, box, box),
      at: box,
      weight: feathered(part.within(box), box.width, box.height, options.feather),
      options: alone,
    };
  });
}

/** Faces of which something lies in the frame, the largest last, so that those in front lie over those behind. */
function facePieces<Options extends Parted>(
  photo: NamedSize,
  frame: Box,
  picture: Size,
  options: Options,
  alone: Options,
): Piece<Options>[] {
  const scale = { x: picture.width / frame.width, y: picture.height / frame.height };
  const boxes = options.face.map((text) => boxOf(text)!).sort((a, b) => a.width * a.height - b.width * b.height);
  const { facePrompt } = options;
  const own = { ...alone, ...(facePrompt === undefined ? {} : { prompt: facePrompt }) };
  return boxes.flatMap((face) => {
    const head = grown({ ...face, x: face.x - frame.x, y: face.y - frame.y }, FACE);
    if (!overlaps(head, frame)) return [];
    const inside = withContext(head, frame, options);
    const [x0, y0] = [Math.round(inside.x * scale.x), Math.round(inside.y * scale.y)];
    const [x1, y1] = [Math.round((inside.x + inside.width) * scale.x), Math.round((inside.y + inside.height) * scale.y)];
    const at = { x: x0, y: y0, width: Math.max(1, x1 - x0), height: Math.max(1, y1 - y0) };
    const plane = createMask(at.width, at.height);
    const ellipse = {
      x: Math.round(head.x * scale.x) - x0,
      y: Math.round(head.y * scale.y) - y0,
      width: Math.round(head.width * scale.x),
      height: Math.round(head.height * scale.y),
    };
    fillEllipse(plane, ellipse);
    const weight = feathered(plane.data, at.width, at.height, FACE_FEATHER * Math.min(ellipse.width, ellipse.height));
    const box = { ...inside, x: inside.x + frame.x, y: inside.y + frame.y };
    return [{ what: 'face' as const, box, asked: inPlaceOf(photo, box, at), at, weight, options: own }];
  });
}

function grown({ x, y, width, height }: Box, factor: number): Box {
  const [w, h] = [Math.round(width * factor), Math.round(height * factor)];
  return { x: x - Math.round((w - width) / 2), y: y - Math.round((h - height) / 2), width: w, height: h };
}

const overlaps = ({ x, y, width, height }: Box, size: Size) => x < size.width && y < size.height && x + width > 0 && y + height > 0;

/** A part with what lies around it, as far as the picture goes; no thinner than 1 to 2 and no smaller than the networks can make much of. */
function withContext(part: Box, picture: Size, options: Parted): Box {
  const margin = Math.max(LEAST_CONTEXT, Math.round(CONTEXT * Math.max(part.width, part.height)));
  const [width, height] = [part.width + 2 * margin, part.height + 2 * margin];
  const least = Math.max(leastSide(options), Math.ceil(Math.max(width, height) / 2));
  const along = (at: number, length: number, wanted: number, whole: number): [number, number] => {
    const size = Math.min(whole, Math.max(wanted, least));
    const middle = at + length / 2;
    return [Math.round(Math.min(whole - size, Math.max(0, middle - size / 2))), size];
  };
  const [x, w] = along(part.x, part.width, width, picture.width);
  const [y, h] = along(part.y, part.height, height, picture.height);
  return { x, y, width: w, height: h };
}
