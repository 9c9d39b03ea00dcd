/**
 * Training of weights, step by step: gradients averaged over passes and clipped, AdamW, a moving average; all of it on the GPU in f32. What a
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
import { type LearningRateOptions, learningRate } from './learning-rate.ts';
import { TRAINING } from './options.ts';
import { type StepResult, TrainingStep } from './step.ts';

export interface TrainingOptions extends AdamWOptions, LearningRateOptions {
  steps: number;
  /** Images of a pass, and passes whose gradients are averaged before an update. Defaults 1 and 1. */
  batch?: number;
  accumulate?: number;
  seed: number;
  /** Gradients are shortened to this norm; null leaves them. Default 1. */
  clip?: number | null;
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

/** Images of one shape, and what the graph is given of them. */
interface Batch<Item> {
  chosen: readonly Item[];
  inputs: RunInputs;
}

export class Training<Item extends TrainingItem, Options extends TrainingOptions = TrainingOptions> {
  readonly options: Options;
  readonly weights: readonly Parameter[];
  readonly adam: AdamW;
  protected readonly device: Device;
  private readonly task: Task<Item>;
  private readonly steps = new Map<string, Promise<TrainingStep>>();
  private readonly validations = new Map<string, Promise<Program<'loss' | 'perImage'>>>();
  /** Loss and squared norm of the pass before. */
  private last: readonly number[] = [];
  /** What the next pass will be given, drawn while the GPU computes this one. */
  private ahead: { items: readonly Item[]; pass: number; batch: Promise<Batch<Item>> } | null = null;

  /** The weights are f32 on the GPU; `values` is what they begin at, in the checkpoint's order. Throws UserError for options out of range. */
  constructor(device: Device, task: Task<Item>, weights: readonly Parameter[], values: readonly Float32Array[], options: Options) {
    for (const key of keysOf(TRAINING)) {
      const value = (options as unknown as Record<string, unknown>)[key];
      if (value !== undefined && value !== null) checkValue(TRAINING, key, value);
    }
    learningRate(0, options.steps, options);
    this.device = device;
    this.task = task;
    this.weights = weights;
    this.options = options;
    this.adam = new AdamW(device, weights, values, options);
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
    const { accumulate = 1, lambda = 0, clip = 1, steps } = this.options;
    let loss = 0;
    let squares = { gradients: 0, weights: 0 };
    for (let n = 0; n < accumulate; n++) {
      const pass = this.step * accumulate + n;
      const { chosen, inputs } = await this.batch(items, pass);
      const program = await this.programFor(chosen);
      const running = program.run(inputs, { share: 1 / accumulate, first: n === 0 });
      if (pass + 1 < steps * accumulate) this.drawAhead(items, pass + 1);
      const result = await running;
      this.checkComputed(result);
      loss += result.loss / accumulate;
      squares = result.squares;
    }
    const gradientNorm = Math.sqrt(squares.gradients);
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      throw new UserError(
        `Step ${this.step + 1}: the loss is ${loss} and the gradient's norm ${gradientNorm}. The weights are kept as they were after step ${this.step}; lower the learning rate, or leave out the image that causes it.`,
      );
    }
    const rate = learningRate(this.step, steps, this.options);
    await this.adam.update(rate, clip !== null && gradientNorm > clip ? clip / gradientNorm : 1);
    return { step: this.step, loss, regularizer: lambda * squares.weights, learningRate: rate, gradientNorm };
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

  /** What is to be saved, in the checkpoint's order: the moving average where there is one, else the weights. */
  result(): Promise<Float32Array<ArrayBuffer>[]> {
    return this.adam.read(this.adam.averaged ? 'average' : 'weight');
  }

  /** Runs `work` with the result as the networks' weights. */
  async withResult<T>(work: () => Promise<T>): Promise<T> {
    await this.adam.place();
    if (!this.adam.averaged) return work();
    await this.adam.exchange();
    try {
      return await work();
    } finally {
      await this.adam.exchange();
    }
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
    await this.adam.dispose();
  }

  /** Some drivers drop work that takes too long and raise no error: results are zero then, or to the bit those of the pass before, of other noise. */
  private checkComputed({ loss, squares: { derivatives: squares } }: StepResult): void {
    const [before, now] = [this.last, [loss, squares]];
    this.last = now;
    const what = squares === 0 ? 'the loss does not depend on any weight' : 'loss and gradients are to the bit those of the pass before';
    if (squares !== 0 && !(before[0] === loss && before[1] === squares)) return;
    throw new DeviceError(
      `Step ${this.step + 1} gave what cannot be right: ${what}. Probably the driver dropped the work, because it took too long or memory did not suffice. The weights are kept as they were after step ${this.step}.`,
      { code: 'wrong-values', values: { step: this.step + 1, fault: squares === 0 ? 'constant' : 'unchanged' } },
    );
  }

  /** What a pass is given. */
  private batch(items: readonly Item[], pass: number): Batch<Item> | Promise<Batch<Item>> {
    const { ahead } = this;
    this.ahead = null;
    return ahead?.items === items && ahead.pass === pass ? ahead.batch : this.draw(items, pass);
  }

  private draw(items: readonly Item[], pass: number): Batch<Item> {
    const random = new TorchRandom(mixed(this.options.seed, pass));
    const chosen = this.choose(items, random);
    return { chosen, inputs: this.task.inputs(chosen, random) };
  }

  /** Draws what a pass will be given, in a turn of its own, so that what is submitted by then is computed meanwhile. */
  private drawAhead(items: readonly Item[], pass: number): void {
    const batch = new Promise((turn) => setTimeout(turn)).then(() => this.draw(items, pass));
    batch.catch(() => undefined); // for the pass itself to tell
    this.ahead = { items, pass, batch };
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
      made = TrainingStep.compile(this.device, { loss }, this.adam, { checkpointing: this.options.checkpointing });
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
