/**
 * A model that restores: its networks on a device, the checkpoint that their weights come from, and the LoRA files on them. What is particular
 * to a method, such as which networks there are and how they are called, its own class adds (supir-model.ts).
 */

import { type Module, parameters } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type RunInputs } from '../gpu/program.ts';
import type { SupirConfig } from '../models/config.ts';
import type { LoraScaleText } from '../models/lora-scale.ts';
import { type LoraHandle, LoraSet } from '../models/lora-set.ts';
import type { ByteSource } from '../weights/byte-source.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { fingerprint } from '../weights/fingerprint.ts';
import type { ReadLoraOptions } from '../weights/lora.ts';
import { openTensorFile } from '../weights/open.ts';
import type { TensorFile } from '../weights/tensor-file.ts';

/** What of a model's configuration every method has. */
export type ModelConfig = Pick<SupirConfig, 'name' | 'image_multiple' | 'min_size' | 'recommended' | 'presets'>;

/** A LoRA file on a model. */
export interface LoraOnModel {
  handle: LoraHandle;
  file: TensorFile;
  fingerprint: string;
}

export abstract class Model<Networks extends Module = Module> {
  readonly networks: Networks;
  readonly loras = new LoraSet();
  private on: Device;
  private readonly files = new Map<LoraHandle, LoraOnModel>();
  private readonly weights: Checkpoint | null;

  constructor(device: Device, networks: Networks, checkpoint: Checkpoint | null = null) {
    this.on = device;
    this.networks = networks;
    this.weights = checkpoint;
  }

  /** Sizes, and settings that it recommends. */
  abstract get config(): ModelConfig;
  /** Names that tell what kind of base it is. */
  abstract get baseNames(): readonly string[];

  get device(): Device {
    return this.on;
  }

  /** Where the weights come from. */
  get checkpoint(): Checkpoint {
    if (!this.weights) throw new Error('This model was made of networks alone and has no checkpoint.');
    return this.weights;
  }

  /** LoRA files in force, in the order in which they were added. */
  get loraFiles(): LoraOnModel[] {
    return [...this.loras].flatMap((handle) => this.files.get(handle) ?? []);
  }

  /**
   * Puts a LoRA file on the model, beside those before it, or with `merge` into its weights. Throws UserError for a file that does not fit the
   * model and for a scale that is none; nothing has changed then, and the file is closed.
   */
  async addLora(source: ByteSource, scale: LoraScaleText = 1, merge = false, options: ReadLoraOptions = {}): Promise<LoraHandle> {
    let opened: Pick<TensorFile, 'close'> = source;
    try {
      const file = await openTensorFile(source);
      opened = file;
      const print = await fingerprint(file);
      const weights = [...parameters(this.networks)].map(([, parameter]) => parameter);
      const handle = await this.loras.read(this.device, file, weights, scale, merge, options);
      this.files.set(handle, { handle, file, fingerprint: print });
      return handle;
    } catch (error) {
      await opened.close?.();
      throw error;
    }
  }

  /** Takes a LoRA file off the model and closes it. */
  async removeLora(handle: LoraHandle): Promise<void> {
    this.loras.remove(this.device, handle);
    await this.files.get(handle)?.file.close?.();
    this.files.delete(handle);
  }

  /** Goes to another device: weights are read again when they are next needed there. */
  moveTo(device: Device): void {
    this.release();
    this.on = device;
  }

  /** Frees all weights on the GPU, those of LoRA files included. They are read again when next needed. */
  release(): void {
    this.loras.release(this.device);
    this.device.residency.releaseAll(this.networks);
  }

  /** Frees the weights and closes the files. */
  async close(): Promise<void> {
    this.release();
    for (const { file } of this.files.values()) await file.close?.();
    await this.weights?.close();
  }

  /** Plans a graph with the LoRAs in force, runs it once and frees its buffers; weights stay. */
  protected async evaluate<Names extends string>(
    outputs: Record<Names, Tensor>,
    inputs: RunInputs,
    signal?: AbortSignal,
  ): Promise<Record<Names, Float32Array>> {
    const program = await compile(this.device, this.loras.apply(outputs), signal);
    try {
      return await program.run({ ...inputs, ...this.loras.inputs(program.plan.scalars) });
    } finally {
      program.dispose();
    }
  }
}
