/**
 * What a person may choose for a restoration, with SUPIR's defaults. To add an option, add it here, and use it: types, checks, flags, the page's form,
 * recipes and docs/options.md follow.
 */
import { UserError } from '../core/errors.ts';
import { choice, defaultsOf, flag, indices, integer, keysOf, lines, number, numbers, type OptionValues, text } from '../options/schema.ts';
import { FACE_PROMPT, PART_OPTIONS } from './part-options.ts';
import { TARGET_OPTIONS } from './target-size.ts';
import { VAE_TILING, VAE_TILINGS, type VaeTiling } from './tiled-vae.ts';

export const COLOR_FIXES = ['wavelet', 'adain', 'lab', 'none'] as const;
export type ColorFix = (typeof COLOR_FIXES)[number];

export const GREYS = ['keep', 'free'] as const;
export type Grey = (typeof GREYS)[number];

export const SAMPLERS = ['edm', 'dpmpp2m', 'euler'] as const;
export type SamplerName = (typeof SAMPLERS)[number];

export const STARTS = ['noise', 'photo', 'stage1'] as const;
export type Start = (typeof STARTS)[number];

export const RNGS = ['torch-cpu', 'torch-cuda'] as const;
export type Rng = (typeof RNGS)[number];

export const POSITIVE_PROMPT =
  'Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper detailed photo - realistic maximum detail, 32k, ' +
  'Color Grading, ultra HD, extreme meticulous detailing, skin pore detailing, hyper sharpness, perfect without deformations.';

export const NEGATIVE_PROMPT =
  'painting, oil painting, illustration, drawing, art, sketch, oil painting, cartoon, CG Style, 3D render, unreal engine, blurring, dirty, ' +
  'messy, worst quality, low quality, frames, watermark, signature, jpeg artifacts, deformed, lowres, over-smooth';

/** The headings that options are shown under, in order. */
export const OPTION_GROUPS = {
  sampling: 'Sampling and guidance',
  noise: 'Noise',
  photo: 'The photo',
  size: 'Size',
  parts: 'Parts and faces',
  tiles: 'Tiles',
  prompts: 'Prompts',
  result: 'Result',
  research: 'Research',
} as const;
export type OptionGroup = keyof typeof OPTION_GROUPS;

/** Every option of a restoration. Defaults are those of SUPIR's command line. */
export const OPTIONS = {
  sampler: choice(SAMPLERS, {
    group: 'sampling',
    default: 'edm',
    help: 'how noise becomes a picture',
    more: 'edm is SUPIR\'s own, with restoration guidance, for the SDXL base and its descendants. dpmpp2m (DPM++ 2M SDE) and euler are for distilled few-step ("Lightning") bases; they know no restoration guidance, no linear control scale and no churn.',
  }),
  steps: integer(1, 1000, { group: 'sampling', default: 50, help: 'sampling steps' }),
  cfg: number(0, 100, { group: 'sampling', of: 'scale', default: 4, help: 'guidance scale at the end', more: '1 is no guidance.' }),
  cfgStart: number(0, 100, {
    group: 'sampling',
    of: 'scale',
    default: 1,
    help: 'guidance scale at the start',
    more: 'Between start and end it changes linearly with sigma.',
  }),
  controlScale: number(0, 2, {
    group: 'sampling',
    of: 'scale',
    default: 1,
    aliases: ['control'],
    help: 'control scale: how strongly the photo steers',
  }),
  controlLinear: flag({ group: 'sampling', default: false, help: 'let the control scale change over the run' }),
  controlStart: number(0, 2, {
    group: 'sampling',
    of: 'scale',
    default: 0,
    help: 'control scale at the start, where it changes',
    more: 'It then changes linearly with sigma.',
  }),
  restoreCfg: number(-1, 100, {
    group: 'sampling',
    of: 'power',
    default: -1,
    aliases: ['restoration', 'restorationScale'],
    help: 'restoration guidance towards the stage-1 image; higher is weaker, -1 is off',
  }),
  sChurn: number(0, 1000, {
    group: 'sampling',
    of: 'amount',
    default: 5,
    aliases: ['churn'],
    help: 'noise added again over the run',
    more: 'In steps; a step adds at most 0.41 of its own.',
  }),
  sNoise: number(0, 2, { group: 'sampling', of: 'factor', default: 1.01, help: 'factor on added noise' }),
  sTmin: number(0, 1000, {
    group: 'sampling',
    of: 'sigma',
    default: 0,
    help: 'noise is added again only while sigma is at least this',
    more: 'Sigma goes from 14.6 to 0.',
  }),
  sTmax: number(0, 1000, { group: 'sampling', of: 'sigma', default: 1000, help: 'and at most this' }),
  start: choice(STARTS, {
    group: 'sampling',
    of: 'what',
    default: 'noise',
    help: 'what sampling begins with: noise, or the photo or the stage-1 image under noise',
  }),
  strength: number(0.01, 1, {
    group: 'sampling',
    of: 'share',
    default: 0.4,
    help: 'of such a start: the share of the steps that is sampled; less keeps more of it, and is quicker',
    more: '0.4 leaves the first 60 of 100 steps out and begins under as much noise as the next has.',
  }),
  cache: number(0, 0.9, {
    group: 'sampling',
    of: 'share',
    default: 0,
    help: 'step caching: the share of the steps that take the deep features over from the step before; quicker, and nearly the same picture',
    more: 'Of the networks they compute only the blocks at full size. They are spread evenly between the first and the last step, which are whole. 0 is off.',
  }),
  seed: integer(0, Number.MAX_SAFE_INTEGER, { group: 'noise', default: 1234, help: 'seed of the noise' }),
  rng: choice(RNGS, {
    group: 'noise',
    default: 'torch-cpu',
    help: 'whose noise a seed gives',
    more: "PyTorch's on the CPU, or PyTorch's on an NVIDIA GPU, as the published program drew it there.",
  }),
  gamma: number(0.1, 10, {
    group: 'photo',
    of: 'power',
    default: 1,
    aliases: ['gammaCorrection'],
    help: 'power that the photo is raised to first; below 1 is lighter, above 1 darker',
    more: 'For photos that are too dark or too light for the networks. The result is as light as what they saw.',
  }),
  upscale: number(0.125, 16, { group: 'size', of: 'factor', default: 1, help: 'factor on width and height' }),
  ...TARGET_OPTIONS,
  minSize: integer(1, 16384, {
    group: 'size',
    of: 'pixels',
    default: 1024,
    otherwise: "the model's, SUPIR: 1024",
    help: 'work with a short side of at least this',
  }),
  ...PART_OPTIONS,
  ...FACE_PROMPT,
  tile: integer(0, 4096, {
    group: 'tiles',
    of: 'latent-pixels',
    default: 128,
    help: 'sample larger latents in tiles of this; 0 never does',
  }),
  tileStride: integer(0, 4096, {
    group: 'tiles',
    of: 'latent-pixels',
    default: 0,
    help: 'from one tile to the next; 0 is half a tile',
  }),
  tilePrompts: lines({
    group: 'tiles',
    default: [],
    help: 'a prompt for each tile, a line each, row by row',
    more: 'In place of the prompt.',
  }),
  vaeTiling: choice(VAE_TILINGS, {
    group: 'tiles',
    of: 'how',
    default: VAE_TILING.how,
    help: 'the autoencoder in tiles',
    more: "auto runs it whole where it fits, else in tiles that give the same; exact always in these; published in the published program's approximate tiles; off always whole.",
  }),
  vaeTileMib: number(0.0625, 1024, {
    group: 'tiles',
    of: 'MiB',
    default: VAE_TILING.tileBytes / 2 ** 20,
    help: 'GPU memory that one of its exact tiles may take',
    more: "It is that of a tile's largest feature map; the GPU holds some ten such.",
  }),
  encoderTile: integer(1, 16384, { group: 'tiles', of: 'pixels', default: VAE_TILING.encoderTile, help: 'its published tiles, encoding' }),
  decoderTile: integer(1, 4096, {
    group: 'tiles',
    of: 'latent-pixels',
    default: VAE_TILING.decoderTile,
    help: 'its published tiles, decoding',
  }),
  prompt: text({
    group: 'prompts',
    default: '',
    help: 'what the photo shows; the quality words follow without a blank',
    more: 'A caption that comes from a file beside the photo is separated from them by a blank.',
  }),
  positive: text({ group: 'prompts', default: POSITIVE_PROMPT, help: 'quality words, put right behind the prompt' }),
  negative: text({ group: 'prompts', default: NEGATIVE_PROMPT, help: 'what it should not look like' }),
  colorFix: choice(COLOR_FIXES, {
    group: 'result',
    of: 'how',
    default: 'wavelet',
    help: 'take colours from the stage-1 image',
    more: 'wavelet takes the low frequencies, adain mean and spread, lab the low frequencies and then the histograms of colour, by which a light tint goes as well.',
  }),
  grey: choice(GREYS, {
    group: 'result',
    of: 'how',
    default: 'keep',
    unsaid: 'free',
    help: 'keep a photo without any colour exactly grey, or leave it free',
    more: "Left free, colours are the networks' affair.",
  }),
  controlScalePerModule: numbers(0, 2, {
    group: 'research',
    of: 'factors',
    default: [],
    help: 'research: factors on the control scale of the project modules, 12 numbers with commas, the middle block last',
    more: 'Project modules are the places where the photo steers the UNet, in order of the checkpoint: 0 is the last skip connection, the highest is the middle block.',
  }),
  ablate: indices({ group: 'research', of: 'modules', default: [], help: 'research: switch project modules off, such as 0,3-5' }),
  stage1Only: flag({ group: 'result', default: false, help: 'stop at the stage-1 image: no sampling' }),
};

export type RestoreOptions = OptionValues<typeof OPTIONS>;
/** Those that every method has; its own table may have any others. */
export type CommonOptions = Pick<RestoreOptions, 'seed' | 'grey' | 'upscale' | keyof typeof TARGET_OPTIONS | keyof typeof PART_OPTIONS>;
export type OptionKey = keyof RestoreOptions;

export const OPTION_KEYS: readonly OptionKey[] = keysOf(OPTIONS);

/** SUPIR's command line defaults. */
export const DEFAULTS: RestoreOptions = defaultsOf(OPTIONS);

/** Why a strength is of no use; null where it is, or was not chosen. */
export function idleStrength({ start, strength }: { start: string; strength: number }): string | null {
  if (strength === OPTIONS.strength.default || start === 'photo' || start === 'stage1') return null;
  return `A strength of ${strength} is of a run that begins with a picture: set the option 'start' to photo or stage1 too.`;
}

/** Two options that do not go together, and why; null where all do. */
export function conflictOf(options: RestoreOptions): { option: OptionKey; message: string } | null {
  const { tile, tileStride, sTmin, sTmax } = options;
  const idle = idleStrength(options);
  if (idle) return { option: 'strength', message: idle };
  if (tile > 0 && tileStride > tile)
    return {
      option: 'tileStride',
      message: `Tiles of ${tile} with a stride of ${tileStride} leave gaps: the stride must be at most the tile.`,
    };
  if (sTmin > sTmax)
    return {
      option: 'sTmin',
      message: `Noise from a sigma of ${sTmin} to one of ${sTmax} is none: the first must not be above the second.`,
    };
  return null;
}

/** Whether there is guidance, so that the negative prompt matters and a step evaluates the networks twice. */
export function isGuided({ cfg, cfgStart }: Pick<RestoreOptions, 'cfg' | 'cfgStart'>): boolean {
  return cfg !== 1 || cfgStart !== 1;
}

/** Whether some steps take deep features over. */
export const isCached = ({ cache }: Pick<RestoreOptions, 'cache'>): boolean => cache > 0;

/** The options about the autoencoder's tiles, as it takes them. */
export function vaeTilingOf({
  vaeTiling,
  vaeTileMib,
  encoderTile,
  decoderTile,
}: Pick<RestoreOptions, 'vaeTiling' | 'vaeTileMib' | 'encoderTile' | 'decoderTile'>): VaeTiling {
  return { ...VAE_TILING, how: vaeTiling, tileBytes: vaeTileMib * 2 ** 20, encoderTile, decoderTile };
}

/**
 * The factors on the control scale of `modules` project modules, or null where all are 1. Throws UserError when there are more or fewer factors,
 * or an index beyond them.
 */
export function moduleScalesOf({ controlScalePerModule, ablate }: RestoreOptions, modules: number): number[] | null {
  if (controlScalePerModule.length === 0 && ablate.length === 0) return null;
  if (controlScalePerModule.length > 0 && controlScalePerModule.length !== modules)
    throw new UserError(
      `The option 'controlScalePerModule' has ${controlScalePerModule.length} factors; this model has ${modules} project modules.`,
      { code: 'module-count', option: 'controlScalePerModule', values: { modules } },
    );
  const beyond = ablate.find((index) => index >= modules);
  if (beyond !== undefined)
    throw new UserError(`The option 'ablate' names project module ${beyond}; this model has those from 0 to ${modules - 1}.`, {
      code: 'module-count',
      option: 'ablate',
      values: { modules },
    });
  return Array.from({ length: modules }, (_, i) => (ablate.includes(i) ? 0 : (controlScalePerModule[i] ?? 1)));
}
