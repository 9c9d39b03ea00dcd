/**
 * A start for an autoencoder that reduces to a quarter: before any training of the networks it is the best linear one of its form. The encoder gives the
 * principal components of blocks of 4 x 4 pixels, carried through the residual stream; the decoder is four convolutions without anything
 * between them, fitted to the photos, of which the first three sit where the size changes. Branches beside the stream begin near zero.
 */

import { UserError } from '../core/errors.ts';
import { joined } from '../core/joined.ts';
import { Module } from '../core/module.ts';
import { TorchRandom } from '../core/random.ts';
import { input, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type RunInputs } from '../gpu/program.ts';
import { sub } from '../kernels/binary.ts';
import { upsampleNearest } from '../kernels/copy.ts';
import { mean } from '../kernels/reduce.ts';
import { reshape } from '../kernels/reshape.ts';
import { square } from '../kernels/unary.ts';
import type { SupirConfig, VaeConfig } from '../models/config.ts';
import { Conv2d } from '../models/layers.ts';
import type { TrainingPicture } from './autoencoding.ts';
import { type Components, principalComponents } from './principal-components.ts';
import { type StepReport, type Task, Training } from './training.ts';
import { clearRow, put, shrink, type Weight, type Weights } from './untrained.ts';

/** Pixels of a block, along one side. */
const BLOCK = 4;
/** Values of a block. */
const VALUES = BLOCK * BLOCK * 3;
/** The stream's spread in front of the encoder's last norm, and the constant beside it that keeps the norm from changing it. */
const [SPREAD, CONSTANT] = [0.3, 3];

export interface LinearStartOptions {
  /** Of the decoder's fit: updates, pictures an update, learning rate. Defaults 1500, 8 and 3e-3. */
  steps?: number;
  batch?: number;
  rate?: number;
  seed: number;
  onStep?(report: StepReport): void;
}

/**
 * Makes the weights' autoencoder and denoise encoder the linear optimum of the pictures, all of one shape whose sides are multiples of 4. Throws UserError for an
 * autoencoder whose form has no room for it.
 */
export async function startLinear(
  device: Device,
  config: SupirConfig,
  weights: Weights,
  pictures: readonly TrainingPicture[],
  options: LinearStartOptions,
): Promise<void> {
  const room = roomOf(config.vae);
  const blocks = blocksOf(pictures);
  const components = principalComponents(blocks, VALUES);
  for (const which of ['encoder', 'denoise_encoder']) startEncoder(weights, `first_stage_model.${which}.`, room, components);
  const identity = (name: string) => {
    const weight = weights.get(`first_stage_model.${name}.weight`)!;
    for (let i = 0; i < weight.shape[0]; i++) {
      clearRow(weight, i);
      put(weight, i, i, 1);
    }
  };
  identity('quant_conv');
  identity('post_quant_conv');
  const decoder = await fitDecoder(device, room, components, pictures, options);
  startDecoder(weights, 'first_stage_model.decoder.', room, decoder);
}

interface Room {
  z: number;
  groups: number;
  /** Channels of the three levels. */
  channels: readonly number[];
}

function roomOf({ ch, ch_mult, z_channels: z, norm_groups: groups }: VaeConfig): Room {
  const channels = ch_mult.map((multiple) => ch * multiple);
  const needed = [Math.max(3, 3 * groups), 12, (2 * Math.ceil(z / groups) + 2) * groups];
  const isRising = channels.every((each, i) => i === 0 || each > channels[i - 1]); // a 1 x 1 shortcut leads from each level to the next
  if (channels.length !== 3 || !isRising || channels.some((each, i) => each < needed[i]) || channels[1] < z)
    throw new UserError(
      `A linear start needs an autoencoder of three levels, each wider than the one before and of at least ${needed.join(', ')} channels, with ${z} latent channels; this one has ${channels.join(', ')}.`,
    );
  return { z, groups, channels };
}

/** Every block of every picture, (blocks, 48): row by row, pixel by pixel, red, green and blue. */
function blocksOf(pictures: readonly TrainingPicture[]): Float32Array {
  const [height, width] = pictures[0].shape;
  const [down, across] = [height / BLOCK, width / BLOCK];
  const blocks = new Float32Array(pictures.length * down * across * VALUES);
  let at = 0;
  for (const { pixels } of pictures)
    for (let y = 0; y < down; y++)
      for (let x = 0; x < across; x++)
        for (let row = 0; row < BLOCK; row++, at += 3 * BLOCK) {
          const from = ((y * BLOCK + row) * width + x * BLOCK) * 3;
          blocks.set(pixels.subarray(from, from + 3 * BLOCK), at);
        }
  return blocks;
}

/** Factors that bring the components nearer to one spread, the first `z` of them to a mean square of 1. */
function scalesOf({ variances }: Components, z: number): Float64Array {
  const scales = variances.map((variance) => Math.max(variance, 1e-8) ** -0.25);
  let square = 0;
  for (let i = 0; i < z; i++) square += (variances[i] * scales[i] ** 2) / z;
  return scales.map((scale) => scale / Math.sqrt(square));
}

/** Multiplies what a branch adds to the stream. */
function shrinkBranches(weights: Weights, prefix: string): void {
  for (const [name, weight] of weights) if (name.startsWith(prefix) && /(conv2|proj_out)\.weight$/.test(name)) shrink(weight, 0.1);
}

function startEncoder(weights: Weights, prefix: string, { z, groups, channels }: Room, components: Components): void {
  const at = (name: string) => weights.get(`${prefix}${name}`)!;
  shrinkBranches(weights, prefix);
  const first = at('conv_in.weight');
  const half = at('down.0.downsample.conv.weight');
  const pass = at('down.1.block.0.nin_shortcut.weight');
  for (let c = 0; c < 3; c++) {
    clearRow(first, c);
    put(first, c, c, 1);
  }
  for (let i = 0; i < 12; i++) {
    clearRow(half, i);
    put(half, i, i % 3, 1, [i >= 6 ? 1 : 0, Math.floor(i / 3) % 2]);
    clearRow(pass, i);
    put(pass, i, i, 1);
  }
  // A quarter: each component is a sum over 2 x 2 of the twelve values of 2 x 2 pixels.
  const quarter = at('down.1.downsample.conv.weight');
  const offset = at('down.1.downsample.conv.bias').values;
  const scales = scalesOf(components, z).map((scale) => scale * SPREAD);
  for (let i = 0; i < z; i++) {
    clearRow(quarter, i);
    offset[i] = 0;
    for (let k = 0; k < VALUES; k++) {
      const [y, x, c] = [Math.floor(k / 12), Math.floor(k / 3) % 4, k % 3];
      const weight = components.vectors[i * VALUES + k] * scales[i];
      put(quarter, i, ((y % 2) * 2 + (x % 2)) * 3 + c, weight, [y >> 1, x >> 1]);
      offset[i] -= weight * components.mean[k];
    }
  }
  // Past the norm and the activation: silu(a) - silu(-a) = a, and two constants that outweigh what the norm measures.
  const wide = at('down.2.block.0.nin_shortcut.weight');
  const constants = at('down.2.block.0.nin_shortcut.bias').values;
  const out = at('conv_out.weight');
  const perGroup = channels[2] / groups;
  for (let i = 0; i < out.shape[0]; i++) if (i < z) clearRow(out, i);
  out.values.fill(0, z * sizeOf(out.shape.slice(1)));
  at('conv_out.bias').values.fill(-6, z);
  const factor = CONSTANT * Math.sqrt(2 / perGroup);
  for (let group = 0; group < groups; group++) {
    const start = group * perGroup;
    at('norm_out.weight').values.fill(factor, start, start + perGroup);
    for (let row = 0; row < perGroup; row++) for (let from = 0; from < channels[1]; from++) put(wide, start + row, from, 0);
    for (const [j, sign] of [1, -1].entries()) {
      constants[start + perGroup - 2 + j] = sign * CONSTANT;
      for (let i = group; i < z; i += groups) {
        const channel = start + 2 * Math.floor(i / groups) + j;
        put(wide, channel, i, sign);
        put(out, i, channel, sign / SPREAD);
      }
    }
  }
}

/** The decoder without branches, norms and activations: what a size above can be told linearly from the one below. */
class LinearDecoder extends Module {
  quarter: Conv2d;
  half: Conv2d;
  full: Conv2d;
  out: Conv2d;

  constructor({ z, groups, channels }: Room) {
    super();
    this.quarter = new Conv2d(z, channels[2], 3);
    this.half = new Conv2d(channels[2], channels[1], 3);
    this.full = new Conv2d(channels[1], groups, 3);
    this.out = new Conv2d(groups, 3, 3);
  }

  /** latents (N, h, w, z) -> full (N, 4 h, 4 w, groups) and x (N, 4 h, 4 w, 3) */
  forward(latents: Tensor): { full: Tensor; x: Tensor } {
    const half = this.half.forward(upsampleNearest(this.quarter.forward(latents), 2));
    const full = this.full.forward(upsampleNearest(half, 2));
    return { full, x: this.out.forward(full) };
  }
}

interface FittedDecoder {
  weights: Record<'quarter' | 'half' | 'full' | 'out', { weight: Weight; bias: Weight }>;
  /** Root of the mean square of each signal in front of the last convolution. */
  spreads: number[];
}

class LinearTask implements Task<TrainingPicture> {
  readonly levels = 1;
  private readonly decoder: LinearDecoder;
  private readonly encode: (pictures: readonly TrainingPicture[]) => Float32Array;
  private readonly z: number;

  constructor(decoder: LinearDecoder, z: number, encode: (pictures: readonly TrainingPicture[]) => Float32Array) {
    [this.decoder, this.z, this.encode] = [decoder, z, encode];
  }

  graph(pictures: readonly TrainingPicture[]) {
    const n = pictures.length;
    const { x } = this.decoder.forward(input('latents', this.latentShape(pictures)));
    const perImage = mean(reshape(square(sub(x, input('x', x.shape))), [n, sizeOf(x.shape) / n]));
    return { loss: mean(perImage), perImage };
  }

  latentShape(pictures: readonly TrainingPicture[]): Shape {
    const [height, width] = pictures[0].shape;
    return [pictures.length, height / BLOCK, width / BLOCK, this.z];
  }

  inputs(pictures: readonly TrainingPicture[]): RunInputs {
    return { latents: this.encode(pictures), x: joined(pictures.map(({ pixels }) => pixels)) };
  }
}

async function fitDecoder(
  device: Device,
  room: Room,
  components: Components,
  pictures: readonly TrainingPicture[],
  { steps = 1500, batch = 8, rate = 3e-3, seed, onStep }: LinearStartOptions,
): Promise<FittedDecoder> {
  const decoder = new LinearDecoder(room);
  const random = new TorchRandom(seed);
  const layers = Object.entries(decoder) as [keyof FittedDecoder['weights'], Conv2d][];
  const parameters = layers.flatMap(([, { weight, bias }]) => [weight, bias!]);
  const values = parameters.map(({ shape, kind }) =>
    kind === 'vector' ? new Float32Array(shape[0]) : random.randn(sizeOf(shape)).map((value) => value / Math.sqrt(sizeOf(shape.slice(1)))),
  );
  parameters.forEach((parameter, n) => {
    Object.assign(parameter, {
      name: `linear.${n}`,
      dtype: 'f32',
      source: { read: async () => values[n], readRows: async () => values[n] },
    });
  });
  const task = new LinearTask(decoder, room.z, (chosen) => latentsOf(chosen, components, room.z));
  const training = new Training(device, task, parameters, values, {
    steps,
    batch,
    rate,
    seed,
    warmup: 50,
    decay: 'cosine',
    betas: [0.9, 0.99],
    weightDecay: 0,
    clip: null,
    checkpointing: false,
  });
  try {
    while (training.step < steps) {
      const report = await training.update(pictures);
      onStep?.(report);
    }
    const few = pictures.slice(0, batch);
    const { full } = decoder.forward(input('latents', task.latentShape(few)));
    const program = await compile(device, { full });
    const signals = (await program.run({ latents: task.inputs(few).latents })).full;
    program.dispose();
    const trained = await training.result();
    const weight = (n: number): Weight => ({ shape: parameters[n].shape, values: trained[n] });
    return {
      weights: Object.fromEntries(
        layers.map(([name], n) => [name, { weight: weight(2 * n), bias: weight(2 * n + 1) }]),
      ) as FittedDecoder['weights'],
      spreads: Array.from({ length: room.groups }, (_, g) => rootMeanSquare(signals.filter((_, i) => i % room.groups === g))),
    };
  } finally {
    await training.dispose();
    for (const parameter of parameters) device.residency.release(parameter);
  }
}

const rootMeanSquare = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

function startDecoder(weights: Weights, prefix: string, { groups, channels }: Room, { weights: fitted, spreads }: FittedDecoder): void {
  const at = (name: string) => weights.get(`${prefix}${name}`)!;
  shrinkBranches(weights, prefix);
  /** The first output channels become the fitted ones; what is left of the random ones is small. */
  const take = (name: string, { weight, bias }: FittedDecoder['weights']['full']) => {
    shrink(at(`${name}.weight`), 0.1);
    at(`${name}.weight`).values.set(weight.values);
    at(`${name}.bias`).values.set(bias.values);
  };
  take('conv_in', fitted.quarter);
  take('up.2.upsample.conv', fitted.half);
  take('up.1.upsample.conv', fitted.full);
  const narrow = at('up.1.block.0.nin_shortcut.weight');
  for (let i = 0; i < channels[1]; i++) {
    clearRow(narrow, i);
    put(narrow, i, i, 1);
  }
  // In each group of the last norm a signal, its opposite, and a constant that outweighs them; the norm's bias takes the constant's share away again.
  const last = at('up.0.block.0.nin_shortcut.weight');
  const constants = at('up.0.block.0.nin_shortcut.bias').values;
  const [factors, offsets] = [at('norm_out.weight').values, at('norm_out.bias').values];
  const out = at('conv_out.weight');
  for (const weight of [last, out]) shrink(weight, 0.05);
  at('conv_out.bias').values.set(fitted.out.bias.values);
  const perGroup = channels[0] / groups;
  for (const [group, spread] of spreads.entries()) {
    const start = group * perGroup;
    const constant = 10 * spread;
    const center = constant / perGroup;
    const deviation = Math.sqrt((2 * spread ** 2 + constant ** 2) / perGroup - center ** 2);
    constants[start + 2] = constant;
    for (const [j, sign] of [1, -1].entries()) {
      clearRow(last, start + j);
      put(last, start + j, group, sign);
      factors[start + j] = deviation / spread;
      offsets[start + j] = center / spread;
      for (let c = 0; c < 3; c++)
        for (let y = 0; y < 3; y++)
          for (let x = 0; x < 3; x++)
            put(out, c, start + j, sign * spread * fitted.out.weight.values[((c * groups + group) * 3 + y) * 3 + x], [y, x]);
    }
  }
}

/** What the encoder gives: (N, h, w, z), scaled components of every block. */
function latentsOf(pictures: readonly TrainingPicture[], { vectors, mean: middle, ...rest }: Components, z: number): Float32Array {
  const blocks = blocksOf(pictures);
  const scales = scalesOf({ vectors, mean: middle, ...rest }, z);
  const latents = new Float32Array((blocks.length / VALUES) * z);
  for (let block = 0, at = 0; block < blocks.length; block += VALUES) {
    for (let i = 0; i < z; i++, at++) {
      let sum = 0;
      for (let k = 0; k < VALUES; k++) sum += vectors[i * VALUES + k] * (blocks[block + k] - middle[k]);
      latents[at] = sum * scales[i];
    }
  }
  return latents;
}
