/**
 * DiffBIR: Stable Diffusion 2.1 with IRControlNet, and the cleaner that removes degradation before them. (arXiv 2308.15070)
 * The three come from files of their own: the base's keys have their usual prefixes, the others lie at the root.
 */
import { Module } from '../core/module.ts';
import type { Shape } from '../core/shape.ts';
import { input, scalar, type Tensor } from '../core/tensor.ts';
import { concat } from '../kernels/copy.ts';
import { addedFeatures, IrControlNet } from './ir-control-net.ts';
import { type RrdbConfig, RrdbNet } from './rrdb-net.ts';
import { ScUnet, type ScUnetConfig } from './scunet.ts';
import { StableDiffusion, type StableDiffusionConfig } from './stable-diffusion.ts';
import { SwinIr, type SwinIrConfig } from './swinir.ts';

/** A cleaner and its sizes. */
export type CleanerConfig = ({ kind: 'rrdb' } & RrdbConfig) | ({ kind: 'swinir' } & SwinIrConfig) | ({ kind: 'scunet' } & ScUnetConfig);

export type Cleaner = RrdbNet | SwinIr | ScUnet;

export function cleanerOf(config: CleanerConfig): Cleaner {
  if (config.kind === 'rrdb') return new RrdbNet(config);
  return config.kind === 'swinir' ? new SwinIr(config) : new ScUnet(config);
}

export class DiffBir extends Module {
  base: StableDiffusion;
  control: IrControlNet;
  cleaner: Cleaner | null;

  constructor(config: StableDiffusionConfig, cleaner: Cleaner | null = null) {
    super();
    this.cleaner = cleaner;
    this.base = new StableDiffusion(config);
    this.control = new IrControlNet(config.unet);
  }

  /**
   * Graph of one evaluation of IRControlNet and UNet for N latents, the B branches of the guidance (2; 1 without guidance) in one batch of B N.
   * Inputs x and hint (N, h, w, z), timestep (1, model_channels), context (B N, L, D), and the scalar controlScale. -> eps or v, as the base predicts
   */
  denoiserGraph([n, h, w, z]: Shape, tokens: number, branches: 1 | 2 = 2): { prediction: Tensor } {
    const { unet } = this.base.config;
    const repeat = (tensor: Tensor) => (branches === 1 ? tensor : concat(new Array<Tensor>(branches).fill(tensor), 0));
    const x = repeat(input('x', [n, h, w, z]));
    const hint = repeat(input('hint', [n, h, w, z]));
    const timestep = input('timestep', [1, unet.model_channels]);
    const context = input('context', [branches * n, tokens, unet.context_dim], 'f32', 'seldom');
    const features = this.control.forward(x, hint, timestep, context);
    const join = addedFeatures(features, scalar('controlScale'));
    return { prediction: this.base.model.diffusion_model.predict(x, timestep, context, null, join) };
  }
}
