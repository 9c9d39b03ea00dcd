/**
 * New adapters to be trained: which layers, of what rank, how they start; and the standard files they are saved as.
 * (Hu et al. 2021, arXiv 2106.09685; arXiv 2408.17060, sec. 3.3)
 */
import { UserError } from '../core/errors.ts';
import { grouped } from '../core/grouped.ts';
import { encodeF16 } from '../core/half.ts';
import { joined } from '../core/joined.ts';
import type { Parameter } from '../core/module.ts';
import { TorchRandom } from '../core/random.ts';
import { sizeOf } from '../core/tensor.ts';
import { canFollow, WeightPart } from '../kernels/weight-part.ts';
import { type Adapter, factorOf } from '../models/lora.ts';
import { encodeSafetensors } from '../weights/safetensors-writer.ts';

/** Layers of the UNet by what they do. */
export const LORA_TARGETS = {
  attention: /\.attn[12]\.to_(q|k|v|out\.0)\.weight$/,
  feedForward: /\.ff\.net\.(0\.proj|2)\.weight$/,
  projection: /\.proj_(in|out)\.weight$/,
  conv: /\.(in_layers\.2|out_layers\.3|skip_connection|op|conv)\.weight$/,
} as const;

export type LoraTargetName = keyof typeof LORA_TARGETS;

export interface LoraShape {
  rank: number;
  /** The change is multiplied by alpha / rank. Default: rank. */
  alpha?: number;
  targets: readonly LoraTargetName[];
  /** Which factor starts at zero, so that the start changes nothing; the other is normal with std 1 / sqrt(rank). Default 'B'. */
  zero?: 'A' | 'B';
  seed: number;
}

/** An adapter in training: its factors' values in f32, in the checkpoint's order, A (rank, in, ...) and B (out, rank). */
export interface TrainedAdapter extends Adapter {
  /** The checkpoint key of its weight, without `.weight`. */
  path: string;
  values: [a: Float32Array, b: Float32Array];
}

/** Adapters for those weights of the UNet that the targets name, in the network's order. Throws UserError when there are none, or for a bad rank. */
export function newAdapters(weights: Iterable<Parameter>, { rank, alpha = rank, targets, zero = 'B', seed }: LoraShape): TrainedAdapter[] {
  if (!(Number.isInteger(rank) && rank >= 1)) throw new UserError(`The rank ${rank} must be a whole number of at least 1.`);
  const chosen = [...weights].filter(
    ({ name, kind }) =>
      (kind === 'matrix' || kind === 'conv') &&
      name.startsWith('model.diffusion_model.') &&
      !name.startsWith('model.diffusion_model.project_modules.') &&
      targets.some((target) => LORA_TARGETS[target].test(name)),
  );
  if (chosen.length === 0) throw new UserError(`No layer of the UNet is among the targets ${targets.join(', ') || '(none given)'}.`);
  const random = new TorchRandom(seed);
  const adapters = chosen.map((parameter) => {
    const [outs, ins, ...window] = parameter.shape;
    const [shapeA, shapeB] = [
      [rank, ins, ...window],
      [outs, rank],
    ];
    const start = (shape: number[], isZero: boolean) =>
      isZero ? new Float32Array(sizeOf(shape)) : random.randn(sizeOf(shape)).map((value) => value / Math.sqrt(rank));
    return trainedAdapter(parameter, [start(shapeA, zero === 'A'), start(shapeB, zero === 'B')], alpha / rank);
  });
  const alike = grouped(adapters, ({ factors }) => String(factors.map(({ shape }) => shape)));
  for (const list of alike.values()) layTogether(list);
  return adapters;
}

/** Most elements of the weights that adapters change together. */
const MOST = 2 ** 20;

/** Lets the factors of adapters of one shape lie one after the other in a weight each, so that a program has one dispatch for all of them. */
function layTogether(adapters: readonly TrainedAdapter[]): void {
  const [{ parameter, factors }] = adapters;
  if (!factors.every(({ shape }) => canFollow(sizeOf(shape)))) return;
  const most = Math.max(1, Math.floor(MOST / sizeOf(parameter.shape)));
  for (let from = 0; from < adapters.length; from += most) {
    const some = adapters.slice(from, from + most);
    const wholes = factors.map(({ shape: [rows, ...rest] }, f) =>
      factorOf(
        { shape: [some.length * rows, ...rest], data: joined(some.map(({ values }) => values[f])) },
        `${some[0].factors[f].name} and others`,
      ),
    );
    some.forEach((adapter, n) => {
      adapter.factors = adapter.factors.map(({ shape, kind, name, source }, f) =>
        Object.assign(new WeightPart(shape, kind, wholes[f], n * sizeOf(shape)), { name, source }),
      );
    });
  }
}

/** An adapter of given factors, A (rank, in, ...) and B (out, rank). */
export function trainedAdapter(parameter: Parameter, values: TrainedAdapter['values'], strength: number): TrainedAdapter {
  const [outs, ins, ...window] = parameter.shape;
  const rank = values[1].length / outs;
  const path = parameter.name.replace(/\.weight$/, '');
  const factors = [
    factorOf({ shape: [rank, ins, ...window], data: values[0] }, `${path}.A`),
    factorOf({ shape: [outs, rank], data: values[1] }, `${path}.B`),
  ];
  return { parameter, part: 0, parts: 1, strength, factors, path, values };
}

/** All factors of adapters in one order, A before B, and their values. */
export function factorsOf(adapters: readonly TrainedAdapter[]): { factors: Parameter[]; values: Float32Array[] } {
  return { factors: adapters.flatMap(({ factors }) => factors), values: adapters.flatMap(({ values }) => values) };
}

export interface LoraFileOptions {
  /** kohya: lora_unet_ and the single file's path. peft: unet. and diffusers' path. */
  format: 'kohya' | 'peft';
  /** Default f16, as most files are; f32 keeps every bit. */
  dtype?: 'f16' | 'f32';
  /** Stored beside the tensors; ss_* are kohya's names. */
  metadata?: Record<string, string>;
  /** The UNet's paths in diffusers' spelling by the single file's, for peft. */
  spelling?: (path: string) => string;
}

/** A LoRA file's bytes. */
export function encodeLora(
  adapters: readonly TrainedAdapter[],
  { format, dtype = 'f16', metadata = {}, spelling }: LoraFileOptions,
): Uint8Array<ArrayBuffer> {
  const tensors: Parameters<typeof encodeSafetensors>[0] extends Iterable<infer Entry> ? Entry[] : never = [];
  const store = (name: string, shape: readonly number[], values: Float32Array) =>
    tensors.push([name, dtype === 'f16' ? { dtype: 'F16', shape, data: encodeF16(values) } : { dtype: 'F32', shape, data: values }]);
  for (const { path, parameter, values, factors, strength } of adapters) {
    const [a, b] = factors;
    const rank = b.shape[1];
    // A convolution's B is stored as one, 1 x 1.
    const shapeB = parameter.kind === 'conv' ? [...b.shape, 1, 1] : b.shape;
    const relative = path.slice('model.diffusion_model.'.length);
    if (format === 'kohya') {
      const base = `lora_unet_${relative.replaceAll('.', '_')}`;
      store(`${base}.lora_down.weight`, a.shape, values[0]);
      store(`${base}.lora_up.weight`, shapeB, values[1]);
      store(`${base}.alpha`, [], Float32Array.of(strength * rank));
    } else {
      // These files know no alpha: it goes into B.
      const base = `unet.${spelling!(path)}`;
      store(`${base}.lora_A.weight`, a.shape, values[0]);
      store(`${base}.lora_B.weight`, shapeB, strength === 1 ? values[1] : values[1].map((value) => value * strength));
    }
  }
  return encodeSafetensors(tensors, metadata);
}
