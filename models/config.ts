/**
 * The sizes of a model. The published SUPIR (SDXL widths) and the tiny models are values of this one type. (spec: SDXL, arXiv 2307.01952;
 * SUPIR, arXiv 2401.13627)
 */
import { UserError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import { nameKey, plainName } from '../core/plain-name.ts';

export interface VaeConfig {
  /** Channels of the first level. */
  ch: number;
  /** Channels of each level as multiples of ch; each level but the last halves the size. */
  ch_mult: number[];
  num_res_blocks: number;
  /** Latent channels. */
  z_channels: number;
  norm_groups: number;
  /** The networks see the latent times this. */
  scale_factor: number;
}

export interface UnetConfig {
  in_channels: number;
  out_channels: number;
  model_channels: number;
  channel_mult: number[];
  num_res_blocks: number;
  /** Transformer blocks at each level; 0 means no transformer there. */
  transformer_depth: number[];
  middle_depth: number;
  /** Channels of an attention head. */
  num_head_channels: number;
  /** Channels of a text token. */
  context_dim: number;
  /** Length of the conditioning vector; 0 for none. */
  adm_in_channels: number;
  norm_groups: number;
}

/** The UNet with SUPIR's project modules. */
export interface SupirUnetConfig extends UnetConfig {
  /** Channels of ZeroSFT's shared hidden layer. */
  sft_hidden: number;
  /** Channels of an attention head in ZeroCrossAttn. */
  project_head_channels: number;
}

export interface TowerConfig {
  vocab: number;
  /** Width of a token. */
  dim: number;
  heads: number;
  layers: number;
  /** Width of the feed-forward layer. */
  inter: number;
  context_length: number;
}

export interface TextConfig {
  context_length: number;
  /** Length of each embedded number of the image's size, crop and target size. */
  size_embed_dim: number;
  /** CLIP-L: the result is the input of layer `layer_index`. Quick GELU, padded with the end token. */
  tower1: TowerConfig & { layer_index: number };
  /** OpenCLIP bigG: the result is the input of the last layer, and a pooled vector of length `embed`. Erf GELU, padded with zeros. */
  tower2: TowerConfig & { embed: number };
  /** Start and end token of both towers. */
  sot: number;
  eot: number;
}

export interface SupirConfig {
  name: string;
  /** Image sides are rounded to multiples of this. */
  image_multiple: number;
  /** The short side is enlarged to at least this. */
  min_size: number;
  vae: VaeConfig;
  unet: SupirUnetConfig;
  text: TextConfig;
  /** Options that suit this model, where they differ from SUPIR's defaults, by their names (cfg_start); checked where they are used. */
  recommended?: Record<string, unknown>;
  /** Presets of this model in place of SUPIR's: name -> { help, values }; checked where they are used. */
  presets?: Record<string, unknown>;
}

/** SDXL base with SUPIR v0. */
export const SUPIR_SDXL: SupirConfig = {
  name: 'supir-sdxl',
  image_multiple: 64,
  min_size: 1024,
  vae: { ch: 128, ch_mult: [1, 2, 4, 4], num_res_blocks: 2, z_channels: 4, norm_groups: 32, scale_factor: 0.13025 },
  unet: {
    in_channels: 4,
    out_channels: 4,
    model_channels: 320,
    channel_mult: [1, 2, 4],
    num_res_blocks: 2,
    transformer_depth: [0, 2, 10],
    middle_depth: 10,
    num_head_channels: 64,
    context_dim: 2048,
    adm_in_channels: 2816,
    norm_groups: 32,
    sft_hidden: 128,
    project_head_channels: 64,
  },
  text: {
    context_length: 77,
    size_embed_dim: 256,
    tower1: { vocab: 49408, dim: 768, heads: 12, layers: 12, inter: 3072, context_length: 77, layer_index: 11 },
    tower2: { vocab: 49408, dim: 1280, heads: 20, layers: 32, inter: 5120, context_length: 77, embed: 1280 },
    sot: 49406,
    eot: 49407,
  },
};

/** Pixels a latent pixel stands for, along one side. */
export function latentFactor(config: SupirConfig): number {
  return 2 ** (config.vae.ch_mult.length - 1);
}

/** Most that an entry may be, several times what any model has: a config.json could otherwise claim networks of a billion blocks, which are built first. */
const MOST = { width: 2 ** 17, vocab: 2 ** 20, pixels: 2 ** 14, tokens: 2 ** 12, layers: 200, depth: 100, blocks: 16, levels: 8 };
/** Most transformer blocks of a UNet. */
const TRANSFORMERS = 1000;
const LIMITS: Readonly<Record<string, number>> = {
  ...{ num_res_blocks: MOST.blocks, transformer_depth: MOST.depth, middle_depth: MOST.depth, ch_mult: 64, channel_mult: 64 },
  ...{ layers: MOST.layers, layer_index: MOST.layers, vocab: MOST.vocab, sot: MOST.vocab, eot: MOST.vocab },
  ...{ context_length: MOST.tokens, image_multiple: MOST.pixels, min_size: MOST.pixels },
};

/** The files of a model folder, by what they hold. */
export type ModelFileNames = Record<'sdxl' | 'supir' | 'tokenizer', string>;

/**
 * The names that a config.json gives to the files of its folder. Throws UserError for one that is no plain name within the folder, and for two
 * that are one file, or config.json itself.
 */
export function parseModelFiles(json: unknown, file: string): ModelFileNames {
  const files = isRecord(json) && isRecord(json.files) ? json.files : {};
  const taken = new Map([[nameKey('config.json'), 'this file itself']]);
  const named = (key: keyof ModelFileNames): string => {
    const what = `${file}: 'files.${key}'`;
    const name = plainName(files[key], what);
    const other = taken.get(nameKey(name));
    if (other !== undefined) throw new UserError(`${what} is ${name}, which is ${other} too.`);
    taken.set(nameKey(name), `'files.${key}'`);
    return name;
  };
  return { sdxl: named('sdxl'), supir: named('supir'), tokenizer: named('tokenizer') };
}

/** Bytes and values of the largest config.json accepted; they have two kB. */
export const CONFIG_LIMITS = { bytes: 2 ** 20, values: 20_000 };

/**
 * Reads a model folder's config.json. Throws UserError naming the first entry that is missing, not what it should be, or beyond any model.
 * `text.sot` and `text.eot` may stand in tower2, as in the demo model's file.
 */
export function parseConfig(json: unknown, file: string): SupirConfig {
  const fail = (path: string, expected: string): never => {
    throw new UserError(`${file}: '${path}' must be ${expected}. See demo/config.json for a complete example.`);
  };
  const section = (value: unknown, path: string): Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : fail(path, 'an object');
  const number = (object: Record<string, unknown>, path: string, key: string, least = 1): number => {
    const value = object[key];
    const most = LIMITS[key] ?? MOST.width;
    return typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most
      ? value
      : fail(`${path}.${key}`, `an integer from ${least} to ${most}`);
  };
  const numbers = (object: Record<string, unknown>, path: string, key: string, least = 1): number[] => {
    const value = object[key];
    const most = LIMITS[key] ?? MOST.width;
    const isGood = (item: unknown) => Number.isInteger(item) && (item as number) >= least && (item as number) <= most;
    const good = Array.isArray(value) && value.length > 0 && value.length <= MOST.levels && value.every(isGood);
    return good ? (value as number[]) : fail(`${path}.${key}`, `a list of at most ${MOST.levels} integers from ${least} to ${most}`);
  };
  const all = <K extends string>(object: Record<string, unknown>, path: string, keys: K[]) =>
    Object.fromEntries(keys.map((key) => [key, number(object, path, key)])) as Record<K, number>;

  const root = section(json, 'the file');
  const vae = section(root.vae, 'vae');
  const unet = section(root.unet, 'unet');
  const text = section(root.text, 'text');
  const [one, two] = [section(text.tower1, 'text.tower1'), section(text.tower2, 'text.tower2')];
  const scale = vae.scale_factor;
  const widths = ['vocab', 'dim', 'heads', 'layers', 'inter', 'context_length'] as const;
  const config: SupirConfig = {
    name: typeof root.name === 'string' && root.name.length <= 200 ? root.name : fail('name', 'a text of at most 200 characters'),
    ...all(root, 'the file', ['image_multiple', 'min_size']),
    vae: {
      ...all(vae, 'vae', ['ch', 'num_res_blocks', 'z_channels', 'norm_groups']),
      ch_mult: numbers(vae, 'vae', 'ch_mult'),
      scale_factor:
        typeof scale === 'number' && scale > 1e-6 && scale < 1e6 ? scale : fail('vae.scale_factor', 'a number from 1e-6 to 1e6'),
    },
    unet: {
      ...all(unet, 'unet', ['in_channels', 'out_channels', 'model_channels', 'num_res_blocks', 'num_head_channels']),
      ...all(unet, 'unet', ['context_dim', 'adm_in_channels', 'norm_groups', 'sft_hidden', 'project_head_channels']),
      channel_mult: numbers(unet, 'unet', 'channel_mult'),
      transformer_depth: numbers(unet, 'unet', 'transformer_depth', 0),
      middle_depth: number(unet, 'unet', 'middle_depth', 0),
    },
    text: {
      ...all(text, 'text', ['context_length', 'size_embed_dim']),
      tower1: { ...all(one, 'text.tower1', [...widths]), layer_index: number(one, 'text.tower1', 'layer_index') },
      tower2: { ...all(two, 'text.tower2', [...widths]), embed: number(two, 'text.tower2', 'embed') },
      sot: number('sot' in text ? text : two, 'text.tower2', 'sot', 0),
      eot: number('eot' in text ? text : two, 'text.tower2', 'eot', 0),
    },
  };
  const { layer_index, layers } = config.text.tower1;
  if (layer_index >= layers) fail('text.tower1.layer_index', `below text.tower1.layers, which is ${layers}, and not ${layer_index}`);
  if (config.unet.channel_mult.length !== config.unet.transformer_depth.length)
    fail('unet.transformer_depth', 'as long as unet.channel_mult');
  const { num_res_blocks, transformer_depth, middle_depth } = config.unet;
  const transformers = transformer_depth.reduce((sum, depth) => sum + depth * (2 * num_res_blocks + 1), middle_depth);
  if (transformers > TRANSFORMERS) fail('unet.transformer_depth', `at most ${TRANSFORMERS} blocks in all, and it makes ${transformers}`);
  const { tower1, tower2, sot, eot } = config.text;
  if (Math.max(sot, eot) >= Math.min(tower1.vocab, tower2.vocab))
    fail('text.tower2.eot', 'below the vocabularies of both towers, as must sot');
  if (root.recommended !== undefined) config.recommended = section(root.recommended, 'recommended');
  if (root.presets !== undefined) config.presets = section(root.presets, 'presets');
  return config;
}
