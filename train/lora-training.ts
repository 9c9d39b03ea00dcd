/** Training of a LoRA: adapters of the UNet on cached latents. (Hu et al. 2021, arXiv 2106.09685; arXiv 2408.17060, sec. 3.3) */

import { UserError } from '../core/errors.ts';
import { parameters } from '../core/module.ts';
import type { Device } from '../gpu/device.ts';
import { SUPIR_SDXL } from '../models/config.ts';
import { LoraStack } from '../models/lora.ts';
import type { Supir } from '../models/supir.ts';
import { unetRules } from '../weights/diffusers.ts';
import { type DenoisingOptions, DenoisingTask, type TrainingImage } from './denoising.ts';
import { encodeLora, factorsOf, type LoraFileOptions, type LoraShape, newAdapters, type TrainedAdapter } from './lora.ts';
import { Training, type TrainingOptions } from './training.ts';

export interface LoraTrainingOptions extends Omit<LoraShape, 'seed'>, DenoisingOptions, TrainingOptions {}

export class LoraTraining extends Training<TrainingImage, LoraTrainingOptions> {
  readonly adapters: TrainedAdapter[];
  /** The adapters as they are applied to a graph. */
  readonly stack: LoraStack;
  private readonly supir: Supir;

  /** Throws UserError for options out of range or targets that name no layer. */
  constructor(device: Device, supir: Supir, options: LoraTrainingOptions) {
    const weights = [...parameters(supir.model.diffusion_model)].map(([, parameter]) => parameter);
    const adapters = newAdapters(weights, options);
    const { factors, values } = factorsOf(adapters);
    const task = new DenoisingTask(supir, options);
    const stack = new LoraStack([{ adapters, scale: 1 }]);
    const adapted = {
      levels: task.levels,
      graph: (images: readonly TrainingImage[]) => stack.apply(task.graph(images)),
      inputs: task.inputs.bind(task),
    };
    super(device, adapted, factors, values, options);
    this.adapters = adapters;
    this.stack = stack;
    this.supir = supir;
  }

  /** A LoRA file's bytes, with the metadata that other programs show. `images`: how many it was trained on. */
  async encode(
    name: string,
    images: number,
    { format, dtype }: Pick<LoraFileOptions, 'format' | 'dtype'>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { rank, alpha = rank, rate = 1e-4, batch = 1, accumulate = 1, seed, decay = 'constant', warmup = 0 } = this.options;
    const { minSnr, noiseOffset, mode, targets, steps } = this.options;
    const base = this.supir.config.name;
    const metadata: Record<string, string> = {
      ss_output_name: name,
      ss_network_module: 'networks.lora',
      ss_network_dim: String(rank),
      ss_network_alpha: String(alpha),
      ss_network_args: JSON.stringify({ targets, mode }),
      ss_base_model_version: base === SUPIR_SDXL.name ? 'sdxl_base_v1-0' : base,
      ss_learning_rate: String(rate),
      ss_unet_lr: String(rate),
      ss_optimizer: 'AdamW',
      ss_lr_scheduler: decay,
      ss_lr_warmup_steps: String(warmup),
      ss_steps: String(this.step),
      ss_max_train_steps: String(steps),
      ss_total_batch_size: String(batch * accumulate),
      ss_gradient_accumulation_steps: String(accumulate),
      ss_num_train_images: String(images),
      ss_seed: String(seed),
      ss_min_snr_gamma: String(minSnr ?? null),
      ss_noise_offset: String(noiseOffset ?? null),
      format: 'pt',
    };
    const result = await this.result();
    const adapters = this.adapters.map((adapter, n): TrainedAdapter => ({ ...adapter, values: [result[2 * n], result[2 * n + 1]] }));
    const names = [...parameters(this.supir.model.diffusion_model)].map(([, parameter]) => parameter.name);
    return encodeLora(adapters, { format, dtype, metadata, spelling: diffusersPath(names) });
  }

  /** Frees programs and adapters; the networks' own weights stay. */
  override async dispose(): Promise<void> {
    await super.dispose();
    this.stack.release(this.device);
  }
}

/** diffusers' path of a UNet layer, by its single file's path. */
function diffusersPath(names: readonly string[]): (path: string) => string {
  const rules = unetRules(names);
  return (path) => {
    const rule = rules.find(({ single }) => path === single || path.startsWith(`${single}.`));
    if (!rule) throw new UserError(`${path} has no name in diffusers' layout; save as kohya instead.`);
    return rule.other + path.slice(rule.single.length);
  };
}
