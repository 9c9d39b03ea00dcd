/** Parts of a photo that are restored by themselves: regions, and faces. For every method. */
import { UserError } from '../core/errors.ts';
import { boxes, flag, number, text } from '../options/schema.ts';

/** Most regions of a photo, and most faces of it that are restored. */
export const [MOST_REGIONS, MOST_FACES] = [100, 50];

export const PART_OPTIONS = {
  region: boxes(MOST_REGIONS, {
    group: 'parts',
    default: [],
    help: 'restore this part alone, enlarged to the size that the networks want; outside the photo stays as it is, bit for bit',
    more: 'In pixels of the photo, x and y from its top left corner. What comes near another region is restored with it.',
  }),
  feather: number(0, 512, {
    group: 'parts',
    of: 'pixels',
    default: 16,
    help: 'how far a part fades into the rest, within its edge',
  }),
  faces: flag({
    group: 'parts',
    default: false,
    help: 'find faces, and restore each by itself too, enlarged to the size that the networks want',
  }),
  facesOnly: flag({ group: 'parts', default: false, help: 'the same, and leave the rest of the photo as it is, bit for bit' }),
  face: boxes(MOST_FACES, {
    group: 'parts',
    default: [],
    help: 'where a face is, in place of finding them',
    more: 'Faces that were found are in the recipe in this way.',
  }),
};

export const FACE_PROMPT = {
  facePrompt: text({
    group: 'parts',
    default: "A close-up portrait photo of a person's face, natural skin, clear eyes. ",
    help: 'the prompt for faces',
  }),
};

export interface Parted {
  region: readonly string[];
  feather: number;
  faces: boolean;
  facesOnly: boolean;
  face: readonly string[];
  facePrompt?: string;
}

export const wantsFaces = ({ faces, facesOnly, face }: Parted): boolean => faces || facesOnly || face.length > 0;

/** Whether parts alone are restored, and the rest stays the photo's own. */
export const isInPlace = ({ region, facesOnly }: Parted, hasMask = false): boolean => hasMask || region.length > 0 || facesOnly;

interface Sized {
  upscale: number;
  size: string | null;
  longSide: number | null;
  megapixels: number | null;
  tilePrompts?: readonly string[];
}

/** Throws UserError for options that do not go with parts of a photo. `own`: the method's factor where nobody chose one. */
export function checkParts(options: Parted & Sized, own: number, hasMask = false): void {
  if (isInPlace(options, hasMask)) {
    const sized = (['size', 'longSide', 'megapixels'] as const).find((key) => options[key] !== null);
    const option = sized ?? (options.upscale !== own && options.upscale !== 1 ? 'upscale' : undefined);
    if (option)
      throw new UserError(
        `Parts of a photo are restored in their place, so the result has the photo's size: leave the option '${option}' out.`,
        {
          code: 'option-conflict',
          option,
        },
      );
  }
  if ((options.tilePrompts?.length ?? 0) > 0 && (isInPlace(options, hasMask) || wantsFaces(options)))
    throw new UserError(
      "Prompts for tiles are of a photo as a whole, and parts of it have other tiles: leave the option 'tilePrompts' out.",
      {
        code: 'option-conflict',
        option: 'tilePrompts',
      },
    );
}
