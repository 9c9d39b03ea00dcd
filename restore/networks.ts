/** What networks take and give on the host, and the denoiser that a sampler calls. Arrays are dense and channels-last. */

import { sizeOf } from '../core/tensor.ts';
import type { Program, RunInputs } from '../gpu/program.ts';
import type { FloatImage } from '../image/image.ts';
import type { LoraSet } from '../models/lora-set.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import type { Network, NetworkInput } from '../sampler/denoiser.ts';
import type { DeepFeatures } from './deep-features.ts';
import { AnswerCheck } from './soundness.ts';
import { type Tap, take } from './tap.ts';
import type { Values } from './values.ts';

export type { Tap, Values };

/** The images of a batch (N, H, W, C), sharing its memory. */
export function images({ data, shape: [n, height, width, channels] }: Values): FloatImage[] {
  const size = height * width * channels;
  return Array.from({ length: n }, (_, i) => ({ width, height, channels, data: data.subarray(i * size, (i + 1) * size) }));
}

/** What N texts condition: context (N, L, D) and vector (N, V). */
export interface TextConditioning {
  context: Values;
  vector: Values;
}

export interface DenoiserOptions {
  /** A factor on the control scale for each project module, in order of the checkpoint; null for 1 each. */
  moduleScales?: readonly number[] | null;
  /** Takes activations out. */
  tap?: Tap | null;
  /** Step caching: in how many windows of a latent it is asked, each with deep features of its own; 0, the default, keeps none. */
  cachedWindows?: number;
  /** Stops the loading of weights, and evaluations between two segments of streamed ones. */
  signal?: AbortSignal;
}

/** The inputs context (B N, L, D) and vector (B N, V) of `Supir.denoiserGraph`: the negative branch's texts, if any, before the positive's. */
export function textInputs(
  n: number,
  negative: TextConditioning | null,
  positive: TextConditioning,
): Record<keyof TextConditioning, Float32Array> {
  const branches = negative ? [negative, positive] : [positive];
  const join = (key: keyof TextConditioning) => {
    const perText = sizeOf(positive[key].shape.slice(1));
    const data = new Float32Array(branches.length * n * perText);
    branches.forEach((branch, b) => {
      const texts = branch[key];
      for (let i = 0; i < n; i++) {
        const at = texts.shape[0] === 1 ? 0 : i * perText;
        data.set(texts.data.subarray(at, at + perText), (b * n + i) * perText);
      }
    });
    return data;
  };
  return { context: join('context'), vector: join('vector') };
}

/** One planned evaluation of control network and UNet for the branches of the guidance, replayed at every step. */
export class DenoisingNetwork {
  readonly program: Program<'eps'>;
  private pending: RunInputs;
  private readonly loras: LoraSet;
  private readonly timestepWidth: number;
  private readonly moduleScales: readonly number[] | null;
  private readonly tap: Tap | null;
  private readonly features: DeepFeatures | null;
  private readonly answers = new AnswerCheck();

  constructor(
    program: Program<'eps'>,
    constants: RunInputs,
    loras: LoraSet,
    timestepWidth: number,
    moduleScales: readonly number[] | null = null,
    tap: Tap | null = null,
    features: DeepFeatures | null = null,
  ) {
    this.program = program;
    this.pending = constants;
    this.loras = loras;
    this.timestepWidth = timestepWidth;
    this.moduleScales = moduleScales;
    this.tap = tap;
    this.features = features;
  }

  /** Predicted noise of both branches; a sampler's Network. Throws DeviceError where that cannot be right. */
  readonly network: Network = (input) => this.evaluate(input);

  /** The same after switching some of the program's inputs (hint, context, vector), which then stay; of `window` are the deep features. */
  async evaluate(
    { x, timestep, controlScale, progress, reuse = false }: NetworkInput,
    switched: RunInputs = {},
    window = 0,
  ): ReturnType<Network> {
    const scales = this.moduleScales
      ? Object.fromEntries(this.moduleScales.map((factor, i) => [`controlScale.${i}`, factor * controlScale]))
      : { controlScale };
    const loraScales = this.loras.inputs(this.program.plan.scalars, progress);
    const changing = { x, timestep: timestepEmbedding([timestep], this.timestepWidth), ...scales, ...loraScales };
    const given = { ...this.pending, ...switched, ...changing };
    const { eps, ...tapped } = await this.program.run(given, this.features?.runOptions(window, reuse));
    this.pending = {};
    this.answers.check(x, timestep, eps);
    if (this.tap) await take(this.tap, tapped, this.program.plan.outputs);
    return { negative: eps.subarray(0, x.length), positive: eps.subarray(eps.length - x.length) };
  }

  dispose(): void {
    this.features?.release();
    this.program.dispose();
  }
}
