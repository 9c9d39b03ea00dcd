/** The golden operations of DiffBIR's networks: text tower, autoencoder, IRControlNet, and the UNet with and without it. */
import { input, type Tensor } from '../core/tensor.ts';
import { clipTokenizerJson } from '../models/clip-vocabulary.ts';
import { addedFeatures, IrControlNet } from '../models/ir-control-net.ts';
import { cleanedPrompt } from '../models/prompt-cleaning.ts';
import { SD21, StableDiffusion, type StableDiffusionConfig } from '../models/stable-diffusion.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import { ClipTokenizer } from '../models/tokenizer.ts';
import { BORDER, publishedTiles, runAutoencoder, runPublishedTiles, tileCorners, VAE_TILING } from '../restore/tiled-vae.ts';
import type { Values } from '../restore/values.ts';
import { attach } from '../weights/attach.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, type Golden, toChannelsFirst, toChannelsLast, unitImage } from './golden.ts';

/** How index.json writes the seeded models' sizes: the reference program's options. */
interface ReferenceConfig {
  text: {
    text_cfg: { context_length: number; vocab_size: number; width: number; heads: number; layers: number };
    sot: number;
    eot: number;
  };
  unet: {
    in_channels: number;
    out_channels: number;
    model_channels: number;
    attention_resolutions: number[];
    num_res_blocks: number;
    channel_mult: number[];
    num_head_channels: number;
    transformer_depth: number;
    context_dim: number;
  };
  vae: { ddconfig: { z_channels: number; ch: number; ch_mult: number[]; num_res_blocks: number } };
  latent_scale_factor: number;
}

const GROUPS = 32;

/** The sizes of the model that a case names; one without a configuration has the published ones. */
export function diffbirConfig({ weights }: CaseEntry, { folder }: VerifyContext): StableDiffusionConfig {
  const reference = folder.index.models[weights!.model!].config as unknown as ReferenceConfig | undefined;
  if (!reference) return SD21;
  const { text, unet, vae, latent_scale_factor } = reference;
  const { text_cfg: tower } = text;
  const depth = (level: number) => (unet.attention_resolutions.includes(2 ** level) ? unet.transformer_depth : 0);
  return {
    vae: { ...vae.ddconfig, norm_groups: GROUPS, scale_factor: latent_scale_factor },
    unet: {
      ...unet,
      transformer_depth: unet.channel_mult.map((_, level) => depth(level)),
      middle_depth: unet.transformer_depth,
      adm_in_channels: 0,
      norm_groups: GROUPS,
    },
    text: {
      vocab: tower.vocab_size,
      dim: tower.width,
      heads: tower.heads,
      layers: tower.layers,
      inter: 4 * tower.width,
      context_length: tower.context_length,
      sot: text.sot,
      eot: text.eot,
    },
  };
}

const f32 = ({ data }: Golden) => Float32Array.from(data);

/** Texts with the published vocabulary, cleaned and padded with 0. */
async function clipTokens({ config }: CaseEntry): Promise<Results> {
  const tokenizer = new ClipTokenizer(await clipTokenizerJson());
  const texts = await Promise.all((config.texts as string[]).map(cleanedPrompt));
  return { tokens: texts.flatMap((text) => [...tokenizer.encodePadded(text, { length: 77, pad: 'zero' })]) };
}

async function openClipText(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const config = diffbirConfig(entry, context);
  const { model } = new StableDiffusion(config).cond_stage_model;
  attach(model, entry.weights!.prefix!, await context.folder.checkpoint(entry));
  const tokens = await context.input(entry, 'tokens');
  const x = input('x', [...tokens.shape, config.text.dim]);
  const rows = await model.tokenTable.source!.readRows(Array.from(tokens.data));
  return context.runOnce(model, { context: model.forward(x) }, { x: rows });
}

async function vaeEncode(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { vae } = diffbirConfig(entry, context);
  const { first_stage_model } = new StableDiffusion(diffbirConfig(entry, context));
  attach(first_stage_model, entry.weights!.prefix!, await context.folder.checkpoint(entry));
  const picture = unitImage(await context.input(entry, 'image'));
  const encode = (x: Tensor) => first_stage_model.encode(x);
  const { y, boxes } = await autoencoded(entry, context, first_stage_model, 'encoder', encode, picture);
  const moments = toChannelsFirst(y.data, y.shape);
  const [n, h, w, c] = y.shape;
  const half = (c / 2) * h * w;
  const noise = entry.config.sample ? (await context.folder.tensor(entry, entry.noise![0])).data : null;
  const z = Float32Array.from({ length: n * half }, (_, i) => {
    const at = Math.floor(i / half) * 2 * half + (i % half);
    const spread = noise ? Math.exp(Math.min(20, Math.max(-30, moments[at + half])) / 2) * noise[i] : 0;
    return vae.scale_factor * (moments[at] + spread);
  });
  return { moments, z, ...boxes };
}

async function vaeDecode(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { vae } = diffbirConfig(entry, context);
  const { first_stage_model } = new StableDiffusion(diffbirConfig(entry, context));
  attach(first_stage_model, entry.weights!.prefix!, await context.folder.checkpoint(entry));
  const { data, shape } = toChannelsLast(await context.input(entry, 'z'));
  const z = { data: data.map((value) => value / vae.scale_factor), shape };
  const { y, boxes } = await autoencoded(entry, context, first_stage_model, 'decoder', (x) => first_stage_model.decode(x), z);
  return { x: toChannelsFirst(y.data, y.shape), ...boxes };
}

/** Half of the autoencoder, whole or in the published tiles. */
async function autoencoded(
  { config }: CaseEntry,
  { device }: VerifyContext,
  module: object,
  half: 'encoder' | 'decoder',
  build: (x: Tensor) => Tensor,
  x: Values,
): Promise<{ y: Values; boxes: Results }> {
  const tile: number | undefined = config?.tile_size;
  try {
    if (!tile) return { y: await runAutoencoder(device, half, build, x, { ...VAE_TILING, how: 'off' }), boxes: {} };
    const y = await runPublishedTiles(device, half, build, x, tile, 'normal');
    const tiles = publishedTiles(x.shape[1], x.shape[2], tile, BORDER[half], y.shape[1] / x.shape[1]);
    return { y, boxes: { input_boxes: tileCorners(tiles, 'read'), output_boxes: tileCorners(tiles, 'written') } };
  } finally {
    device.residency.releaseAll(module);
  }
}

/** Values and graph inputs of the UNet and of IRControlNet. */
async function denoiserInputs(entry: CaseEntry, context: VerifyContext, { unet }: StableDiffusionConfig) {
  const x = toChannelsLast(await context.input(entry, 'x'));
  const hint = entry.inputs.hint ? toChannelsLast(await context.input(entry, 'hint')) : null;
  const tokens = await context.input(entry, 'context');
  const times = await context.input(entry, 'timesteps');
  const timestep = timestepEmbedding(f32(times), unet.model_channels);
  return {
    values: { x: x.data, timestep, context: f32(tokens), ...(hint ? { hint: hint.data } : {}) },
    x: input('x', x.shape),
    hint: input('hint', x.shape),
    timestep: input('timestep', [times.data.length, unet.model_channels]),
    context: input('context', tokens.shape),
  };
}

async function irControlNet(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const config = diffbirConfig(entry, context);
  const control = new IrControlNet(config.unet);
  attach(control, entry.weights!.prefix!, await context.folder.checkpoint(entry));
  const { x, hint, timestep, context: text, values } = await denoiserInputs(entry, context, config);
  const features = control.forward(x, hint, timestep, text);
  const run = await context.runOnce(control, Object.fromEntries(features.map((feature, i) => [`control${i}`, feature])), values);
  return Object.fromEntries(features.map(({ shape }, i) => [`control${i}`, toChannelsFirst(run[`control${i}`], shape)]));
}

/** The UNet alone, or with IRControlNet where the case names its strength. */
async function controlLdm(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const config = diffbirConfig(entry, context);
  const checkpoint = await context.folder.checkpoint(entry);
  const { diffusion_model } = new StableDiffusion(config).model;
  attach(diffusion_model, 'model.diffusion_model.', checkpoint);
  const strength: number | undefined = entry.config?.strength;
  const control = strength === undefined ? null : attached(new IrControlNet(config.unet), checkpoint);
  const { x, hint, timestep, context: text, values } = await denoiserInputs(entry, context, config);
  const join = control ? addedFeatures(control.forward(x, hint, timestep, text), strength!) : undefined;
  const eps = diffusion_model.predict(x, timestep, text, null, join);
  const run = await context.runOnce({ diffusion_model, control }, { eps }, values);
  return { eps: toChannelsFirst(run.eps, eps.shape) };
}

function attached<M extends object>(module: M, checkpoint: Parameters<typeof attach>[2]): M {
  attach(module, '', checkpoint);
  return module;
}

export const diffbirOperations: Record<string, Operation> = {
  open_clip_text: openClipText,
  clip_tokens: clipTokens,
  diffbir_vae_encode: vaeEncode,
  diffbir_vae_decode: vaeDecode,
  ir_control_net: irControlNet,
  sd_unet: controlLdm,
  control_ldm: controlLdm,
};
