/**
 * The whole of SUPIR: first stage, text conditioner, UNet and control network, attached to checkpoints by their published names.
 * (SUPIR, arXiv 2401.13627)
 */

import { Module } from '../core/module.ts';
import { input, type Shape, scalar, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { concat } from '../kernels/copy.ts';
import { type AttachOptions, attach, expectedKeys } from '../weights/attach.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { isPassenger } from '../weights/layouts.ts';
import { Conditioner } from './conditioner.ts';
import type { SupirConfig } from './config.ts';
import { ControlNet } from './control.ts';
import { SupirUnet } from './supir-unet.ts';
import { SupirVae } from './vae.ts';

export class Supir extends Module {
  readonly config: SupirConfig;
  model: { diffusion_model: SupirUnet; control_model: ControlNet };
  first_stage_model: SupirVae;
  conditioner: Conditioner;

  constructor(config: SupirConfig) {
    super();
    this.config = config;
    this.model = { diffusion_model: new SupirUnet(config.unet), control_model: new ControlNet(config.unet) };
    this.first_stage_model = new SupirVae(config.vae);
    this.conditioner = new Conditioner(config.text);
  }

  /**
   * Points every weight at the checkpoint; values are read when a program first needs them. Throws UserError listing weights that are
   * missing, surplus or of another shape.
   */
  attach(checkpoint: Checkpoint, options: AttachOptions = {}): this {
    checkpoint.checkKeys(expectedKeys(this), isPassenger);
    attach(this, '', checkpoint, options);
    return this;
  }

  /**
   * Graph of one evaluation of control network and UNet for N latents, the B branches of the guidance (2; 1 without guidance) in one batch of
   * B N. Inputs x and hint (N, h, w, z), timestep (1, model_channels), context (B N, L, D), vector (B N, V), which change seldom, and the scalar controlScale, or
   * where each project module has its own, controlScale.0 and so on.
   */
  denoiserGraph([n, h, w, z]: Shape, tokens: number, branches: 1 | 2 = 2, scalePerModule = false) {
    const { unet } = this.config;
    const { diffusion_model, control_model } = this.model;
    const repeat = (tensor: Tensor) => (branches === 1 ? tensor : concat(new Array<Tensor>(branches).fill(tensor), 0));
    const x = repeat(input('x', [n, h, w, z]));
    const hint = repeat(input('hint', [n, h, w, z]));
    const timestep = input('timestep', [1, unet.model_channels]);
    const context = input('context', [branches * n, tokens, unet.context_dim], 'f32', 'seldom');
    const vector = input('vector', [branches * n, unet.adm_in_channels], 'f32', 'seldom');
    const features = control_model.forward(x, hint, timestep, context, vector);
    const scale = scalePerModule ? diffusion_model.project_modules.map((_, i) => scalar(`controlScale.${i}`)) : scalar('controlScale');
    const control = { features, scale };
    return { eps: diffusion_model.forward(x, timestep, context, vector, control) };
  }

  /** How many project modules take control features into the UNet; 12 in SUPIR. */
  get projectModules(): number {
    return this.model.diffusion_model.project_modules.length;
  }

  /** Frees all weights on the GPU. They are read again when next needed. */
  release(device: Device): void {
    device.residency.releaseAll(this);
  }
}
