/**
 * Stable Diffusion 2: autoencoder, OpenCLIP ViT-H's text tower and UNet, under the names of its single-file checkpoints. What DiffBIR starts from.
 * (Latent diffusion, arXiv 2112.10752; OpenCLIP)
 */
import { Module } from '../core/module.ts';
import type { TowerConfig, UnetConfig, VaeConfig } from './config.ts';
import { PenultimateTextModel } from './text-encoder.ts';
import { Unet } from './unet.ts';
import { Vae } from './vae.ts';

export interface StableDiffusionConfig {
  vae: VaeConfig;
  unet: UnetConfig;
  /** Start and end token; what follows the end is padded with 0. */
  text: TowerConfig & { sot: number; eot: number };
}

/** Stable Diffusion 2.1 base, and models that were trained on from it. */
export const SD21: StableDiffusionConfig = {
  vae: { ch: 128, ch_mult: [1, 2, 4, 4], num_res_blocks: 2, z_channels: 4, norm_groups: 32, scale_factor: 0.18215 },
  unet: {
    in_channels: 4,
    out_channels: 4,
    model_channels: 320,
    channel_mult: [1, 2, 4, 4],
    num_res_blocks: 2,
    transformer_depth: [1, 1, 1, 0],
    middle_depth: 1,
    num_head_channels: 64,
    context_dim: 1024,
    adm_in_channels: 0,
    norm_groups: 32,
  },
  text: { vocab: 49408, dim: 1024, heads: 16, layers: 24, inter: 4096, context_length: 77, sot: 49406, eot: 49407 },
};

export class StableDiffusion extends Module {
  readonly config: StableDiffusionConfig;
  model: { diffusion_model: Unet };
  first_stage_model: Vae;
  cond_stage_model: { model: PenultimateTextModel };

  constructor(config: StableDiffusionConfig) {
    super();
    this.config = config;
    this.model = { diffusion_model: new Unet(config.unet) };
    this.first_stage_model = new Vae(config.vae);
    this.cond_stage_model = { model: new PenultimateTextModel(config.text) };
  }
}
