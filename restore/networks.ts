/**
 * SUPIR's networks as calls on host arrays: each plans its graph for the size at hand, runs it and frees its buffers; weights stay.
 * Arrays are dense and channels-last. Latents are in unit scale, as SUPIR's sampler sees them (the autoencoder's times scale_factor).
 */

import { UserError } from '../core/errors.ts';
import { watch } from '../core/observe.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type Program, type RunInputs } from '../gpu/program.ts';
import { pixelAttention } from '../models/attention-inputs.ts';
import type { TokenPair } from '../models/conditioner.ts';
import type { Supir } from '../models/supir.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import type { EncoderName } from '../models/vae.ts';
import type { Network, NetworkInput } from '../sampler/denoiser.ts';
import { LoraScales } from './lora-scales.ts';
import { runAutoencoder, type TilingEvents, VAE_TILING } from './tiled-vae.ts';
import type { Values } from './values.ts';

export type { Values };

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
  /** Stops the loading of weights, and evaluations between two segments of streamed ones. */
  signal?: AbortSignal;
}

/** Takes intermediate activations of UNet and control network out, under their checkpoint names; they may cost the last bit of the result. */
export interface Tap {
  wanted(name: string): boolean;
  /** Whether to look at a layer of attention between pixels too: its queries and keys are taken as `name.q` and `name.k`. */
  attention?(name: string): boolean;
  /** Called after every evaluation with all that are wanted; the branches of guidance, negative and positive, one after the other. Awaited. */
  take(tensors: Record<string, Values>): void | Promise<void>;
}

export class Networks {
  readonly device: Device;
  readonly supir: Supir;
  /** Applied to text towers, UNet and control network wherever they name a weight. */
  readonly loras = new LoraScales();

  constructor(device: Device, supir: Supir) {
    this.device = device;
    this.supir = supir;
  }

  /** x (N, H, W, 3) in [-1, 1], sides multiples of the latent factor -> mean and log variance, each (N, H / f, W / f, z), not scaled. */
  async encode(x: Values, which: EncoderName, tiling = VAE_TILING, events: TilingEvents = {}): Promise<{ mean: Values; logvar: Values }> {
    const encode = (tensor: Tensor) => this.supir.first_stage_model.encode(tensor, which);
    const { data, shape } = await runAutoencoder(this.device, 'encoder', encode, x, tiling, events);
    const z = this.supir.config.vae.z_channels;
    const half = (from: number): Values => ({
      shape: [...shape.slice(0, 3), z],
      data: new Float32Array(data.length / 2).map((_, i) => data[Math.floor(i / z) * 2 * z + from + (i % z)]),
    });
    return { mean: half(0), logvar: half(z) };
  }

  /** Latent (N, h, w, z) in unit scale -> image (N, f h, f w, 3), not clamped. */
  async decode(latent: Values, tiling = VAE_TILING, events: TilingEvents = {}): Promise<Values> {
    const z = latent.data.map((value) => value / this.supir.config.vae.scale_factor);
    const decode = (tensor: Tensor) => this.supir.first_stage_model.decode(tensor);
    return runAutoencoder(this.device, 'decoder', decode, { data: z, shape: latent.shape }, tiling, events);
  }

  /** Token ids of one text -> what they condition. `sizes` as in Conditioner.inputs; `signal` stops the loading of weights. */
  async condition(tokens: TokenPair, sizes?: number[], signal?: AbortSignal): Promise<TextConditioning> {
    const { conditioner } = this.supir;
    const graph = conditioner.forward();
    const { context, vector } = await this.once(this.loras.stack.apply({ ...graph }), await conditioner.inputs(tokens, sizes), signal);
    return { context: { data: context, shape: graph.context.shape }, vector: { data: vector, shape: graph.vector.shape } };
  }

  /**
   * Plans UNet and control network for N latents of h x w and returns what a sampler calls, once a step.
   * hint (N, h, w, z): the degraded image's latent. Conditionings hold N texts each, or one for all; both of one length.
   * Without a negative one there is no guidance: the positive branch answers for both, at half the work.
   * Throws UserError when a tap wants none of the activations that there are.
   */
  async denoiser(
    hint: Values,
    negative: TextConditioning | null,
    positive: TextConditioning,
    { moduleScales = null, tap = null, signal }: DenoiserOptions = {},
  ): Promise<DenoisingNetwork> {
    const constants = { hint: hint.data, ...textInputs(hint.shape[0], negative, positive) };
    const build = () => this.supir.denoiserGraph(hint.shape, positive.context.shape[1], negative ? 2 : 1, moduleScales !== null);
    const { result: graph, tensors, names } = watch((name) => tap?.wanted(name) ?? false, build);
    if (tap && Object.keys(tensors).length === 0)
      throw new UserError(`None of the activations has the name that a trace asks for. There are: ${names.join(', ')}.`);
    for (const [name, { q, k }] of tap?.attention ? pixelAttention(graph) : [])
      if (tap!.attention!(name)) Object.assign(tensors, { [`${name}.q`]: q, [`${name}.k`]: k });
    const program: Program<'eps'> = await compile(this.device, this.loras.stack.apply({ ...tensors, ...graph }), signal);
    return new DenoisingNetwork(program, constants, this.loras, this.supir.config.unet.model_channels, moduleScales, tap);
  }

  /** How many project modules take control features into the UNet; 12 in SUPIR. */
  get projectModules(): number {
    return this.supir.model.diffusion_model.project_modules.length;
  }

  private async once<Names extends string>(
    outputs: Record<Names, Tensor>,
    inputs: RunInputs,
    signal?: AbortSignal,
  ): Promise<Record<Names, Float32Array>> {
    const program = await compile(this.device, outputs, signal);
    try {
      return await program.run({ ...inputs, ...this.loras.inputs(program.plan.scalars) });
    } finally {
      program.dispose();
    }
  }
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
  private readonly loras: LoraScales;
  private readonly timestepWidth: number;
  private readonly moduleScales: readonly number[] | null;
  private readonly tap: Tap | null;

  constructor(
    program: Program<'eps'>,
    constants: RunInputs,
    loras: LoraScales,
    timestepWidth: number,
    moduleScales: readonly number[] | null = null,
    tap: Tap | null = null,
  ) {
    this.program = program;
    this.pending = constants;
    this.loras = loras;
    this.timestepWidth = timestepWidth;
    this.moduleScales = moduleScales;
    this.tap = tap;
  }

  /** Predicted noise of both branches; a sampler's Network. */
  readonly network: Network = (input) => this.evaluate(input);

  /** The same after switching some of the program's inputs (hint, context, vector), which then stay. */
  async evaluate({ x, timestep, controlScale, progress }: NetworkInput, switched: RunInputs = {}): ReturnType<Network> {
    const scales = this.moduleScales
      ? Object.fromEntries(this.moduleScales.map((factor, i) => [`controlScale.${i}`, factor * controlScale]))
      : { controlScale };
    const loraScales = this.loras.inputs(this.program.plan.scalars, progress);
    const changing = { x, timestep: timestepEmbedding([timestep], this.timestepWidth), ...scales, ...loraScales };
    const { eps, ...tapped } = await this.program.run({ ...this.pending, ...switched, ...changing });
    this.pending = {};
    if (this.tap) {
      const { outputs } = this.program.plan;
      const values = Object.entries<Float32Array>(tapped).map(([name, data]) => [name, { data, shape: outputs.get(name)!.shape }]);
      await this.tap.take(Object.fromEntries(values));
    }
    return { negative: eps.subarray(0, x.length), positive: eps.subarray(eps.length - x.length) };
  }

  dispose(): void {
    this.program.dispose();
  }
}
