/**
 * SUPIR's networks as calls on host arrays: each plans its graph for the size at hand, runs it and frees its buffers; weights stay.
 * Arrays are dense and channels-last. Latents are in unit scale, as SUPIR's sampler sees them (the autoencoder's times scale_factor).
 */
import type { Device } from '../core/device.ts';
import { compile, type Program, type RunInputs } from '../core/program.ts';
import { input, type Shape, scalar, sizeOf, type Tensor } from '../core/tensor.ts';
import { concat } from '../kernels/copy.ts';
import type { TokenPair } from '../models/conditioner.ts';
import { latentFactor } from '../models/config.ts';
import type { Supir } from '../models/supir.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import type { EncoderName } from '../models/vae.ts';
import type { Network } from '../sampler/denoiser.ts';

/** A dense array on the host. */
export interface Values {
  data: Float32Array;
  shape: Shape;
}

/** What N texts condition: context (N, L, D) and vector (N, V). */
export interface TextConditioning {
  context: Values;
  vector: Values;
}

export class Networks {
  readonly device: Device;
  readonly supir: Supir;

  constructor(device: Device, supir: Supir) {
    this.device = device;
    this.supir = supir;
  }

  /** Graph of `encode`; input x. */
  encodeGraph(shape: Shape, which: EncoderName) {
    return { moments: this.supir.first_stage_model.encode(input('x', shape), which) };
  }

  /** Graph of `decode`; input z. */
  decodeGraph(shape: Shape) {
    return { x: this.supir.first_stage_model.decode(input('z', shape)) };
  }

  /**
   * Graph of one evaluation of control network and UNet for N latents, both branches of the guidance in one batch of 2 N.
   * Inputs x and hint (N, h, w, z), timestep (1, model_channels), context (2 N, L, D), vector (2 N, V), scalar controlScale.
   */
  denoiserGraph([n, h, w, z]: Shape, tokens: number) {
    const { unet } = this.supir.config;
    const { diffusion_model, control_model } = this.supir.model;
    const twice = (tensor: Tensor) => concat([tensor, tensor], 0);
    const x = twice(input('x', [n, h, w, z]));
    const hint = twice(input('hint', [n, h, w, z]));
    const timestep = input('timestep', [1, unet.model_channels]);
    const context = input('context', [2 * n, tokens, unet.context_dim]);
    const vector = input('vector', [2 * n, unet.adm_in_channels]);
    const features = control_model.forward(x, hint, timestep, context, vector);
    return { eps: diffusion_model.forward(x, timestep, context, vector, { features, scale: scalar('controlScale') }) };
  }

  /** x (N, H, W, 3) in [-1, 1], sides multiples of the latent factor -> mean and log variance, each (N, H / f, W / f, z), not scaled. */
  async encode(x: Values, which: EncoderName): Promise<{ mean: Values; logvar: Values }> {
    const z = this.supir.config.vae.z_channels;
    const factor = latentFactor(this.supir.config);
    const [n, h, w] = x.shape;
    const shape = [n, h / factor, w / factor, z];
    const { moments } = await this.once(this.encodeGraph(x.shape, which), { x: x.data });
    const half = (from: number): Values => ({
      shape,
      data: new Float32Array(sizeOf(shape)).map((_, i) => moments[Math.floor(i / z) * 2 * z + from + (i % z)]),
    });
    return { mean: half(0), logvar: half(z) };
  }

  /** Latent (N, h, w, z) in unit scale -> image (N, f h, f w, 3), not clamped. */
  async decode(latent: Values): Promise<Values> {
    const factor = latentFactor(this.supir.config);
    const [n, h, w] = latent.shape;
    const z = latent.data.map((value) => value / this.supir.config.vae.scale_factor);
    const { x } = await this.once(this.decodeGraph(latent.shape), { z });
    return { data: x, shape: [n, h * factor, w * factor, 3] };
  }

  /** Token ids of one text -> what they condition. `sizes` as in Conditioner.inputs. */
  async condition(tokens: TokenPair, sizes?: number[]): Promise<TextConditioning> {
    const { conditioner } = this.supir;
    const graph = conditioner.forward();
    const { context, vector } = await this.once({ ...graph }, await conditioner.inputs(tokens, sizes));
    return { context: { data: context, shape: graph.context.shape }, vector: { data: vector, shape: graph.vector.shape } };
  }

  /**
   * Plans UNet and control network for N latents of h x w and returns what a sampler calls, once a step.
   * hint (N, h, w, z): the degraded image's latent. Conditionings hold N texts each, or one for all; both of one length.
   */
  async denoiser(hint: Values, negative: TextConditioning, positive: TextConditioning): Promise<DenoisingNetwork> {
    const [n] = hint.shape;
    const both = (key: keyof TextConditioning) => {
      const perImage = sizeOf(positive[key].shape.slice(1));
      const data = new Float32Array(2 * n * perImage);
      for (let i = 0; i < 2 * n; i++) {
        const texts = (i < n ? negative : positive)[key];
        const at = texts.shape[0] === 1 ? 0 : (i % n) * perImage;
        data.set(texts.data.subarray(at, at + perImage), i * perImage);
      }
      return data;
    };
    const constants = { hint: hint.data, context: both('context'), vector: both('vector') };
    const program = await compile(this.device, this.denoiserGraph(hint.shape, positive.context.shape[1]));
    return new DenoisingNetwork(program, constants, this.supir.config.unet.model_channels);
  }

  private async once<Names extends string>(outputs: Record<Names, Tensor>, inputs: RunInputs): Promise<Record<Names, Float32Array>> {
    const program = await compile(this.device, outputs);
    try {
      return await program.run(inputs);
    } finally {
      program.dispose();
    }
  }
}

/** One planned evaluation of control network and UNet for both branches of the guidance, replayed at every step. */
export class DenoisingNetwork {
  readonly program: Program<'eps'>;
  private pending: RunInputs;
  private readonly timestepWidth: number;

  constructor(program: Program<'eps'>, constants: RunInputs, timestepWidth: number) {
    this.program = program;
    this.pending = constants;
    this.timestepWidth = timestepWidth;
  }

  /** Predicted noise of both branches; a sampler's Network. */
  readonly network: Network = async ({ x, timestep, controlScale }) => {
    const changing = { x, timestep: timestepEmbedding([timestep], this.timestepWidth), controlScale };
    const { eps } = await this.program.run({ ...this.pending, ...changing });
    this.pending = {};
    return { negative: eps.subarray(0, eps.length / 2), positive: eps.subarray(eps.length / 2) };
  };

  dispose(): void {
    this.program.dispose();
  }
}
