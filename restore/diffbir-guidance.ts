/**
 * DiffBIR's restoration guidance: in every step the estimate of the clean latent goes down the gradient of its distance to the cleaned picture,
 * flat regions weighing most. (arXiv 2308.15070, sec. 3.3, algorithm 1; as the program of the paper computes it)
 */
import { UserError } from '../core/errors.ts';
import { type Shape, sizeOf } from '../core/shape.ts';
import { input, type Tensor } from '../core/tensor.ts';
import { compile, type Program } from '../gpu/program.ts';
import { flatness } from '../image/edges.ts';
import { mul, sub } from '../kernels/binary.ts';
import { gradient } from '../kernels/gradient.ts';
import { affine } from '../kernels/unary.ts';
import type { StableDiffusion } from '../models/stable-diffusion.ts';
import type { SpacedOptions } from '../sampler/spaced.ts';
import type { DiffBirNetworks } from './diffbir.ts';
import type { Values } from './values.ts';

export interface Guidance {
  /** The squared error, or the same weighted by flatness, which needs pictures. */
  loss: 'mse' | 'w_mse';
  /** Where the distance is measured: between pictures, or between latents. */
  space: 'rgb' | 'latent';
  /** Step along the gradient; the published program's unit, usual 0.1 to 1. */
  scale: number;
  /** Timesteps t with stop < t + 1 < start are guided. Defaults 1001 and -1: all. */
  start?: number;
  stop?: number;
  /** Steps along the gradient in each sampling step. Default 1. */
  repeat?: number;
}

/** What the published program multiplies the scale by. */
const UNIT = 3000;

/**
 * Plans guidance towards `target`, the cleaned pictures (N, H, W, 3) in [-1, 1], padded as the encoder gets them. -> the spaced sampler's `correct`, and what
 * frees its buffers. Throws UserError for options that do not go together.
 */
export async function guidanceTo(networks: DiffBirNetworks, target: Values, guidance: Guidance) {
  const { loss, space, scale, start = 1001, stop = -1, repeat = 1 } = guidance;
  if (!(Number.isInteger(repeat) && repeat >= 1))
    throw new UserError(`Guidance is repeated a whole number of times, 1 or more, not ${repeat}.`);
  if (space === 'latent' && loss === 'w_mse')
    throw new UserError('Guidance between latents has no weights: choose the loss mse, or the space rgb.');
  const [n] = target.shape;
  const guided = (timestep: number) => stop < timestep + 1 && timestep + 1 < start;
  const step = (x0: Float32Array, derivative: ArrayLike<number>, coefficient: number) =>
    x0.map((value, i) => value - (UNIT * scale * derivative[i]) / coefficient);

  if (space === 'latent') {
    const moments = await networks.moments(target);
    const perImage = moments.mean.data.length / n;
    const correct: SpacedOptions['correct'] = {
      draws: ({ timestep }) => (guided(timestep) ? repeat : 0),
      apply: async (x0, level, draws) =>
        draws.reduce((x, noise) => {
          const wanted = networks.sampled(moments, noise);
          const derivative = x.map((value, i) => (2 * (value - wanted[i])) / perImage);
          return step(x, derivative, level.posteriorMeanCoef1);
        }, x0),
    };
    return { correct, dispose: () => {} };
  }

  const { outputs } = guidanceGraph(networks.model.base, target.shape);
  const program: Program<'derivative'> = await compile(networks.device, outputs);
  const share = 2 / sizeOf(target.shape.slice(1));
  const constants = { target: target.data, weight: weightsOf(target, loss).map((value) => value * share) };
  const correct: SpacedOptions['correct'] = {
    draws: () => 0,
    async apply(clean, level) {
      if (!guided(level.timestep)) return clean;
      let x = clean;
      for (let i = 0; i < repeat; i++) x = step(x, (await program.run({ ...constants, x0: x })).derivative, level.posteriorMeanCoef1);
      return x;
    },
  };
  return { correct, dispose: () => program.dispose() };
}

/**
 * The gradient of half the weighted squared distance between pictures: inputs x0 (N, h, w, z) in the networks' scale, target (N, H, W, 3) of shape `shape`,
 * weight (N, H, W, 1). -> derivative, as x0
 */
export function guidanceGraph({ first_stage_model, config: { vae } }: StableDiffusion, shape: Shape): { outputs: { derivative: Tensor } } {
  const factor = 2 ** (vae.ch_mult.length - 1);
  const [n, height, width] = shape;
  const x0 = input('x0', [n, height / factor, width / factor, vae.z_channels]);
  const picture = first_stage_model.decode(affine(x0, 1 / vae.scale_factor, 0));
  const upstream = mul(sub(picture, input('target', shape)), input('weight', [n, height, width, 1]));
  const [derivative] = gradient(picture, [x0], { upstream });
  return { outputs: { derivative } };
}

/** The weight of every pixel, (N, H, W) f32, of pictures in [-1, 1]. */
export function weightsOf({ data, shape: [n, height, width] }: Values, loss: Guidance['loss']): Float32Array {
  const pixels = height * width;
  if (loss === 'mse') return new Float32Array(n * pixels).fill(1);
  const weights = new Float32Array(n * pixels);
  for (let i = 0; i < n; i++) {
    const unit = data.subarray(3 * i * pixels, 3 * (i + 1) * pixels).map((value) => (value + 1) / 2);
    weights.set(flatness({ width, height, channels: 3, data: unit }), i * pixels);
  }
  return weights;
}
