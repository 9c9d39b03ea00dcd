/** What a person may choose for a restoration by DiffBIR, and for a cleaner alone, with the published program's defaults. */
import { choice, flag, integer, number, type OptionValues } from '../options/schema.ts';
import { EDM_SOLVERS, type EdmSolver } from '../sampler/edm-solvers.ts';
import { NEGATIVE_PROMPT, OPTIONS, POSITIVE_PROMPT, STARTS } from './options.ts';
import { FACE_PROMPT, PART_OPTIONS } from './part-options.ts';
import { TARGET_OPTIONS } from './target-size.ts';

/** By the published program's names. */
export const DIFFBIR_SAMPLERS = [
  'spaced',
  'ddim',
  'dpm++_m2',
  ...(Object.keys(EDM_SOLVERS) as EdmSolver[]).map((name) => `edm_${name}` as const),
] as const;
export type DiffBirSampler = (typeof DIFFBIR_SAMPLERS)[number];

const { controlScale, cache, strength, sChurn, sNoise, sTmin, sTmax, seed, upscale, tileStride, prompt, positive, negative, grey } =
  OPTIONS;
const { vaeTiling, vaeTileMib, encoderTile, decoderTile } = OPTIONS;

const CLEANER_TILES = {
  cleanerTile: integer(0, 4096, {
    group: 'tiles',
    of: 'pixels',
    default: 0,
    help: 'the cleaner in blended tiles of this, as the published program; 0 gives the numbers of the whole',
    more: '0 runs it whole, or in exact tiles where it does not fit. Blended tiles overlap; a picture with a side below the tile is cleaned whole.',
  }),
  cleanerStride: integer(0, 4096, { group: 'tiles', of: 'pixels', default: 0, help: 'from one such tile to the next; 0 is half a tile' }),
};

export const DIFFBIR_OPTIONS = {
  sampler: choice(DIFFBIR_SAMPLERS, {
    group: 'sampling',
    default: 'edm_dpm++_3m_sde',
    help: 'how noise becomes a picture',
    more: "spaced is DDPM's on some of its levels, which the paper used and which alone knows guidance; edm_* are solvers in sigma.",
  }),
  steps: integer(1, 1000, { group: 'sampling', default: 10, help: 'sampling steps' }),
  cfg: number(0, 100, { group: 'sampling', of: 'scale', default: 6, help: 'guidance scale', more: '1 is no guidance.' }),
  rescaleCfg: flag({ group: 'sampling', default: false, help: 'let the guidance scale rise from 1 to one more than it' }),
  controlScale: { ...controlScale, help: 'strength of IRControlNet', more: 'The published program calls it strength.' },
  start: choice(['noise', 'condition', ...STARTS.slice(1)], {
    group: 'sampling',
    of: 'what',
    default: 'noise',
    aliases: ['startPointType'],
    help: 'what sampling begins with: noise, or a picture under noise',
    more: 'condition: the cleaned picture under as much noise as the last level has, as in the published program. stage1: the cleaned picture, photo: the photo, under as much noise as the strength says.',
  }),
  ...{ strength, cache },
  noiseAugmentation: integer(0, 999, {
    group: 'sampling',
    of: 'level',
    default: 0,
    aliases: ['noiseAug'],
    help: 'noise on the cleaned picture before IRControlNet sees it: more is invented; 100 to 150 for bad damage',
  }),
  sChurn: { ...sChurn, default: 0 },
  sNoise: { ...sNoise, default: 1 },
  sTmin: { ...sTmin, more: 'Sigma goes from 10,000 to 0.' },
  sTmax: { ...sTmax, default: 300 },
  eta: number(0, 1, {
    group: 'sampling',
    of: 'share',
    default: 1,
    help: 'ancestral and SDE solvers: how much of the noise is new in every step',
  }),
  order: integer(1, 4, { group: 'sampling', default: 1, help: 'edm_lms: how many slopes are combined' }),
  parameterization: choice(['auto', 'eps', 'v'], {
    group: 'sampling',
    default: 'auto',
    help: 'what the base predicts: noise (v1, v2) or velocity (v2.1)',
    more: 'auto tells it by the names of the files; their shapes are the same.',
  }),
  guidance: choice(['none', 'mse', 'w_mse'], {
    group: 'sampling',
    of: 'loss',
    default: 'none',
    help: 'restoration guidance towards the cleaned picture, of the sampler spaced; w_mse spares edges',
  }),
  guidanceSpace: choice(['rgb', 'latent'], { group: 'sampling', default: 'rgb', help: 'where the distance is measured; latent with mse' }),
  guidanceScale: number(0, 100, { group: 'sampling', of: 'scale', default: 0.5, help: 'step along its gradient' }),
  guidanceStart: number(-1, 1001, { group: 'sampling', of: 'level', default: 1001, help: 'it acts below this level' }),
  guidanceStop: number(-1, 1001, { group: 'sampling', of: 'level', default: -1, help: 'and above this' }),
  guidanceRepeat: integer(1, 100, { group: 'sampling', default: 1, help: 'how often in a step' }),
  seed: { ...seed, default: 231 },
  upscale: { ...upscale, default: 4 },
  ...TARGET_OPTIONS,
  ...PART_OPTIONS,
  ...FACE_PROMPT,
  minSize: integer(8, 16384, { group: 'size', of: 'pixels', default: 512, help: 'work with a short side of at least this' }),
  ...CLEANER_TILES,
  tile: integer(0, 4096, {
    group: 'tiles',
    of: 'latent-pixels',
    default: 0,
    help: 'sample larger latents in tiles of this, a multiple of 8; 0 never does',
  }),
  ...{ tileStride, vaeTiling, vaeTileMib, encoderTile, decoderTile },
  prompt: { ...prompt, help: 'what the photo shows; the quality words follow after a comma', more: undefined },
  positive: { ...positive, default: POSITIVE_PROMPT, help: 'quality words, put behind the prompt and a comma' },
  negative: { ...negative, default: `${NEGATIVE_PROMPT}.` },
  grey,
};

export type DiffBirChoice = OptionValues<typeof DIFFBIR_OPTIONS>;

/** A cleaner alone. */
export const CLEAN_OPTIONS = {
  seed: { ...seed, help: 'of no effect: there is no noise' },
  upscale: number(0, 16, {
    group: 'size',
    of: 'factor',
    default: 0,
    otherwise: "the network's own",
    help: 'factor on width and height',
    more: 'The result of a network with another factor is resized.',
  }),
  ...TARGET_OPTIONS,
  ...PART_OPTIONS,
  ...CLEANER_TILES,
  grey,
};

export type CleanChoice = OptionValues<typeof CLEAN_OPTIONS>;

/** The published program's settings by version and task; the photo's size stays for the task of denoising. */
const SPACED = {
  sampler: 'spaced',
  steps: 50,
  cfg: 4,
  positive: '',
  negative: 'low quality, blurry, low-resolution, noisy, unsharp, weird textures',
} as const;
const SOLVER = { sampler: 'edm_dpm++_3m_sde', steps: 10, cfg: 8 } as const;

export const DIFFBIR_PRESETS = {
  'v2.1': { help: 'for the files of v2.1, enlarging', values: { ...SOLVER, upscale: 4 } },
  'v2.1-denoise': { help: 'for the files of v2.1, size kept', values: { ...SOLVER, upscale: 1 } },
  v2: { help: 'for the files of v2, enlarging', values: { ...SPACED, upscale: 4 } },
  'v2-denoise': { help: 'for the files of v2, size kept', values: { ...SPACED, upscale: 1 } },
  v1: { help: 'for the files of v1, enlarging', values: { ...SPACED, upscale: 4 } },
  'v1-denoise': { help: 'for the files of v1, size kept', values: { ...SPACED, upscale: 1 } },
} as const satisfies Record<string, { help: string; values: Partial<DiffBirChoice> }>;
