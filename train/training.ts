/**
 * Training of weights, step by step: gradients averaged over passes and clipped, AdamW, a moving average; all of it on the host in f32. What a
 * step draws (images, noise levels, noise) follows from the seed and the step's number alone, so that a resumed training is the uninterrupted one,
 * bit for bit, on the same device.
 */

import { DeviceError, UserError } from '../core/errors.ts';
import type { Parameter } from '../core/module.ts';
import { TorchRandom } from '../core/random.ts';
import type { Shape, Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type Program, type RunInputs } from '../gpu/program.ts';
import { checkValue, keysOf } from '../options/schema.ts';
import { AdamW, type AdamWOptions } from './adamw.ts';
import { Ema } from './ema.ts';
import { type LearningRateOptions, learningRate } from './learning-rate.ts';
import { addDecay } from './loss.ts';
import { TRAINING } from './options.ts';
import { type StepResult, TrainingStep } from './step.ts';

export interface TrainingOptions extends AdamWOptions, LearningRateOptions {
  steps: number;
  /** Images of a pass, and passes whose gradients are averaged before an update. Defaults 1 and 1. */
  batch?: number;
  accumulate?: number;
  seed: number;
  /** lambda of the regulariser lambda |W|^2; of a LoRA lambda (|A|^2 + |B|^2). Default 0. */
  lambda?: number;
  /** Gradients are shortened to this norm; null leaves them. Default 1. */
  clip?: number | null;
  /** Decay of a moving average of the weights, which is then what is saved; null for none. Default null. */
  ema?: number | null;
  checkpointing?: boolean;
}

/** What a network is trained on; images of one shape may share a pass. */
export interface TrainingItem {
  name: string;
  shape: Shape;
}

/** What is to be learnt: a loss, and what its graph is given. */
export interface Task<Item extends TrainingItem> {
  /** Of images of one shape: loss (1) and perImage (N), the loss of each without weights. */
  graph(items: readonly Item[]): { loss: Tensor; perImage: Tensor };
  /** The graph's inputs, drawn from `random`. `level`, from 0 to `levels` - 1, fixes how hard the task is, to judge by. */
  inputs(items: readonly Item[], random: TorchRandom, level?: number): RunInputs;
  readonly levels: number;
}

export interface StepReport {
  /** The number of updates made, from 1. */
  step: number;
  /** Without the regulariser. */
  loss: number;
  /** lambda times the sum of squares of the weights. */
  regularizer: number;
  learningRate: number;
  /** Before clipping. */
  gradientNorm: number;
}

export class Training<Item extends TrainingItem, Options extends TrainingOptions = TrainingOptions> {
  readonly options: Options;
  readonly weights: readonly Parameter[];
  /** The weights' values, in the checkpoint's order. */
  readonly values: readonly Float32Array[];
  readonly adam: AdamW;
  readonly ema: Ema | null;
  protected readonly device: Device;
  private readonly task: Task<Item>;
  private readonly steps = new Map<string, Promise<TrainingStep>>();
  private readonly validations = new Map<string, Promise<Program<'loss' | 'perImage'>>>();
  /** Loss and squared norm of the pass before. */
  private last: readonly number[] = [];

  /** The weights are f32 on the GPU. Throws UserError for options out of range. */
  constructor(device: Device, task: Task<Item>, weights: readonly Parameter[], values: readonly Float32Array[], options: Options) {
    for (const key of keysOf(TRAINING)) {
      const value = (options as unknown as Record<string, unknown>)[key];
      if (value !== undefined && value !== null) checkValue(TRAINING, key, value);
    }
    learningRate(0, options.steps, options);
    this.device = device;
    this.task = task;
    this.weights = weights;
    this.values = values;
    this.options = options;
    this.adam = new AdamW(
      values.map(({ length }) => length),
      options,
    );
    this.ema = options.ema == null ? null : new Ema(values, options.ema);
  }

  /** Updates made so far. */
  get step(): number {
    return this.adam.step;
  }

  /**
   * One update. Throws UserError when the loss or a gradient is not a finite number, DeviceError (wrong-values) when the GPU computed nothing: the weights
   * are then those of the last good step. Throws UserError when the images do not suit the task.
   */
  async update(items: readonly Item[]): Promise<StepReport> {
    const { accumulate = 1, lambda = 0, clip = 1, seed, steps } = this.options;
    const gradients = this.values.map(({ length }) => new Float32Array(length));
    let loss = 0;
    for (let pass = 0; pass < accumulate; pass++) {
      const random = new TorchRandom(mixed(seed, this.step * accumulate + pass));
      const chosen = this.choose(items, random);
      const program = await this.programFor(chosen);
      const result = await program.run(this.task.inputs(chosen, random));
      this.checkComputed(result);
      loss += result.loss / accumulate;
      gradients.forEach((sum, n) => {
        const part = result.gradients[n];
        for (let i = 0; i < sum.length; i++) sum[i] += part[i] / accumulate;
      });
    }
    const squares = addDecay(this.values, gradients, lambda);
    const gradientNorm = Math.sqrt(gradients.reduce((sum, each) => sum + each.reduce((a, g) => a + g * g, 0), 0));
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      throw new UserError(
        `Step ${this.step + 1}: the loss is ${loss} and the gradient's norm ${gradientNorm}. The weights are kept as they were after step ${this.step}; lower the learning rate, or leave out the image that causes it.`,
      );
    }
    if (clip !== null && gradientNorm > clip)
      for (const each of gradients) for (let i = 0; i < each.length; i++) each[i] *= clip / gradientNorm;
    const rate = learningRate(this.step, steps, this.options);
    this.adam.update(this.values, gradients, rate);
    this.ema?.update(this.values, this.step);
    this.refresh();
    return { step: this.step, loss, regularizer: lambda * squares, learningRate: rate, gradientNorm };
  }

  /** The mean loss of the images, unweighted, over all levels and with noise that is always the same: comparable between steps. */
  async validate(items: readonly Item[]): Promise<number> {
    const { levels } = this.task;
    return this.withResult(async () => {
      let sum = 0;
      for (const [i, item] of items.entries()) {
        const program = await this.validationFor(item);
        const random = new TorchRandom(mixed(this.options.seed, i, 1));
        for (let level = 0; level < levels; level++) {
          const { perImage } = await program.run(this.task.inputs([item], random, level));
          sum += perImage[0] / levels / items.length;
        }
      }
      return sum;
    });
  }

  /** What is to be saved: the moving average where there is one, else the weights. */
  get result(): readonly Float32Array[] {
    return this.ema?.values ?? this.values;
  }

  /** Runs `work` with the result as the networks' weights. */
  async withResult<T>(work: () => Promise<T>): Promise<T> {
    if (this.ema) this.upload(this.ema.values);
    try {
      return await work();
    } finally {
      if (this.ema) this.refresh();
    }
  }

  /** Makes weights that were changed on the host those of the next step. */
  refresh(): void {
    this.upload(this.values);
  }

  /** Frees programs; weights are their owners'. */
  async dispose(): Promise<void> {
    for (const made of [...this.steps.values(), ...this.validations.values()]) {
      await made.then(
        (program) => program.dispose(),
        () => undefined, // it was never made
      );
    }
    this.steps.clear();
    this.validations.clear();
  }

  /** Some drivers drop work that takes too long and raise no error: results are zero then, or to the bit those of the pass before, of other noise. */
  private checkComputed({ loss, gradients }: StepResult): void {
    const squares = gradients.reduce((sum, each) => sum + each.reduce((a, g) => a + g * g, 0), 0);
    const [before, now] = [this.last, [loss, squares]];
    this.last = now;
    const what = squares === 0 ? 'the loss does not depend on any weight' : 'loss and gradients are to the bit those of the pass before';
    if (squares !== 0 && !(before[0] === loss && before[1] === squares)) return;
    throw new DeviceError(
      `Step ${this.step + 1} gave what cannot be right: ${what}. Probably the driver dropped the work, because it took too long or memory did not suffice. The weights are kept as they were after step ${this.step}.`,
      { code: 'wrong-values', values: { step: this.step + 1, fault: squares === 0 ? 'constant' : 'unchanged' } },
    );
  }

  private upload(values: readonly Float32Array[]): void {
    const { residency } = this.device;
    for (const [n, weight] of this.weights.entries()) if (residency.bufferOf(weight)) residency.upload(weight, values[n]);
  }

  /** `batch` images of one shape, the shape chosen in proportion to how many have it. */
  private choose(items: readonly Item[], random: TorchRandom): Item[] {
    const { batch = 1 } = this.options;
    const pick = (n: number) => Math.min(n - 1, Math.floor(random.rand(1)[0] * n));
    if (items.length === 0) throw new UserError('There are no images to train on.');
    const size = String(items[pick(items.length)].shape);
    const alike = items.filter(({ shape }) => String(shape) === size);
    return Array.from({ length: batch }, () => alike[pick(alike.length)]);
  }

  private programFor(items: readonly Item[]): Promise<TrainingStep> {
    const key = `${items.length},${items[0].shape}`;
    let made = this.steps.get(key);
    if (!made) {
      const { loss } = this.task.graph(items);
      made = TrainingStep.compile(this.device, { loss }, this.weights, { checkpointing: this.options.checkpointing });
      this.steps.set(key, made);
    }
    return made;
  }

  private validationFor(item: Item): Promise<Program<'loss' | 'perImage'>> {
    const key = String(item.shape);
    let made = this.validations.get(key);
    if (!made) this.validations.set(key, (made = compile(this.device, this.task.graph([item]))));
    return made;
  }
}

/** A seed for each number of a sequence: a hash of both, so that neighbours have nothing in common. (MurmurHash3's finaliser) */
function mixed(seed: number, n: number, stream = 0): number {
  let x = (Math.imul(seed ^ Math.imul(stream + 1, 0x85ebca6b), 0x9e3779b1) + Math.imul(n + 1, 0xc2b2ae35)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Arrays one after the other. */
export function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const each of parts) {
    all.set(each, at);
    at += each.length;
  }
  return all;
}
