/**
 * The options of a restoration as a person meets them: what each does, in a sentence, and what it takes. The command line's flags and the page's
 * form are both made from this table, so that an option has one name and one explanation everywhere.
 */
import { UserError } from '../core/errors.ts';
import { COLOR_FIXES, GREYS, type RestoreOptions, RNGS, SAMPLERS } from './options.ts';
import { VAE_TILINGS } from './tiled-vae.ts';

export const SETTING_GROUPS = ['sampling', 'noise', 'size', 'tiles', 'prompts', 'result', 'research'] as const;
export type SettingGroup = (typeof SETTING_GROUPS)[number];

/** What a setting takes. `lines` is a text of several lines, which the command line reads from a file. */
export type SettingKind =
  | { kind: 'number'; of: string }
  | { kind: 'choice'; of: string; choices: readonly string[] }
  | { kind: 'flag' }
  | { kind: 'text'; of: string }
  | { kind: 'lines'; of: string }
  | { kind: 'numbers'; of: string }
  | { kind: 'indices'; of: string };

export type Setting = SettingKind & { group: SettingGroup; help: string };

/** Every option, in the order in which they are shown. */
export const SETTINGS: { readonly [Key in keyof RestoreOptions]: Setting } = {
  sampler: { group: 'sampling', kind: 'choice', of: 'name', choices: SAMPLERS, help: 'how noise becomes a picture' },
  steps: { group: 'sampling', kind: 'number', of: 'n', help: 'sampling steps' },
  cfg: { group: 'sampling', kind: 'number', of: 'scale', help: 'guidance scale at the end' },
  cfgStart: { group: 'sampling', kind: 'number', of: 'scale', help: 'guidance scale at the start' },
  control: { group: 'sampling', kind: 'number', of: 'scale', help: 'control scale: how strongly the photo steers' },
  controlLinear: { group: 'sampling', kind: 'flag', help: 'let the control scale change over the run' },
  controlStart: { group: 'sampling', kind: 'number', of: 'scale', help: 'control scale at the start, with --control-linear' },
  restoration: {
    group: 'sampling',
    kind: 'number',
    of: 'power',
    help: 'restoration guidance towards the stage-1 image; higher is weaker, -1 is off',
  },
  churn: { group: 'sampling', kind: 'number', of: 'amount', help: 'noise added anew over the run' },
  sNoise: { group: 'sampling', kind: 'number', of: 'factor', help: 'factor on added noise' },
  seed: { group: 'noise', kind: 'number', of: 'n', help: 'seed of the noise' },
  rng: { group: 'noise', kind: 'choice', of: 'name', choices: RNGS, help: 'whose noise a seed gives' },
  upscale: { group: 'size', kind: 'number', of: 'factor', help: 'factor on width and height' },
  minSize: { group: 'size', kind: 'number', of: 'pixels', help: 'work with a short side of at least this' },
  tile: { group: 'tiles', kind: 'number', of: 'latent-pixels', help: 'sample larger latents in tiles of this; 0 never does' },
  tileStride: { group: 'tiles', kind: 'number', of: 'latent-pixels', help: 'from one tile to the next; 0 is half a tile' },
  tilePrompts: { group: 'tiles', kind: 'lines', of: 'file', help: 'a prompt for each tile, a line each, row by row' },
  vaeTiling: { group: 'tiles', kind: 'choice', of: 'how', choices: VAE_TILINGS, help: 'the autoencoder in tiles' },
  vaeTileMib: { group: 'tiles', kind: 'number', of: 'MiB', help: 'GPU memory that one of its exact tiles may take' },
  encoderTile: { group: 'tiles', kind: 'number', of: 'pixels', help: 'its published tiles, encoding' },
  decoderTile: { group: 'tiles', kind: 'number', of: 'latent-pixels', help: 'its published tiles, decoding' },
  prompt: { group: 'prompts', kind: 'text', of: 'text', help: 'what the photo shows' },
  positive: { group: 'prompts', kind: 'text', of: 'text', help: 'quality words, put right behind the prompt' },
  negative: { group: 'prompts', kind: 'text', of: 'text', help: 'what it should not look like' },
  colorFix: { group: 'result', kind: 'choice', of: 'how', choices: COLOR_FIXES, help: 'take colours from the stage-1 image' },
  grey: {
    group: 'result',
    kind: 'choice',
    of: 'how',
    choices: GREYS,
    help: 'keep a photo without any colour exactly grey, or leave it free',
  },
  controlScalePerModule: {
    group: 'research',
    kind: 'numbers',
    of: 'factors',
    help: 'research: factors on the control scale of the project modules, 12 numbers with commas, the middle block last',
  },
  ablate: { group: 'research', kind: 'indices', of: 'modules', help: 'research: switch project modules off, such as 0,3-5' },
  stage1Only: { group: 'result', kind: 'flag', help: 'stop at the stage-1 image: no sampling' },
};

export const SETTING_KEYS = Object.keys(SETTINGS) as (keyof RestoreOptions)[];

/** An option's usual name: cfgStart is cfg-start. */
export function settingName(key: keyof RestoreOptions): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** What a person typed as the value of a setting. Throws UserError saying what it must be; ranges are checked by `chooseOptions`. */
export function parseSetting(setting: SettingKind, text: string): unknown {
  switch (setting.kind) {
    case 'number':
      return parseNumber(text);
    case 'numbers':
      return text.split(',').map(parseNumber);
    case 'indices':
      return parseIndices(text);
    case 'lines':
      return text.replace(/\n$/, '').split('\n');
    default:
      return text;
  }
}

export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new UserError('It must be a number.');
  return value;
}

/** Whole numbers and ranges with commas between them: 0,3-5. */
function parseIndices(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [, first, last = first] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part) ?? [];
    if (!(Number(first) <= Number(last) && Number(last) < 1000)) throw new UserError('It must be indices from 0, such as 0,3-5.');
    return Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => Number(first) + i);
  });
}
