/** Training of a part of the model itself, all of its weights: autoencoder, denoise encoder, UNet, or control network. */

import { UserError } from '../core/errors.ts';
import { encodeF16 } from '../core/half.ts';
import { type Parameter, parameters } from '../core/module.ts';
import type { Device } from '../gpu/device.ts';
import type { Supir } from '../models/supir.ts';
import { encodeSafetensors } from '../weights/safetensors-writer.ts';
import { AutoencoderTask, DenoiseEncoderTask, type TrainingPicture } from './autoencoding.ts';
import { type DenoisingOptions, DenoisingTask, type TrainingImage } from './denoising.ts';
import { type Task, Training, type TrainingItem, type TrainingOptions } from './training.ts';

export const NETWORKS = ['vae', 'denoise-encoder', 'unet', 'control'] as const;
export type TrainableNetwork = (typeof NETWORKS)[number];

export interface NetworkTrainingOptions extends DenoisingOptions, TrainingOptions {
  network: TrainableNetwork;
  /** Weight of KL, for the autoencoder. Default 1e-6. */
  kl?: number;
}

/** The weights of a part. SUPIR's project modules, through which the control network acts, are trained with it and not with the UNet. */
function weightsOf({ model, first_stage_model: vae }: Supir, network: TrainableNetwork): Parameter[] {
  const { project_modules, ...unet } = model.diffusion_model;
  const roots: Record<TrainableNetwork, object> = {
    vae: [vae.encoder, vae.decoder, vae.quant_conv, vae.post_quant_conv],
    'denoise-encoder': [vae.denoise_encoder],
    unet,
    control: [model.control_model, project_modules],
  };
  return [...parameters(roots[network])].map(([, parameter]) => parameter);
}

function taskOf(supir: Supir, { network, kl, ...options }: NetworkTrainingOptions): Task<TrainingImage> | Task<TrainingPicture> {
  if (network === 'vae') return new AutoencoderTask(supir, kl);
  if (network === 'denoise-encoder') return new DenoiseEncoderTask(supir);
  if (network === 'control' && options.mode !== 'restoration')
    throw new UserError("The control network acts in restoration alone: its mode must be 'restoration'.");
  return new DenoisingTask(supir, options);
}

/** Items are TrainingPictures for the autoencoder's parts, TrainingImages for the others. */
export class NetworkTraining<Item extends TrainingItem = TrainingPicture | TrainingImage> extends Training<Item, NetworkTrainingOptions> {
  private readonly giveBack: () => void;

  private constructor(
    device: Device,
    supir: Supir,
    weights: readonly Parameter[],
    values: readonly Float32Array[],
    options: NetworkTrainingOptions,
    giveBack: () => void,
  ) {
    super(device, taskOf(supir, options) as unknown as Task<Item>, weights, values, options);
    this.giveBack = giveBack;
  }

  /**
   * Reads the weights of the part, which are f32 from here on until `dispose`. Throws UserError for options out of range, and weights that are not
   * numbers.
   */
  static async open<Item extends TrainingItem>(
    device: Device,
    supir: Supir,
    options: NetworkTrainingOptions,
  ): Promise<NetworkTraining<Item>> {
    const weights = weightsOf(supir, options.network);
    const stored = weights.map(({ dtype, source }) => ({ dtype, source }));
    const giveBack = () =>
      weights.forEach((weight, n) => {
        Object.assign(weight, stored[n]);
        device.residency.release(weight);
      });
    try {
      const values: Float32Array[] = [];
      for (const weight of weights) {
        device.residency.release(weight);
        weight.dtype = 'f32';
        const { read: readFile, readRows } = weight.source!;
        const read = Float32Array.from((await readFile()) as Float32Array);
        weight.source = { read: async () => read, readRows };
        values.push(read);
      }
      return new NetworkTraining<Item>(device, supir, weights, values, options, giveBack);
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /** A safetensors file of the part's weights under their checkpoint keys, in f16. */
  async encode(): Promise<Uint8Array<ArrayBuffer>> {
    const result = await this.result();
    const tensors = this.weights.map(({ name, shape }, n) => [name, { dtype: 'F16' as const, shape, data: encodeF16(result[n]) }] as const);
    return encodeSafetensors(tensors, { format: 'pt', network: this.options.network, steps: String(this.step) });
  }

  /** Frees programs, and gives the weights back as they were before. */
  override async dispose(): Promise<void> {
    await super.dispose();
    this.giveBack();
  }
}
