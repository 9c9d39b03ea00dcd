/**
 * Adapters on a network: y = x W^T + sum over i of s_i (x A_i^T) B_i^T, for every linear layer and convolution that a LoRA names. (Hu et al.
 * 2021, arXiv 2106.09685) Networks know nothing of it: the traced graph is rewritten. Adapters of one weight are stacked by their ranks, so
 * that any number of them costs what one of the sum of their ranks costs, and their part of the sum is taken by the layer's own kernel
 * (kernels/low-rank.ts). Scales are numbers or scalars of the program, so that they change without a new plan; W stays as it is. With
 * B = 0 the result is that of the graph without, bit for bit. In training, where an adapter's rank is not low beside its layer's width, x is multiplied by
 * W + s B A, which is computed at every step, at once for all adapters whose factors lie one after the other (kernels/weight-part.ts).
 */

import { isBlocks } from '../core/blocks.ts';
import { UserError } from '../core/errors.ts';
import { rewrite } from '../core/fuse.ts';
import { inputsOf, topological } from '../core/graph.ts';
import { grouped } from '../core/grouped.ts';
import { Parameter } from '../core/module.ts';
import { isOp, type OpTensor, withInputs } from '../core/op.ts';
import { within } from '../core/scope.ts';
import { describe, type Scalar, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { add, mul } from '../kernels/binary.ts';
import { conv2dOp } from '../kernels/conv2d.ts';
import { concat, pad } from '../kernels/copy.ts';
import { linear, linearOp, matmul } from '../kernels/linear.ts';
import { lowRankDown, withLowRank } from '../kernels/low-rank.ts';
import { part, together } from '../kernels/part.ts';
import { type RankScale, rankScales } from '../kernels/rank-scales.ts';
import { reshape } from '../kernels/reshape.ts';
import { canFollow, firstOf, wholeOf } from '../kernels/weight-part.ts';
import type { Lora } from '../weights/lora.ts';
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
  return newFactor(shape, name, async () => Float32Array.from(data));
}

function newFactor(shape: Shape, name: string, read: () => Promise<Float32Array>): Parameter {
  const parameter = new Parameter(shape, shape.length === 4 ? 'conv' : 'matrix');
  parameter.name = name;
  parameter.dtype = 'f32';
  parameter.source = { read, readRows: () => Promise.reject(new Error(`${name} is not read by rows`)) };
  return parameter;
}

/** One adapter of a weight, with its scale. */
interface Scaled {
  adapter: Adapter;
  scale: Scalar;
}

/** Adapters of one weight as its layer reads them. */
interface Stack {
  /** Those of two factors, with one matrix (R, in, ...) of all their downs, ranks one after the other. */
  plain: Scaled[];
  down: Tensor | null;
  /** Those with a window between, each with its own downs (r, in) and (R, r, kh, kw). */
  windowed: { scaled: Scaled; down: Tensor; mid: Tensor }[];
  /** (out, R), first of `plain`, then of `windowed`. */
  up: Tensor | null;
  dense: Scaled[];
}

/** LoRAs in force together. */
export class LoraStack {
  private readonly stacks = new Map<Parameter, Stack>();
  /** Of a weight with a single adapter, those whose factors lie with that one's, itself among them. */
  private readonly alike = new Map<Parameter, readonly Scaled[]>();
  private readonly owned = new Set<Parameter>();

  constructor(loras: readonly AppliedLora[]) {
    const byWeight = new Map<Parameter, Scaled[]>();
    for (const { adapters, scale } of loras) {
      for (const adapter of adapters) {
        const { parameter } = adapter;
        for (const factor of adapter.factors) this.owned.add(wholeOf(factor));
        const list = byWeight.get(parameter) ?? [];
        list.push({ adapter, scale: typeof scale === 'function' ? scale(parameter.name) : scale });
        byWeight.set(parameter, list);
      }
    }
    for (const [parameter, list] of byWeight) this.stacks.set(parameter, this.stackOf(parameter, list));
    const single = [...byWeight.values()].filter(isSingle).map(([scaled]) => scaled);
    for (const list of grouped(single, ({ adapter }) => wholeOf(adapter.factors[1])).values()) {
      for (const scaled of list) this.alike.set(scaled.adapter.parameter, canChangeTogether(list) ? list : [scaled]);
    }
  }

  /**
   * The same graph with the LoRAs applied; keys and shapes of the outputs stay, tensors between are new ones. Throws UserError when an
   * adapter's weight is read by something other than a linear layer or convolution.
   */
  apply<Outputs extends Record<string, Tensor>>(outputs: Outputs): Outputs {
    if (this.stacks.size === 0) return outputs;
    const scales = sharedScales();
    const sums = new Map<readonly Scaled[], Tensor>();
    const adding = this.adding(topological(Object.values(outputs)));
    const changed = (weight: Parameter): Tensor | null => {
      const list = this.alike.get(weight);
      if (!list || !adding.has(list)) return null;
      if (!sums.has(list)) sums.set(list, changedWeights(list, scales));
      const { storedShape } = weight;
      return part(sums.get(list)!, sizeOf(storedShape) * list.findIndex(({ adapter }) => adapter.parameter === weight), storedShape);
    };
    return rewrite(outputs, (tensor) => {
      const weight = this.weightOf(tensor);
      return weight ? within(tensor.module, () => adapted(tensor, weight, this.stacks.get(weight)!, scales, changed)) : tensor;
    });
  }

  /** The weight of a layer that adapters are for. */
  private weightOf(tensor: Tensor): Parameter | undefined {
    return inputsOf(tensor)
      .flatMap(({ source }) => (source.kind === 'parameter' ? [source.parameter] : []))
      .find((w) => this.stacks.has(w));
  }

  /** The adapters that are added to their weights: those that change together all do where one does, for the product of their factors is there then. */
  private adding(order: readonly Tensor[]): Set<readonly Scaled[]> {
    const found = new Set<readonly Scaled[]>();
    for (const tensor of order) {
      const weight = this.weightOf(tensor);
      const list = weight && this.alike.get(weight);
      if (list && addsToWeight(tensor, weight.tensor, this.stacks.get(weight)!)) found.add(list);
    }
    return found;
  }

  /** Frees the adapters' GPU buffers. They are filled again when next needed. */
  release(device: Device): void {
    for (const factor of this.owned) device.residency.release(factor);
  }

  private stackOf(parameter: Parameter, list: Scaled[]): Stack {
    const withFactors = (count: number) => list.filter(({ adapter }) => adapter.factors.length === count);
    const [dense, plain, windowed] = [withFactors(1), withFactors(2), withFactors(3)];
    const stack: Stack = { plain, down: null, windowed: [], up: null, dense };
    const [{ adapter }] = list;
    if (isSingle(list)) {
      // The factors themselves, which may be in training.
      const [down, up] = adapter.factors.map(({ tensor }) => tensor);
      const missing = paddedRank(adapter) - rankOf(adapter);
      const after = ({ shape }: Tensor, at: number) => shape.map((_, axis): [number, number] => [0, axis === at ? missing : 0]);
      stack.down = missing ? pad(down, after(down, 0)) : down;
      stack.up = missing ? pad(up, after(up, 1)) : up;
      return stack;
    }
    let rank = 0;
    const [downs, ups]: Block[][] = [[], []];
    for (const { adapter } of [...plain, ...windowed]) {
      const { factors, part, parts } = adapter;
      if (factors.length === 2) downs.push({ factor: factors[0], row: rank, column: 0 });
      ups.push({ factor: factors[factors.length - 1], row: (part * parameter.shape[0]) / parts, column: rank });
      rank += paddedRank(adapter);
    }
    const last = downs[downs.length - 1];
    if (last) stack.down = this.joined([last.row + paddedRank(plain[plain.length - 1].adapter), ...last.factor.shape.slice(1)], downs);
    stack.windowed = windowed.map((scaled) => {
      const [down, mid] = scaled.adapter.factors;
      const shape = [paddedRank(scaled.adapter), ...mid.shape.slice(1)];
      return { scaled, down: down.tensor, mid: this.joined(shape, [{ factor: mid, row: 0, column: 0 }]) };
    });
    if (ups.length > 0) stack.up = this.joined([parameter.shape[0], rank], ups);
    return stack;
  }

  /** A weight made of factors, zero between them. */
  private joined(shape: Shape, blocks: readonly Block[]): Tensor {
    const joined = newFactor(shape, blocks.map(({ factor }) => factor.name).join(' + '), async () => {
      const values = new Float32Array(sizeOf(shape));
      const width = values.length / shape[0];
      for (const { factor, row, column } of blocks) {
        const source = (await factor.source!.read()) as Float32Array;
        const columns = source.length / factor.shape[0];
        for (let i = 0; i < factor.shape[0]; i++) values.set(source.subarray(i * columns, (i + 1) * columns), (row + i) * width + column);
      }
      return values;
    });
    this.owned.add(joined);
    return joined.tensor;
  }
}

/** Where the rows of a factor begin in a matrix of several. */
interface Block {
  factor: Parameter;
  row: number;
  column: number;
}

const rankOf = ({ factors }: Adapter): number => factors[factors.length - 1].shape[1];
/** Kernels read ranks in fours. */
const paddedRank = (adapter: Adapter): number => Math.ceil(rankOf(adapter) / 4) * 4;

type SharedScales = (list: readonly Scaled[], rank: (adapter: Adapter) => number) => Tensor | null;

/** `rankScales`, the same tensor wherever the same is asked for. */
function sharedScales(): SharedScales {
  const made = new Map<string, Tensor | null>();
  return (list, rank) => {
    const scales: RankScale[] = list.map(({ adapter, scale }) => ({ scale, factor: adapter.strength, rank: rank(adapter) }));
    const key = JSON.stringify(scales);
    if (!made.has(key)) made.set(key, rankScales(scales));
    return made.get(key)!;
  };
}

/** Whether there is one adapter, of two factors, for the weight as a whole. */
const isSingle = (list: readonly Scaled[]) => list.length === 1 && list[0].adapter.factors.length === 2 && list[0].adapter.parts === 1;

/** Whether adapters are all whose factors lie in their weights, in order, and what they add too may lie one after the other. */
function canChangeTogether(list: readonly Scaled[]): boolean {
  const [{ adapter, scale }] = list;
  return (
    canFollow(sizeOf(adapter.parameter.shape)) &&
    adapter.factors.every((factor) => sizeOf(wholeOf(factor).shape) === list.length * sizeOf(factor.shape)) &&
    list.every((each, i) => {
      const follows = each.adapter.factors.every((factor) => firstOf(factor) === i * sizeOf(factor.shape));
      return follows && each.scale === scale && each.adapter.strength === adapter.strength;
    })
  );
}

/** W + s B A of adapters that change together. -> (adapters, out, in) */
function changedWeights(list: readonly Scaled[], scales: SharedScales): Tensor {
  const [{ adapter }] = list;
  const n = list.length;
  const rank = rankOf(adapter);
  const weights = list.map((each) => each.adapter.parameter.tensor);
  const [{ size, shape }] = weights;
  const [down, up] = adapter.factors.map((factor) => (n > 1 ? wholeOf(factor) : factor).tensor);
  const ups = reshape(up, [n, shape[0], rank]);
  const scale = scales([list[0]], rankOf);
  const change = matmul(scale ? mul(ups, scale) : ups, reshape(down, [n, rank, size / shape[0]]));
  const before =
    n > 1
      ? together(
          weights.map((x, i) => ({ first: i * size, x })),
          change.shape,
        )
      : reshape(weights[0], change.shape);
  return add(change, before);
}

/** Columns of a result that kernels compute at least. */
const TILE = 32;

/**
 * Whether adapters are better added to their layer's weight: when they are in training, if multiplying all rows of x by them and taking their derivatives is
 * dearer than multiplying them with one another and taking W's. What has `rank` columns is computed in whole tiles.
 */
function addsToWeight({ shape }: Tensor, w: Tensor, { plain, windowed, dense }: Stack): boolean {
  const inTraining = plain.every(({ adapter }) => adapter.factors.every((factor) => wholeOf(factor).changes === 'every run'));
  if (!inTraining || windowed.length + dense.length > 0 || isBlocks(w.dtype)) return false;
  const rank = plain.reduce((sum, { adapter }) => sum + paddedRank(adapter), 0);
  const outs = w.shape[0];
  const [rows, columns] = [sizeOf(shape) / outs, w.size / outs];
  // x down^T, its result by up^T, and two derivatives; or up down, its derivatives, and that of W.
  const products = rank + 2 * TILE * Math.ceil(rank / TILE);
  return outs * columns * (products + rows) < rows * (outs + columns) * products;
}

/** A layer's result with the adapters of its weight; `changed` gives a weight to which its adapter is added, if it is. */
function adapted(
  layer: OpTensor<unknown>,
  weight: Parameter,
  stack: Stack,
  scales: SharedScales,
  changed: (weight: Parameter) => Tensor | null,
): Tensor {
  if (!isOp(layer, linearOp) && !isOp(layer, conv2dOp))
    throw new UserError(`${describe(layer)} reads the weight ${weight.name} and is no linear layer or convolution: it cannot be adapted.`);
  const { x, w } = layer.source.inputs;
  const { plain, down, windowed, up, dense } = stack;
  const sum = changed(weight);
  if (sum) return withInputs(layer as OpTensor<unknown>, (input) => (input === w ? sum : input));
  const ts = down ? [lowRankDown(layer, x, down, scales(plain, paddedRank))] : [];
  for (const { scaled, down, mid } of windowed) ts.push(lowRankDown(layer, linear(x, down), mid, scales([scaled], paddedRank)));
  const y = up ? withLowRank(layer, ts.length > 1 ? concat(ts, -1) : ts[0], up) : layer;
  return dense.reduce((sum: Tensor, scaled) => {
    const {
      factors: [delta],
      part,
      parts,
    } = scaled.adapter;
    const width = delta.shape[0];
    const change = lowRankDown(
      layer,
      x,
      delta.tensor,
      scales([scaled], () => width),
    );
    const edges = change.shape.map((_, axis): [number, number] =>
      axis < change.shape.length - 1 ? [0, 0] : [part * width, (parts - 1 - part) * width],
    );
    return add(sum, parts > 1 ? pad(change, edges) : change);
  }, y);
}
