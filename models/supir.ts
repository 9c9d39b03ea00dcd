/**
 * The whole of SUPIR: first stage, text conditioner, UNet and control network, attached to checkpoints by their published names.
 * (SUPIR, arXiv 2401.13627)
 */
import type { Device } from '../core/device.ts';
import { Module, release } from '../core/module.ts';
import { type AttachOptions, attach, expectedKeys } from '../weights/attach.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { isIgnored } from '../weights/layouts.ts';
import { Conditioner } from './conditioner.ts';
import type { SupirConfig } from './config.ts';
import { ControlNet } from './control.ts';
import { Unet } from './unet.ts';
import { Vae } from './vae.ts';

export class Supir extends Module {
  readonly config: SupirConfig;
  model: { diffusion_model: Unet; control_model: ControlNet };
  first_stage_model: Vae;
  conditioner: Conditioner;

  constructor(config: SupirConfig) {
    super();
    this.config = config;
    this.model = { diffusion_model: new Unet(config.unet), control_model: new ControlNet(config.unet) };
    this.first_stage_model = new Vae(config.vae);
    this.conditioner = new Conditioner(config.text);
  }

  /**
   * Points every weight at the checkpoint; values are read when a program first needs them. Throws UserError listing weights that are
   * missing, surplus or of another shape.
   */
  attach(checkpoint: Checkpoint, options: AttachOptions = {}): this {
    checkpoint.checkKeys(expectedKeys(this), isIgnored);
    attach(this, '', checkpoint, options);
    return this;
  }

  /** Frees all weights on the GPU. They are read again when next needed. */
  release(device: Device): void {
    release(device, this);
  }
}
