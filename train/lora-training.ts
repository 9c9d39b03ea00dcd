/**
 * Training of a LoRA: adapters of the UNet on cached latents, step by step. What a step draws (images, noise levels, noise) follows from the
 * seed and the step's number alone, so that a resumed training is the uninterrupted one, bit for bit, on the same device.
 * Two modes: plain denoising with SDXL's UNet (arXiv 2408.17060, sec. 3.3), and restoration, in which the control network sees the degraded
 * image and the loss the whole of SUPIR.
 */
import type { Device } from '../core/device.ts';
import { UserError } from '../core/errors.ts';
import { type Parameter, parameters } from '../core/module.ts';
import { compile, type Program, type RunInputs } from '../core/program.ts';
import { TorchRandom } from '../core/random.ts';
import { input, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { LoraStack } from '../models/lora.ts';
import type { Supir } from '../models/supir.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import { AdamW, type AdamWOptions } from './adamw.ts';
import { Ema } from './ema.ts';
import { type LearningRateOptions, learningRate } from './learning-rate.ts';
import { factorsOf, type LoraShape, newAdapters, type TrainedAdapter } from './lora.ts';
import { addDecay, minSnrWeight, noiseLoss, noisy, trainingNoise } from './loss.ts';
import { TrainingStep } from './step.ts';

/** An image as the UNet is trained on it; all values on the host. */
export interface TrainingImage {
  name: string;
  /** (h, w, z), latents in unit scale: the mean and the deviation that the autoencoder gives. */
  shape: Shape;
  mean: Float32Array;
  deviation: Float32Array;
  /** (h, w, z), the degraded image's latent; for restoration. */
  hint?: Float32Array;
  /** (L, D) and (V): what the caption conditions. */
  context: Float32Array;
  vector: Float32Array;
}

export interface LoraTrainingOptions extends Omit<LoraShape, 'seed'>, AdamWOptions, LearningRateOptions {
  mode: 'denoising' | 'restoration';
  steps: number;
  /** Images of a pass, and passes whose gradients are averaged before an update. Defaults 1 and 1. */
  batch?: number;
  accumulate?: number;
  seed: number;
  /** lambda of the regulariser lambda (|A|^2 + |B|^2). Default 0. */
  lambda?: number;
  /** gamma of min-SNR weighting; null for equal weights. Default null. */
  minSnr?: number | null;
  noiseOffset?: number;
  /** Gradients are shortened to this norm; null leaves them. Default 1. */
  clip?: number | null;
  /** Decay of a moving average of the weights, which is then what is saved; null for none. Default null. */
  ema?: number | null;
  checkpointing?: boolean;
}

export interface StepReport {
  /** The number of updates made, from 1. */
  step: number;
  /** The noise's mean square error, weighted; without the regulariser. */
  loss: number;
  /** lambda times the sum of squares of the weights. */
  regularizer: number;
  learningRate: number;
  /** Before clipping. */
  gradientNorm: number;
}

/** Noise levels at which a validation image is judged. */
const VALIDATION_LEVELS = 8;

export class LoraTraining {
  readonly adapters: TrainedAdapter[];
  readonly adam: AdamW;
  readonly ema: Ema | null;
  readonly options: LoraTrainingOptions;
  private readonly device: Device;
  private readonly supir: Supir;
  private readonly stack: LoraStack;
  private readonly factors: Parameter[];
  private readonly values: Float32Array[];
  private readonly schedule = new NoiseSchedule();
  private readonly steps = new Map<string, Promise<TrainingStep>>();
  private readonly validations = new Map<string, Promise<Program<'perImage'>>>();

  /** Throws UserError for options out of range or targets that name no layer. */
  constructor(device: Device, supir: Supir, options: LoraTrainingOptions) {
    for (const key of ['steps', 'batch', 'accumulate'] as const) {
      const value = options[key] ?? 1;
      if (!(Number.isInteger(value) && value >= 1)) throw new UserError(`'${key}' is ${value}; it must be a whole number of at least 1.`);
    }
    learningRate(0, options.steps, options);
    minSnrWeight(1, options.minSnr ?? null);
    this.device = device;
    this.supir = supir;
    this.options = options;
    const weights = [...parameters(supir.model.diffusion_model)].map(([, parameter]) => parameter);
    this.adapters = newAdapters(weights, options);
    this.stack = new LoraStack([{ adapters: this.adapters, scale: 1 }]);
    ({ factors: this.factors, values: this.values } = factorsOf(this.adapters));
    this.adam = new AdamW(
      this.values.map(({ length }) => length),
      options,
    );
    this.ema = options.ema == null ? null : new Ema(this.values, options.ema);
  }

  /** Updates made so far. */
  get step(): number {
    return this.adam.step;
  }

  /**
   * One update. Throws UserError when the loss or a gradient is not a finite number: the weights are then those of the last good step; or
   * when the images do not suit the mode.
   */
  async update(images: readonly TrainingImage[]): Promise<StepReport> {
    const { accumulate = 1, lambda = 0, clip = 1, seed, steps } = this.options;
    const gradients = this.values.map(({ length }) => new Float32Array(length));
    let loss = 0;
    for (let pass = 0; pass < accumulate; pass++) {
      const random = new TorchRandom(mixed(seed, this.step * accumulate + pass));
      const chosen = this.choose(images, random);
      const program = await this.programFor(chosen);
      const result = await program.run(this.inputs(chosen, random));
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
    this.upload(this.values);
    return { step: this.step, loss, regularizer: lambda * squares, learningRate: rate, gradientNorm };
  }

  /** The loss of each image, unweighted, over noise levels from low to high and noise that is always the same: comparable between steps. */
  async validate(images: readonly TrainingImage[]): Promise<number> {
    if (this.ema) this.upload(this.ema.values);
    let sum = 0;
    try {
      for (const [i, image] of images.entries()) {
        const program = await this.validationFor(image);
        const random = new TorchRandom(mixed(this.options.seed, i, 1));
        for (let level = 0; level < VALIDATION_LEVELS; level++) {
          const timestep = Math.floor(((level + 0.5) * this.schedule.sigmas.length) / VALIDATION_LEVELS);
          const { weight: _, ...inputs } = this.inputs([image], random, timestep);
          const { perImage } = await program.run(inputs);
          sum += perImage[0] / VALIDATION_LEVELS / images.length;
        }
      }
    } finally {
      if (this.ema) this.upload(this.values);
    }
    return sum;
  }

  /** The adapters to save: of the moving average where there is one. */
  result(): TrainedAdapter[] {
    const { ema } = this;
    if (!ema) return this.adapters;
    return this.adapters.map((adapter, n) => ({ ...adapter, values: [ema.values[2 * n], ema.values[2 * n + 1]] }));
  }

  /** Names of all weights of the UNet. */
  weightNames(): string[] {
    return [...parameters(this.supir.model.diffusion_model)].map(([, { name }]) => name);
  }

  /** Makes weights that were changed on the host those of the next step. */
  refresh(): void {
    this.upload(this.values);
  }

  /** Frees programs and adapters; the networks' own weights stay. */
  async dispose(): Promise<void> {
    for (const made of [...this.steps.values(), ...this.validations.values()]) {
      await made.then(
        (program) => program.dispose(),
        () => undefined, // it was never made
      );
    }
    this.steps.clear();
    this.validations.clear();
    this.stack.release(this.device);
  }

  private upload(values: readonly Float32Array[]): void {
    for (const [n, factor] of this.factors.entries()) if (factor.buffer) factor.upload(this.device, values[n]);
  }

  /** `batch` images of one size, the size chosen in proportion to how many have it. */
  private choose(images: readonly TrainingImage[], random: TorchRandom): TrainingImage[] {
    const { batch = 1 } = this.options;
    const pick = (n: number) => Math.min(n - 1, Math.floor(random.rand(1)[0] * n));
    if (images.length === 0) throw new UserError('There are no images to train on.');
    const size = String(images[pick(images.length)].shape);
    const alike = images.filter(({ shape }) => String(shape) === size);
    return Array.from({ length: batch }, () => alike[pick(alike.length)]);
  }

  /** What a program is given for these images; noise levels are drawn unless one is fixed. */
  private inputs(images: readonly TrainingImage[], random: TorchRandom, fixed?: number): RunInputs {
    const { mode, minSnr = null, noiseOffset = 0 } = this.options;
    const { sigmas } = this.schedule;
    const shape = [images.length, ...images[0].shape];
    const levels = images.map(() => fixed ?? Math.min(sigmas.length - 1, Math.floor(random.rand(1)[0] * sigmas.length)));
    const spread = random.randn(sizeOf(shape));
    const noise = trainingNoise(random, shape, noiseOffset);
    const joined = (part: (image: TrainingImage) => Float32Array) => {
      const parts = images.map(part);
      const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const each of parts) {
        all.set(each, at);
        at += each.length;
      }
      return all;
    };
    const deviation = joined((image) => image.deviation);
    const clean = joined((image) => image.mean).map((value, i) => value + deviation[i] * spread[i]);
    const chosen = levels.map((level) => sigmas[level]);
    const hint = (image: TrainingImage) => {
      if (!image.hint) throw new UserError(`${image.name} has no degraded counterpart, which training for restoration needs.`);
      return image.hint;
    };
    return {
      x: noisy(clean, noise, chosen),
      noise,
      weight: Float32Array.from(chosen, (sigma) => minSnrWeight(sigma, minSnr)),
      timestep: timestepEmbedding(levels, this.supir.config.unet.model_channels),
      context: joined((image) => image.context),
      vector: joined((image) => image.vector),
      ...(mode === 'restoration' ? { hint: joined(hint) } : {}),
    };
  }

  private programFor(images: readonly TrainingImage[]): Promise<TrainingStep> {
    const key = `${images.length},${images[0].shape}`;
    let made = this.steps.get(key);
    if (!made) {
      const outputs = this.graph(images.length, images[0]);
      made = TrainingStep.compile(this.device, { loss: outputs.loss }, this.factors, { checkpointing: this.options.checkpointing });
      this.steps.set(key, made);
    }
    return made;
  }

  private validationFor(image: TrainingImage): Promise<Program<'perImage'>> {
    const key = String(image.shape);
    let made = this.validations.get(key);
    if (!made) this.validations.set(key, (made = compile(this.device, { perImage: this.graph(1, image).perImage })));
    return made;
  }

  /** The loss of n images of one size, with the adapters. */
  private graph(n: number, { shape, context }: TrainingImage): { loss: Tensor; perImage: Tensor } {
    const { unet } = this.supir.config;
    const { diffusion_model, control_model } = this.supir.model;
    const [x, noise] = [input('x', [n, ...shape]), input('noise', [n, ...shape])];
    const timestep = input('timestep', [n, unet.model_channels]);
    const text = input('context', [n, context.length / unet.context_dim, unet.context_dim]);
    const vector = input('vector', [n, unet.adm_in_channels]);
    const features = () => control_model.forward(x, input('hint', [n, ...shape]), timestep, text, vector);
    const control = this.options.mode === 'restoration' ? { features: features(), scale: 1 } : null;
    const predicted = diffusion_model.forward(x, timestep, text, vector, control);
    return this.stack.apply(noiseLoss(predicted, noise, input('weight', [n])));
  }
}

/** A seed for each number of a sequence: a hash of both, so that neighbours have nothing in common. (MurmurHash3's finaliser) */
function mixed(seed: number, n: number, stream = 0): number {
  let x = (Math.imul(seed ^ Math.imul(stream + 1, 0x85ebca6b), 0x9e3779b1) + Math.imul(n + 1, 0xc2b2ae35)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
