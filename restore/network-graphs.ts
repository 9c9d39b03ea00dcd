/** The networks of SUPIR as graphs of blocks, for any configuration and image size; no weights and no GPU are needed. */
import { named } from '../core/module.ts';
import { input, type Tensor } from '../core/tensor.ts';
import { type BlockGraph, blocksOf } from '../drawing/graph-blocks.ts';
import { latentFactor, type SupirConfig } from '../models/config.ts';
import type { Supir } from '../models/supir.ts';
import { DEFAULTS } from './options.ts';
import type { Size } from './stage.ts';
import { SUPIR } from './supir.ts';

/** Without guidance, in one piece. */
const PLAIN = { ...DEFAULTS, cfg: 1, cfgStart: 1, tile: 0 };

/** What the stages run: denoiser is control network and UNet, as one sampling step runs them, text both towers. */
const GRAPHS = new Map(
  SUPIR.stages(PLAIN).map(({ graph, build }) => [graph, (networks: Supir, size: Size) => build(networks, PLAIN, size)]),
);
/** The two of the denoiser by themselves. */
GRAPHS.set('unet', (networks, size) => {
  const { x, timestep, context, vector } = denoiserInputs(networks.config, size);
  return { eps: networks.model.diffusion_model.forward(x, timestep, context, vector, null) };
});
GRAPHS.set('control', (networks, size) => {
  const { x, hint, timestep, context, vector } = denoiserInputs(networks.config, size);
  const features = networks.model.control_model.forward(x, hint, timestep, context, vector);
  return Object.fromEntries(features.map((feature, i) => [`feature${i}`, feature]));
});

export const NETWORK_NAMES: readonly string[] = [...GRAPHS.keys()];

/** The blocks of a network for one image of width x height pixels, sides multiples of the configuration's `image_multiple`. */
export function networkGraph(config: SupirConfig, name: string, width: number, height: number): BlockGraph {
  const networks = named(SUPIR.networks(config), '');
  return blocksOf(GRAPHS.get(name)!(networks, { width, height }), networks);
}

function denoiserInputs(config: SupirConfig, { width, height }: Size): Record<string, Tensor> {
  const { unet, vae, text } = config;
  const factor = latentFactor(config);
  const latent = [1, height / factor, width / factor, vae.z_channels];
  return {
    x: input('x', latent),
    hint: input('hint', latent),
    timestep: input('timestep', [1, unet.model_channels]),
    context: input('context', [1, text.context_length, unet.context_dim]),
    vector: input('vector', [1, unet.adm_in_channels]),
  };
}
