/** What every golden operation works with: the folder, the device, and the seeded models, each attached once. */

import type { Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type RunInputs } from '../gpu/program.ts';
import { Supir } from '../models/supir.ts';
import { SupirModel } from '../restore/supir-model.ts';
import type { WeightDType } from '../weights/attach.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import type { CaseEntry, Golden, GoldenFolder } from './golden.ts';
import { modelConfig } from './models.ts';

/** Results by output name, in the reference's layout. */
export type Results = Record<string, ArrayLike<number>>;
export type Operation = (entry: CaseEntry, context: VerifyContext) => Promise<Results>;

export interface ModelChoices {
  /** How matrices and convolutions of whole models are stored. Default as their checkpoints hold them: f16. */
  weights?: WeightDType;
  /** The checkpoint of the published size, read instead of made. The caller closes it. */
  published?: Checkpoint;
}

export class VerifyContext {
  readonly folder: GoldenFolder;
  readonly device: Device;
  readonly choices: ModelChoices;
  private readonly models = new Map<string, Promise<SupirModel>>();

  constructor(folder: GoldenFolder, device: Device, choices: ModelChoices = {}) {
    this.folder = folder;
    this.device = device;
    this.choices = choices;
  }

  /** The seeded model that the case names. Weights are made when a program first needs them and stay until `dispose`. */
  model({ weights }: CaseEntry): Promise<SupirModel> {
    const name = weights?.model ?? '';
    let model = this.models.get(name);
    if (!model) {
      const { weights, published } = this.choices;
      const isPublished = !this.folder.index.models[name]?.config;
      const checkpoint = published && isPublished ? Promise.resolve(published) : this.folder.modelCheckpoint(name, ['sdxl', 'supir']);
      model = checkpoint.then(
        (found) => new SupirModel(this.device, new Supir(modelConfig(this.folder, name)).attach(found, { dtype: weights })),
      );
      this.models.set(name, model);
    }
    return model;
  }

  input(entry: CaseEntry, name: string): Promise<Golden> {
    return this.folder.tensor(entry, entry.inputs[name]);
  }

  /** Runs a graph once and frees its buffers; results are channels-last. */
  async run<Names extends string>(outputs: Record<Names, Tensor>, inputs: RunInputs): Promise<Record<Names, Float32Array>> {
    const program = await compile(this.device, outputs);
    try {
      return await program.run(inputs);
    } finally {
      program.dispose();
    }
  }

  /** The same for a module of the case's own, whose weights are freed as well. */
  async runOnce<Names extends string>(
    module: object,
    outputs: Record<Names, Tensor>,
    inputs: RunInputs,
  ): Promise<Record<Names, Float32Array>> {
    try {
      return await this.run(outputs, inputs);
    } finally {
      this.device.residency.releaseAll(module);
    }
  }

  /** Frees the weights of every model. */
  async dispose(): Promise<void> {
    for (const model of this.models.values()) {
      await model.then(
        (model) => model.release(),
        () => undefined, // a model that could not be made has nothing to free; its cases have failed
      );
    }
    this.models.clear();
  }
}
