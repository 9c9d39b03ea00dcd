/**
 * What a person may choose for a restoration, with SUPIR's defaults. A model folder may recommend others (config.json, `recommended`);
 * what the person gives wins over both.
 */
import { UserError } from '../core/errors.ts';
import type { SupirConfig } from '../models/config.ts';

export const COLOR_FIXES = ['wavelet', 'adain', 'none'] as const;
export type ColorFix = (typeof COLOR_FIXES)[number];

export interface RestoreOptions {
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
  /** Power of restoration guidance towards the stage-1 image; higher is weaker, 0 or less is off. */
  restoration: number;
  /** Noise added anew over the whole run (s_churn). */
  churn: number;
  /** Factor on the noise that is added (s_noise). */
  sNoise: number;
  /** Seed of PyTorch's CPU generator, a non-negative integer. */
  seed: number;
  /** Factor on width and height. */
  upscale: number;
  /** The short side is enlarged to at least this many pixels while working. */
  minSize: number;
  /** What the image shows; empty is allowed. */
  prompt: string;
  /** Quality words, appended to the prompt without a separator. */
  positive: string;
  negative: string;
  /** How the result takes its colours from the stage-1 image. */
  colorFix: ColorFix;
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
  steps: 50,
  cfg: 4,
  cfgStart: 1,
  control: 1,
  controlStart: 0,
  controlLinear: false,
  restoration: -1,
  churn: 5,
  sNoise: 1.01,
  seed: 1234,
  upscale: 1,
  minSize: 1024,
  prompt: '',
  positive: POSITIVE_PROMPT,
  negative: NEGATIVE_PROMPT,
  colorFix: 'wavelet',
  stage1Only: false,
};

/** config.json's names of recommended settings -> ours. */
const RECOMMENDED: Record<string, keyof RestoreOptions> = {
  steps: 'steps',
  cfg: 'cfg',
  cfg_start: 'cfgStart',
  s_churn: 'churn',
  s_noise: 'sNoise',
  restore_cfg: 'restoration',
  control_scale: 'control',
  color_fix: 'colorFix',
};

/** SUPIR's defaults, then the model's recommendations, then what was given. Throws UserError naming the first impossible option. */
export function chooseOptions(given: Partial<RestoreOptions>, config: SupirConfig): RestoreOptions {
  const recommended: Partial<Record<keyof RestoreOptions, unknown>> = { minSize: config.min_size };
  for (const [key, value] of Object.entries(config.recommended ?? {})) if (key in RECOMMENDED) recommended[RECOMMENDED[key]] = value;
  const defined = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const options = { ...DEFAULTS, ...recommended, ...defined } as RestoreOptions;
  check(options);
  return options;
}

/** The range of every number: [least, most, must be an integer]. */
const RANGES: Partial<Record<keyof RestoreOptions, [number, number, boolean]>> = {
  steps: [1, 1000, true],
  cfg: [0, 100, false],
  cfgStart: [0, 100, false],
  control: [0, 2, false],
  controlStart: [0, 2, false],
  restoration: [-1, 100, false],
  churn: [0, 1000, false],
  sNoise: [0, 2, false],
  seed: [0, Number.MAX_SAFE_INTEGER, true],
  upscale: [0.125, 16, false],
  minSize: [1, 16384, true],
};

function check(options: RestoreOptions): void {
  for (const [name, [least, most, integer]] of Object.entries(RANGES) as [keyof RestoreOptions, [number, number, boolean]][]) {
    const value = options[name];
    if (typeof value === 'number' && value >= least && value <= most && (!integer || Number.isInteger(value))) continue;
    throw new UserError(`The option '${name}' is ${value}; it must be ${integer ? 'an integer' : 'a number'} from ${least} to ${most}.`);
  }
  for (const name of ['prompt', 'positive', 'negative'] as const) {
    if (typeof options[name] !== 'string') throw new UserError(`The option '${name}' must be a text.`);
  }
  if (!COLOR_FIXES.includes(options.colorFix))
    throw new UserError(`The option 'colorFix' is '${options.colorFix}'; it must be one of ${COLOR_FIXES.join(', ')}.`);
}
