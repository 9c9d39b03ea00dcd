/** What a person may choose for an evaluation, beside the methods and the options of their restorations. */
import { DEGRADATION } from '../image/degrade.ts';
import { integer, type OptionValues, text, texts } from '../options/schema.ts';

/** The headings that options are shown under, in order. */
export const EVALUATION_GROUPS = { measuring: 'Photos and measures', damage: 'Damage' } as const;

export const EVALUATION = {
  baseline: text({ group: 'measuring', of: 'name', default: 'supir', help: 'the method that others are compared with' }),
  ...DEGRADATION,
  damageSeed: integer(0, Number.MAX_SAFE_INTEGER, { group: 'damage', default: 0, help: 'of the damage' }),
  crop: integer(0, 65536, {
    group: 'measuring',
    of: 'pixels',
    default: 0,
    help: "take each photo's middle, at most so many pixels a side; 0 takes all",
  }),
  lpips: texts({ group: 'measuring', of: 'files', default: [], help: "torchvision's AlexNet or VGG16, and the LPIPS heads for it" }),
  figureRows: integer(0, 1000, { group: 'measuring', default: 8, help: 'photos in figure.png' }),
  prompt: text({ group: 'measuring', default: null, help: 'what photos without a caption show' }),
};
export type EvaluationOptions = OptionValues<typeof EVALUATION>;
