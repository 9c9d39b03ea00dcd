/**
 * What a person may choose for a restoration, with SUPIR's defaults. A model folder may recommend others (config.json, `recommended`);
 * what the person gives wins over both.
 */
import { UserError } from '../core/errors.ts';
import type { SupirConfig } from '../models/config.ts';
import { VAE_TILING, VAE_TILINGS, type VaeTiling } from './tiled-vae.ts';

export const COLOR_FIXES = ['wavelet', 'adain', 'none'] as const;
export type ColorFix = (typeof COLOR_FIXES)[number];

/** keep: an exactly grey photo gives an exactly grey result. free: colours are the networks' affair. */
export const GREYS = ['keep', 'free'] as const;
export type Grey = (typeof GREYS)[number];

/**
 * edm: SUPIR's own, with restoration guidance, for the SDXL base and its descendants. dpmpp2m (DPM++ 2M SDE) and euler: for distilled few-step
 * ("Lightning") bases; they know no restoration guidance, no linear control scale and no churn.
 */
export const SAMPLERS = ['edm', 'dpmpp2m', 'euler'] as const;
export type SamplerName = (typeof SAMPLERS)[number];

/** Whose noise a seed gives: PyTorch's on the CPU, or PyTorch's on an NVIDIA GPU, as the published program drew it there. */
export const RNGS = ['torch-cpu', 'torch-cuda'] as const;
export type Rng = (typeof RNGS)[number];

export interface RestoreOptions {
  sampler: SamplerName;
  /** Sampling steps, 1 to 1000. */
  steps: number;
  /** Guidance scale at the end of sampling; 1 is no guidance. */
  cfg: number;
  /** Guidance scale at the start, changing linearly with sigma. */
  cfgStart: number;
  /** Control scale: how strongly the degraded image steers, 0 to 1 (and a little above). */
  control: number;
  /** Control scale at the start, when controlLinear. */
  controlStart: number;
  /** Whether the control scale changes linearly with sigma from controlStart to control. */
  controlLinear: boolean;
  /**
   * Research: a factor on the control scale for each project module, the places where the photo steers the UNet, in order of the checkpoint: 0
   * is the last skip connection, the highest is the middle block. Empty for 1 each.
   */
  controlScalePerModule: readonly number[];
  /** Research: indices of project modules that are switched off. */
  ablate: readonly number[];
  /** Power of restoration guidance towards the stage-1 image; higher is weaker, 0 or less is off. */
  restoration: number;
  /** Noise added anew over the whole run (s_churn). */
  churn: number;
  /** Factor on the noise that is added (s_noise). */
  sNoise: number;
  /** Seed of the noise, a non-negative integer. */
  seed: number;
  rng: Rng;
  /** Latents with a side beyond this are sampled in tiles of it, in latent pixels; 0 samples every latent whole. */
  tile: number;
  /** From one tile to the next, in latent pixels; 0 is half a tile. */
  tileStride: number;
  /**
   * How the autoencoder runs: auto whole where it fits, else in tiles that give the same; exact always in these; published in the published
   * program's approximate tiles; off always whole.
   */
  vaeTiling: VaeTiling['how'];
  /** Exact tiles: MiB of a tile's largest feature map; the GPU holds some ten such. */
  vaeTileMib: number;
  /** Published tiles: side of the encoder's in pixels, and of the decoder's in latent pixels. */
  encoderTile: number;
  decoderTile: number;
  /** Factor on width and height. */
  upscale: number;
  /** The short side is enlarged to at least this many pixels while working. */
  minSize: number;
  /** What the image shows; empty is allowed. */
  prompt: string;
  /** What each tile shows, row by row, in place of `prompt`; empty for one prompt for all. */
  tilePrompts: readonly string[];
  /** Quality words, appended to the prompt without a separator. */
  positive: string;
  negative: string;
  /** How the result takes its colours from the stage-1 image. */
  colorFix: ColorFix;
  /** What becomes of a photo without any colour. */
  grey: Grey;
  /** Stop at the stage-1 image: degradation removed, no sampling. */
  stage1Only: boolean;
}

export const POSITIVE_PROMPT =
  'Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper detailed photo - realistic maximum detail, 32k, ' +
  'Color Grading, ultra HD, extreme meticulous detailing, skin pore detailing, hyper sharpness, perfect without deformations.';

export const NEGATIVE_PROMPT =
  'painting, oil painting, illustration, drawing, art, sketch, oil painting, cartoon, CG Style, 3D render, unreal engine, blurring, dirty, ' +
  'messy, worst quality, low quality, frames, watermark, signature, jpeg artifacts, deformed, lowres, over-smooth';

/** SUPIR's command line defaults. */
export const DEFAULTS: RestoreOptions = {
  sampler: 'edm',
  steps: 50,
  cfg: 4,
  cfgStart: 1,
  control: 1,
  controlStart: 0,
  controlLinear: false,
  controlScalePerModule: [],
  ablate: [],
  restoration: -1,
  churn: 5,
  sNoise: 1.01,
  seed: 1234,
  rng: 'torch-cpu',
  tile: 128,
  tileStride: 0,
  vaeTiling: VAE_TILING.how,
  vaeTileMib: VAE_TILING.tileBytes / 2 ** 20,
  encoderTile: VAE_TILING.encoderTile,
  decoderTile: VAE_TILING.decoderTile,
  upscale: 1,
  minSize: 1024,
  prompt: '',
  tilePrompts: [],
  positive: POSITIVE_PROMPT,
  negative: NEGATIVE_PROMPT,
  colorFix: 'wavelet',
  grey: 'keep',
  stage1Only: false,
};

/**
 * Settings that go together. quality and fidelity are SUPIR's own for the SDXL base and its descendants: more invented detail, or closer to the
 * photo. lightning is SUPIR's for few-step bases; fast takes such a base at the settings it was distilled for, without guidance, which
 * halves the work of a step.
 */
export const PRESETS = {
  quality: { sampler: 'edm', steps: 50, cfg: 7.5, cfgStart: 4, churn: 5, sNoise: 1.003, restoration: -1, control: 1 },
  fidelity: { sampler: 'edm', steps: 50, cfg: 4, cfgStart: 1, churn: 5, sNoise: 1.003, restoration: -1, control: 1 },
  lightning: { sampler: 'dpmpp2m', steps: 8, cfg: 2, cfgStart: 2, sNoise: 1.003, control: 1 },
  fast: { sampler: 'euler', steps: 8, cfg: 1, cfgStart: 1, control: 1 },
} satisfies Record<string, Partial<RestoreOptions>>;
export type Preset = keyof typeof PRESETS;

/** File and model names of distilled few-step bases. */
const FEW_STEP = /lightning|turbo|hyper|lcm|dmd/i;

/** Steps that a distilled model was made for, where its file's name tells: sdxl_lightning_4step_lora.safetensors. */
const distilledSteps = (name: string): number | null => Number(/(\d+)[ _-]?steps?(?![a-z])/i.exec(name)?.[1] ?? 0) || null;

/** What a LoRA that distils SDXL to few steps recommends, as a config.json would; by its file's name, else undefined. (SDXL-Lightning, arXiv 2402.13929) */
export function recommendedByLora(name: string): SupirConfig['recommended'] {
  if (!/lightning/i.test(name)) return undefined;
  return { sampler: 'euler', steps: distilledSteps(name) ?? PRESETS.fast.steps, cfg: 1, cfg_start: 1 };
}

/**
 * Why the options do not suit the base model, or null. A base is taken to be distilled to few steps if its file or model name says so.
 * `baseNames`: the SDXL checkpoint's file name, the model's name, and the names of LoRA files in force.
 */
export function unsuitable({ sampler, steps, cfg, cfgStart }: RestoreOptions, baseNames: readonly string[]): string | null {
  const fewStep = baseNames.find((name) => FEW_STEP.test(name));
  const made = fewStep === undefined ? null : distilledSteps(fewStep);
  const most = Math.max(cfg, cfgStart);
  if (fewStep && (sampler === 'edm' || most > 3))
    return `${fewStep} looks like a distilled few-step base, and the sampler ${sampler} with a guidance scale of ${most} overdrives it. Take the preset lightning or fast.`;
  if (made !== null && made !== steps)
    return `${fewStep} was distilled to ${made} steps, and ${steps} were asked for: the result will be worse than with --steps ${made}.`;
  if (!fewStep && sampler !== 'edm' && steps < 20)
    return `The sampler ${sampler} with ${steps} steps is for distilled few-step bases (Lightning), and ${baseNames[0]} does not look like one. Take the preset quality or fidelity.`;
  return null;
}

/** config.json's names of recommended settings -> ours. */
const RECOMMENDED: Record<string, keyof RestoreOptions> = {
  sampler: 'sampler',
  steps: 'steps',
  cfg: 'cfg',
  cfg_start: 'cfgStart',
  s_churn: 'churn',
  s_noise: 'sNoise',
  restore_cfg: 'restoration',
  control_scale: 'control',
  color_fix: 'colorFix',
  tile: 'tile',
  tile_stride: 'tileStride',
};

/** What a caller gives: some options, and a preset for the rest. */
export type GivenOptions = Partial<RestoreOptions> & { preset?: Preset };

/**
 * SUPIR's defaults, then the model's recommendations, then the preset, then what was given. Other properties of `given` are ignored.
 * Throws UserError naming the first impossible option.
 */
export function chooseOptions(given: GivenOptions, config: SupirConfig): RestoreOptions {
  const { preset } = given;
  if (preset !== undefined && !Object.hasOwn(PRESETS, preset))
    throw new UserError(`There is no preset '${preset}'; there are ${Object.keys(PRESETS).join(', ')}.`);
  const recommended: Partial<Record<keyof RestoreOptions, unknown>> = { minSize: config.min_size };
  for (const [key, value] of Object.entries(config.recommended ?? {})) if (key in RECOMMENDED) recommended[RECOMMENDED[key]] = value;
  const defined = Object.fromEntries(Object.entries(given).filter(([key, value]) => key in DEFAULTS && value !== undefined));
  const options = { ...DEFAULTS, ...recommended, ...(preset && PRESETS[preset]), ...defined } as RestoreOptions;
  check(options);
  return options;
}

/** Whether there is guidance, so that the negative prompt matters and a step evaluates the networks twice. */
export function isGuided({ cfg, cfgStart }: Pick<RestoreOptions, 'cfg' | 'cfgStart'>): boolean {
  return cfg !== 1 || cfgStart !== 1;
}

/** The options about the autoencoder's tiles, as it takes them. */
export function vaeTilingOf({ vaeTiling, vaeTileMib, encoderTile, decoderTile }: RestoreOptions): VaeTiling {
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
    );
  const beyond = ablate.find((index) => index >= modules);
  if (beyond !== undefined)
    throw new UserError(`The option 'ablate' names project module ${beyond}; this model has those from 0 to ${modules - 1}.`);
  return Array.from({ length: modules }, (_, i) => (ablate.includes(i) ? 0 : (controlScalePerModule[i] ?? 1)));
}

/** The range of every option that is a number: [least, most, must be an integer]. */
export const NUMBER_RANGES: Partial<Record<keyof RestoreOptions, [number, number, boolean]>> = {
  steps: [1, 1000, true],
  cfg: [0, 100, false],
  cfgStart: [0, 100, false],
  control: [0, 2, false],
  controlStart: [0, 2, false],
  restoration: [-1, 100, false],
  churn: [0, 1000, false],
  sNoise: [0, 2, false],
  seed: [0, Number.MAX_SAFE_INTEGER, true],
  tile: [0, 4096, true],
  tileStride: [0, 4096, true],
  vaeTileMib: [0.0625, 1024, false],
  encoderTile: [1, 16384, true],
  decoderTile: [1, 4096, true],
  upscale: [0.125, 16, false],
  minSize: [1, 16384, true],
};

function check(options: RestoreOptions): void {
  for (const [name, [least, most, integer]] of Object.entries(NUMBER_RANGES) as [keyof RestoreOptions, [number, number, boolean]][]) {
    const value = options[name];
    if (typeof value === 'number' && value >= least && value <= most && (!integer || Number.isInteger(value))) continue;
    throw new UserError(`The option '${name}' is ${value}; it must be ${integer ? 'an integer' : 'a number'} from ${least} to ${most}.`);
  }
  for (const name of ['prompt', 'positive', 'negative'] as const) {
    if (typeof options[name] !== 'string') throw new UserError(`The option '${name}' must be a text.`);
  }
  if (!options.controlScalePerModule.every((value) => value >= 0 && value <= 2))
    throw new UserError(
      `The option 'controlScalePerModule' is ${options.controlScalePerModule}; each factor must be a number from 0 to 2.`,
    );
  if (!options.ablate.every((index) => Number.isInteger(index) && index >= 0))
    throw new UserError(`The option 'ablate' is ${options.ablate}; it must be a list of integers from 0.`);
  const oneOf = <Name extends keyof RestoreOptions>(name: Name, choices: readonly RestoreOptions[Name][]) => {
    if (!choices.includes(options[name]))
      throw new UserError(`The option '${name}' is '${options[name]}'; it must be one of ${choices.join(', ')}.`);
  };
  oneOf('colorFix', COLOR_FIXES);
  oneOf('grey', GREYS);
  oneOf('sampler', SAMPLERS);
  oneOf('rng', RNGS);
  oneOf('vaeTiling', VAE_TILINGS);
  if (options.tile > 0 && options.tileStride > options.tile)
    throw new UserError(`Tiles of ${options.tile} with a stride of ${options.tileStride} leave gaps: the stride must be at most the tile.`);
}
