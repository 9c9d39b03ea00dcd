/** The networks of SUPIR as graphs of blocks, for any configuration and image size; no weights and no GPU are needed. */
import { named } from '../core/module.ts';
import { input, type Tensor } from '../core/tensor.ts';
import { latentFactor, type SupirConfig } from './config.ts';
import { type BlockGraph, blocksOf } from './graph-blocks.ts';
import { Supir } from './supir.ts';

/** denoiser: control network and UNet, as one sampling step runs them. text: both towers. */
export const NETWORK_NAMES = ['denoiser', 'unet', 'control', 'denoise_encoder', 'encoder', 'decoder', 'text'] as const;
export type NetworkName = (typeof NETWORK_NAMES)[number];

/** Paths whose attributes are a network's blocks. */
const PATHS = [
  'model.control_model',
  'model.diffusion_model',
  'first_stage_model',
  'first_stage_model.denoise_encoder',
  'first_stage_model.encoder',
  'first_stage_model.decoder',
  'conditioner.embedders.0.transformer.text_model',
  'conditioner.embedders.0.transformer.text_model.encoder',
  'conditioner.embedders.1.model',
  'conditioner.embedders.1.model.transformer',
];

/** The blocks of a network for one image of width x height pixels, sides multiples of the configuration's `image_multiple`. */
export function networkGraph(config: SupirConfig, network: NetworkName, width: number, height: number): BlockGraph {
  const supir = named(new Supir(config), '');
  return blocksOf(outputsOf(supir, network, width, height), supir, PATHS);
}

function outputsOf(supir: Supir, network: NetworkName, width: number, height: number): Record<string, Tensor> {
  const { unet, vae, text } = supir.config;
  const factor = latentFactor(supir.config);
  const latent = [1, height / factor, width / factor, vae.z_channels];
  const { model, first_stage_model, conditioner } = supir;
  if (network === 'denoiser') return supir.denoiserGraph(latent, text.context_length, 1);
  if (network === 'decoder') return { x: first_stage_model.decode(input('z', latent)) };
  if (network === 'text') return conditioner.forward();
  if (network !== 'unet' && network !== 'control') return { moments: first_stage_model.encode(input('x', [1, height, width, 3]), network) };
  const [x, timestep] = [input('x', latent), input('timestep', [1, unet.model_channels])];
  const [context, vector] = [input('context', [1, text.context_length, unet.context_dim]), input('vector', [1, unet.adm_in_channels])];
  if (network === 'unet') return { eps: model.diffusion_model.forward(x, timestep, context, vector, null) };
  return Object.fromEntries(
    model.control_model.forward(x, input('hint', latent), timestep, context, vector).map((feature, i) => [`feature${i}`, feature]),
  );
}
