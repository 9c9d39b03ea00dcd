/**
 * An untrained model of any sizes: random weights by which training sets out well. Convolutions and matrices keep their inputs' spread (Glorot & Bengio
 * 2010, by the inputs alone), branches beside a shortcut begin small, norms change nothing, and the UNet begins near the answer that is known without
 * training: of a noisy latent, what differs from the denoise encoder's is noise.
 */

import { TorchRandom } from '../core/random.ts';
import { sizeOf } from '../core/tensor.ts';
import type { SupirConfig } from '../models/config.ts';
import { Supir } from '../models/supir.ts';
import { expectedKeys } from '../weights/attach.ts';

/** A weight in the checkpoint's order. */
export interface Weight {
  shape: readonly number[];
  values: Float32Array;
}

/** Weights by their checkpoint keys. */
export type Weights = Map<string, Weight>;

/** The last layer of a branch that is added to its input. */
const BRANCH = /\.(conv2|proj_out|out_layers\.3|to_out\.0|net\.2|out_proj|fc2|c_proj)\.weight$/;
const ZERO = /\.zero_(mul|add|conv)\.weight$/;
const TABLE = /\.(token_embedding|position_embedding)\.weight$|\.positional_embedding$/;

/** All weights of a model of these sizes; a seed gives the same ones everywhere. */
export function untrained(config: SupirConfig, seed: number): Weights {
  const random = new TorchRandom(seed);
  const weights: Weights = new Map();
  for (const [name, shape] of expectedKeys(new Supir(config))) weights.set(name, { shape, values: drawn(name, shape, random) });
  knowNoise(weights, config);
  return weights;
}

function drawn(name: string, shape: readonly number[], random: TorchRandom): Float32Array {
  const size = sizeOf(shape);
  if (name.endsWith('bias')) return new Float32Array(size);
  if (shape.length === 1) return new Float32Array(size).fill(1);
  const spread = TABLE.test(name) ? 0.05 : (ZERO.test(name) ? 0.1 : BRANCH.test(name) ? 0.3 : 1) / Math.sqrt(sizeOf(shape.slice(1)));
  return random.randn(size).map((value) => value * spread);
}

/** Of a weight (out, in, h, w): sets the weight from input channel `from` to output channel `to` at a place of the window, by default its middle. */
export function put({ shape, values }: Weight, to: number, from: number, value: number, [y, x] = [shape[2] >> 1, shape[3] >> 1]): void {
  values[((to * shape[1] + from) * shape[2] + y) * shape[3] + x] = value;
}

/** Multiplies all of a weight. */
export function shrink({ values }: Weight, factor: number): void {
  for (let i = 0; i < values.length; i++) values[i] *= factor;
}

/** Sets an output channel's weights to 0. */
export function clearRow({ shape, values }: Weight, row: number): void {
  const size = sizeOf(shape.slice(1));
  values.fill(0, row * size, (row + 1) * size);
}

/**
 * Lets the UNet begin at eps = g (x - z_lq): opposite pairs of channels carry both through the first convolution, the last skip connection and the last
 * block, and silu(a) - silu(-a) = a brings them past the activation. Where the first level has fewer than two channels a latent channel, nothing.
 */
function knowNoise(weights: Weights, { unet }: SupirConfig): void {
  const { in_channels: z, model_channels: channels, norm_groups: groups } = unet;
  const perGroup = channels / groups;
  if (2 * z > channels || Math.ceil(z / groups) * 2 > perGroup) return;
  const at = (name: string) => weights.get(`model.${name}.weight`)!;
  const last = [...weights.keys()].reduce((most, name) => Math.max(most, Number(/output_blocks\.(\d+)\./.exec(name)?.[1] ?? 0)), 0);
  const first = [at('diffusion_model.input_blocks.0.0'), at('control_model.input_blocks.0.0')];
  const hint = at('control_model.input_hint_block.0');
  const skip = at(`diffusion_model.output_blocks.${last}.0.skip_connection`);
  const out = at('diffusion_model.out.2');
  const control = at('diffusion_model.project_modules.0.zero_conv');
  for (const weight of [hint, out]) shrink(weight, 0.05);
  for (let i = 0; i < z; i++) {
    clearRow(out, i);
    for (const [j, sign] of [1, -1].entries()) {
      const channel = (i % groups) * perGroup + Math.floor(i / groups) * 2 + j;
      for (const weight of [...first, hint, skip]) clearRow(weight, channel);
      for (const weight of first) put(weight, channel, i, sign);
      put(hint, channel, i, -sign);
      put(skip, channel, skip.shape[1] - channels + channel, 1);
      put(out, i, channel, 0.7 * sign);
    }
  }
  for (let channel = 0; channel < channels; channel++) put(control, channel, channel, 3);
}
