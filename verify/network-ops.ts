/** The golden operations that run networks on the device: text towers, autoencoder, ZeroSFT, control network, UNet, denoiser. */
import { input, type Tensor } from '../core/tensor.ts';
import type { RunInputs } from '../gpu/program.ts';
import { add } from '../kernels/binary.ts';
import { concat } from '../kernels/copy.ts';
import { Conv2d, identity, Pointwise } from '../models/layers.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import { ZeroCrossAttn, ZeroSFT } from '../models/zero-sft.ts';
import { denoise } from '../sampler/denoiser.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import { attach } from '../weights/attach.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, type Golden, toChannelsFirst, toChannelsLast, unitImage } from './golden.ts';

const f32 = (golden: Golden) => Float32Array.from(golden.data);
const ids = (golden: Golden) => Array.from(golden.data);

async function clipL(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { networks: supir } = await context.model(entry);
  const { transformer } = supir.conditioner.embedders[0];
  const tokens = ids(await context.input(entry, 'tokens'));
  const x = input('x', [1, tokens.length, supir.config.text.tower1.dim]);
  const layers = Object.fromEntries([0, 1, entry.config.layer].map((layer) => [`hidden${layer}`, transformer.forward(x, layer)]));
  return context.run(layers, { x: await transformer.tokenTable.source!.readRows(tokens) });
}

async function bigG(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { networks: supir } = await context.model(entry);
  const { model } = supir.conditioner.embedders[1];
  const tokens = ids(await context.input(entry, 'tokens'));
  const x = input('x', [1, tokens.length, supir.config.text.tower2.dim]);
  const eot = Uint32Array.of(tokens.indexOf(supir.config.text.eot));
  return context.run({ ...model.forward(x, input('eot', [1], 'u32')) }, { x: await model.tokenTable.source!.readRows(tokens), eot });
}

async function conditioner(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const model = await context.model(entry);
  const { original_size, crop, target_size } = entry.config;
  const sizes = [...original_size, ...crop, ...target_size];
  const text = async (prefix: string) => {
    const tower1 = ids(await context.input(entry, `${prefix}clip_l_tokens`));
    return model.condition({ tower1, tower2: ids(await context.input(entry, `${prefix}bigg_tokens`)) }, sizes);
  };
  const [c, uc] = [await text(''), await text('uc_')];
  return { c_crossattn: c.context.data, c_vector: c.vector.data, uc_crossattn: uc.context.data, uc_vector: uc.vector.data };
}

async function vaeEncode(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const model = await context.model(entry);
  const { mean, logvar } = await model.encode(toChannelsLast(await context.input(entry, 'x')), entry.config.net);
  const [m, v] = [mean, logvar].map(({ data, shape }) => toChannelsFirst(data, shape));
  const noise = entry.config.sample ? (await context.folder.tensor(entry, entry.noise![0])).data : null;
  const scale = model.networks.config.vae.scale_factor;
  const perImage = m.length / mean.shape[0];
  return {
    moments: Float32Array.from({ length: 2 * m.length }, (_, i) => {
      const [image, at] = [Math.floor(i / (2 * perImage)), i % (2 * perImage)];
      return at < perImage ? m[image * perImage + at] : v[image * perImage + at - perImage];
    }),
    z: m.map((value, i) => scale * (noise ? value + Math.exp(Math.min(20, Math.max(-30, v[i])) / 2) * noise[i] : value)),
  };
}

async function vaeDecode(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const x = await (await context.model(entry)).decode(toChannelsLast(await context.input(entry, 'z')));
  return { x: toChannelsFirst(x.data, x.shape) };
}

async function vaeDenoiseDecode(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const model = await context.model(entry);
  const { mean } = await model.encode(toChannelsLast(await context.input(entry, 'x')), 'denoise_encoder');
  const x = await model.decode({ ...mean, data: mean.data.map((value) => value * model.networks.config.vae.scale_factor) });
  return { x_stage1: toChannelsFirst(x.data, x.shape) };
}

/** One network of the autoencoder by itself: an encoder before quant_conv, or the decoder after post_quant_conv. */
async function vaeNet(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { networks: supir } = await context.model(entry);
  const x = entry.inputs.image ? unitImage(await context.input(entry, 'image')) : toChannelsLast(await context.input(entry, 'x'));
  const net: 'encoder' | 'denoise_encoder' | 'decoder' = entry.config.net;
  const y = supir.first_stage_model[net].forward(input('x', x.shape));
  return { y: toChannelsFirst((await context.run({ y }, { x: x.data })).y, y.shape) };
}

/** Runs a module that has weights of its own, given channels-last inputs by name. */
async function local(
  entry: CaseEntry,
  context: VerifyContext,
  module: object,
  build: (x: Record<string, Tensor>) => Tensor,
): Promise<Results> {
  attach(module, entry.weights!.prefix!, await context.folder.checkpoint(entry));
  const given = Object.fromEntries(
    await Promise.all(Object.keys(entry.inputs).map(async (name) => [name, toChannelsLast(await context.input(entry, name))] as const)),
  );
  const out = build(Object.fromEntries(Object.entries(given).map(([name, { shape }]) => [name, input(name, shape)])));
  try {
    const result = await context.run({ out }, Object.fromEntries(Object.entries(given).map(([name, { data }]) => [name, data])));
    return { out: toChannelsFirst(result.out, out.shape) };
  } finally {
    context.device.residency.releaseAll(module);
  }
}

/** Hidden width and groups are fixed in the published ZeroSFT. */
const [SFT_HIDDEN, GROUPS] = [128, 32];

function zeroSft(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { label_nc, norm_nc, concat_channels, control_scale } = entry.config;
  const module = new ZeroSFT(label_nc, norm_nc, concat_channels, SFT_HIDDEN, GROUPS);
  if (!entry.config.norm) module.param_free_norm = new Pointwise(identity);
  return local(entry, context, module, ({ c, h, h_ori }) => module.forward(c, h, h_ori ?? null, control_scale));
}

function zeroCrossAttn(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { context_dim, query_dim, dim_head, control_scale } = entry.config;
  const module = new ZeroCrossAttn(query_dim, context_dim, dim_head, GROUPS);
  return local(entry, context, module, (x) => module.forward(x.context, x.x, control_scale));
}

function zeroConv(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const module = { zero_conv: new Conv2d(entry.config.label_nc, entry.config.norm_nc, 1) };
  return local(entry, context, module, ({ c, h, h_ori }) => {
    const out = add(h, module.zero_conv.forward(c));
    return h_ori ? concat([h_ori, out]) : out;
  });
}

/** Inputs that UNet and control cases share, as graph inputs and values. */
async function unetInputs(entry: CaseEntry, context: VerifyContext, names: string[]) {
  const values: RunInputs = {};
  const tensors: Record<string, Tensor> = {};
  for (const name of names) {
    const golden = await context.input(entry, name);
    const { data, shape } = golden.shape.length === 4 ? toChannelsLast(golden) : { data: f32(golden), shape: [...golden.shape] };
    values[name] = data;
    tensors[name] = input(name, shape);
  }
  const timesteps = (await context.input(entry, 'timesteps')).data;
  const width = (await context.model(entry)).config.unet.model_channels;
  values.timestep = timestepEmbedding(timesteps, width);
  tensors.timestep = input('timestep', [timesteps.length, width]);
  return { values, tensors };
}

async function firstLayouts(results: Record<string, Float32Array>, tensors: Record<string, Tensor>): Promise<Results> {
  return Object.fromEntries(Object.entries(results).map(([name, data]) => [name, toChannelsFirst(data, tensors[name].shape)]));
}

async function glvControl(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { networks: supir } = await context.model(entry);
  const { values, tensors: t } = await unetInputs(entry, context, ['hint', 'xt', 'context', 'y']);
  const features = supir.model.control_model.forward(t.xt, t.hint, t.timestep, t.context, t.y);
  const outputs = Object.fromEntries(features.map((feature, i) => [`control${i}`, feature]));
  return firstLayouts(await context.run(outputs, values), outputs);
}

async function unet(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { networks: supir } = await context.model(entry);
  const controls = Object.keys(entry.inputs).filter((name) => name.startsWith('control'));
  const hint = 'hint' in entry.inputs ? ['hint'] : [];
  const { values, tensors: t } = await unetInputs(entry, context, ['xt', 'context', 'y', ...hint, ...controls]);
  const features = hint.length
    ? supir.model.control_model.forward(t.xt, t.hint, t.timestep, t.context, t.y)
    : controls.map((_, i) => t[`control${i}`]);
  const control = features.length ? { features, scale: entry.config.control_scale } : null;
  const outputs = { eps: supir.model.diffusion_model.forward(t.xt, t.timestep, t.context, t.y, control) };
  return firstLayouts(await context.run(outputs, values), outputs);
}

async function denoiser(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const model = await context.model(entry);
  const [x, hint] = [toChannelsLast(await context.input(entry, 'x')), toChannelsLast(await context.input(entry, 'control'))];
  const [tokens, vector] = [await context.input(entry, 'crossattn'), await context.input(entry, 'vector')];
  const sigmas = (await context.input(entry, 'sigma')).data;
  const n = sigmas.length;
  const size = x.data.length / n;
  const denoised = new Float32Array(x.data.length);
  // One image at a time: the reference gives every image a sigma of its own, a sampler gives all the same.
  for (const [i, sigma] of sigmas.entries()) {
    const one = ({ data, shape }: { data: ArrayLike<number>; shape: readonly number[] }) => ({
      data: Float32Array.from({ length: data.length / n }, (_, at) => data[i * (data.length / n) + at]),
      shape: [1, ...shape.slice(1)],
    });
    const branch = { context: one(tokens), vector: one(vector) };
    const planned = await model.denoiser(one(hint), branch, branch);
    const result = await denoise(planned.network, new NoiseSchedule(), one(x).data, sigma, entry.config.control_scale);
    denoised.set(result.positive, i * size);
    planned.dispose();
  }
  return { denoised: toChannelsFirst(denoised, x.shape) };
}

export const networkOperations: Record<string, Operation> = {
  clip_l: clipL,
  bigg: bigG,
  conditioner,
  vae_encode: vaeEncode,
  vae_decode: vaeDecode,
  vae_denoise_decode: vaeDenoiseDecode,
  vae_net: vaeNet,
  zero_sft: zeroSft,
  zero_cross_attn: zeroCrossAttn,
  zero_conv: zeroConv,
  glv_control: glvControl,
  light_glv_unet: unet,
  sdxl_unet: unet,
  control_wrapper: unet,
  denoiser,
};
