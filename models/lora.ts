/**
 * Adapters on a network: y = x W^T + sum over i of s_i (x A_i^T) B_i^T, for every linear layer and convolution that a LoRA names. (Hu et al.
 * 2021, arXiv 2106.09685) Networks know nothing of it: the traced graph is rewritten. Scales are numbers or scalars of the program, so that
 * they change without a new plan; W stays as it is. With B = 0 the result is that of the graph without, bit for bit.
 */
import type { Device } from '../core/device.ts';
import { ShapeError, UserError } from '../core/errors.ts';
import { inputsOf, topological } from '../core/fuse.ts';
import { decodeF16, encodeF16 } from '../core/half.ts';
import { Parameter, type ParameterSource } from '../core/module.ts';
import { apply, isOp, type OpTensor } from '../core/op.ts';
import { describe, type Scalar, type Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { conv2d, conv2dOp } from '../kernels/conv2d.ts';
import { pad } from '../kernels/copy.ts';
import { linear, linearOp } from '../kernels/linear.ts';
import { affine } from '../kernels/unary.ts';
import { denseChange, type Lora, type LoraLayer } from '../weights/lora.ts';
import type { Matrix } from '../weights/lora-delta.ts';
import type { LoraTarget } from '../weights/lora-names.ts';

/** The weights of one adapted layer on the GPU: thin matrices in order of application, or one whole difference. */
export interface Adapter extends LoraTarget {
  /** down, mid where there is one, up; or the difference alone. The first ones may have a window. */
  factors: Parameter[];
  /** What is applied at strength 1: alpha / rank where it is not in the weights. */
  strength: number;
}

/** How strongly a LoRA acts: everywhere alike, or by the checkpoint key of the weight ('model.diffusion_model.input_blocks.4.1. ...'). */
export type LoraScale = Scalar | ((weight: string) => Scalar);

export interface AppliedLora {
  adapters: Adapter[];
  scale: LoraScale;
}

/** Adapters of a LoRA file; values go to the GPU, in f32, when a program first needs them. */
export function adaptersOf({ name, layers }: Lora): Adapter[] {
  return layers.map(({ change, parameter, part, parts }) => {
    const matrices = change.kind === 'dense' ? [change.delta] : [change.down, ...(change.mid ? [change.mid] : []), change.up];
    return {
      parameter,
      part,
      parts,
      strength: 1,
      factors: matrices.map((matrix, i) => factorOf(matrix, `${name}: ${parameter.name}, factor ${i}`)),
    };
  });
}

/** A factor of values in the checkpoint's order. */
export function factorOf({ shape, data }: Matrix, name: string): Parameter {
  const parameter = new Parameter(shape, shape.length === 4 ? 'conv' : 'matrix');
  parameter.name = name;
  parameter.dtype = 'f32';
  parameter.source = {
    read: async () => Float32Array.from(data),
    readRows: () => Promise.reject(new Error(`${name} is not read by rows`)),
  };
  return parameter;
}

/** Frees the adapters' GPU buffers. They are filled again when next needed. */
export function releaseAdapters(device: Device, adapters: Iterable<Adapter>): void {
  for (const { factors } of adapters) for (const factor of factors) factor.release(device);
}

/**
 * The same graph with LoRAs applied; keys and shapes of the outputs stay, tensors between are new ones. Any number may adapt one weight.
 * Throws UserError when an adapter's weight is read by something other than a linear layer or convolution.
 */
export function withLora<Outputs extends Record<string, Tensor>>(outputs: Outputs, loras: readonly AppliedLora[]): Outputs {
  const byWeight = new Map<Parameter, { adapter: Adapter; scale: Scalar }[]>();
  for (const { adapters, scale } of loras) {
    for (const adapter of adapters) {
      const { parameter } = adapter;
      const list = byWeight.get(parameter) ?? [];
      list.push({ adapter, scale: typeof scale === 'function' ? scale(parameter.name) : scale });
      byWeight.set(parameter, list);
    }
  }
  const replacement = new Map<Tensor, Tensor>();
  for (const tensor of topological(Object.values(outputs))) {
    if (tensor.source.kind !== 'op') {
      replacement.set(tensor, tensor);
      continue;
    }
    const { op, attrs } = tensor.source;
    const inputs = inputsOf(tensor).map((input) => replacement.get(input)!);
    const result = apply(op, inputs, attrs) as OpTensor<unknown>;
    const weight = inputs.find(({ source }) => source.kind === 'parameter' && byWeight.has(source.parameter));
    const adapted = weight?.source.kind === 'parameter' ? byWeight.get(weight.source.parameter)! : [];
    replacement.set(
      tensor,
      adapted.reduce((y: Tensor, { adapter, scale }) => add(y, deltaOf(result, adapter, scale)), result),
    );
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, replacement.get(tensor)!])) as Outputs;
}

/** What an adapter adds to the result of a layer. */
function deltaOf(layer: OpTensor<unknown>, { factors, parameter, part, parts, strength }: Adapter, scale: Scalar): Tensor {
  const [x] = layer.source.inputs;
  let y: Tensor;
  if (isOp(layer, conv2dOp)) {
    // One factor has the layer's window and takes its steps; all others are 1x1.
    const { stride, padding } = layer.source.attrs;
    y = factors.reduce(
      (h, { shape, tensor }) => (shape.length === 4 ? conv2d(h, tensor, null, { stride, padding }) : linear(h, tensor)),
      x,
    );
  } else if (isOp(layer, linearOp)) {
    y = factors.reduce((h, factor) => linear(h, factor.tensor), x);
  } else {
    throw new UserError(
      `${describe(layer)} reads the weight ${parameter.name} and is no linear layer or convolution: it cannot be adapted.`,
    );
  }
  const strengthened = strength === 1 ? y : affine(y, strength, 0);
  const scaled = scale === 1 ? strengthened : affine(strengthened, scale, 0);
  if (parts === 1) return scaled;
  const width = scaled.shape[scaled.shape.length - 1];
  const edges = scaled.shape.map((_, axis): [number, number] =>
    axis < scaled.shape.length - 1 ? [0, 0] : [part * width, (parts - 1 - part) * width],
  );
  return pad(scaled, edges);
}

/** Weights with LoRAs merged into them, until `undo` is called. */
export interface MergedLora {
  /** Gives the weights their own values back; on the GPU when they are next needed. */
  undo(device: Device): void;
}

/**
 * Adds LoRAs to the weights themselves: W + sum of scale (alpha / r) B A, computed in f64 and rounded once to the weight's storage. Costs
 * nothing at run time and cannot be changed while running. Throws UserError for weights without values.
 */
export function mergeLora(device: Device, loras: readonly { lora: Lora; scale: number }[]): MergedLora {
  const originals = new Map<Parameter, ParameterSource>();
  const changes = new Map<Parameter, { layer: LoraLayer; scale: number }[]>();
  for (const { lora, scale } of loras) {
    for (const layer of lora.layers) changes.set(layer.parameter, [...(changes.get(layer.parameter) ?? []), { layer, scale }]);
  }
  for (const [parameter, list] of changes) {
    const { source } = parameter;
    if (!source) throw new UserError(`The weight ${parameter.name} has no values to merge a LoRA into: attach a checkpoint first.`);
    originals.set(parameter, source);
    parameter.source = { ...source, read: async () => mergedValues(await source.read(), list), readRows: (rows) => source.readRows(rows) };
    parameter.release(device);
  }
  return {
    undo(on) {
      for (const [parameter, source] of originals) {
        parameter.source = source;
        parameter.release(on);
      }
      originals.clear();
    },
  };
}

function mergedValues(values: Awaited<ReturnType<ParameterSource['read']>>, list: { layer: LoraLayer; scale: number }[]) {
  if (values instanceof Uint32Array) throw new ShapeError('A weight of integers cannot take a LoRA.');
  const sum = Float64Array.from(values instanceof Uint16Array ? decodeF16(values) : values);
  for (const { layer, scale } of list) {
    const delta = denseChange(layer);
    const from = layer.part * delta.length;
    for (let i = 0; i < delta.length; i++) sum[from + i] += scale * delta[i];
  }
  return values instanceof Uint16Array ? encodeF16(sum) : Float32Array.from(sum);
}
