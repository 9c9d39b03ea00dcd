/**
 * Tensors are nodes of a graph: an operation on tensors computes nothing, it makes a node with shape and dtype, and shape errors are raised
 * here, at the line of model code that caused them. A program (program.ts) plans and runs the graph.
 */
import type { BlockDType } from './blocks.ts';
import { ShapeError } from './errors.ts';
import type { Parameter } from './module.ts';
import type { Op } from './op.ts';
import type { DType } from './shader.ts';

/** Sizes from the slowest to the fastest axis; feature maps are (N, H, W, C), tokens (N, L, C). Dense, row-major. */
export type Shape = readonly number[];

export type TensorData = Float32Array | Uint16Array | Uint32Array;

type Source =
  | { kind: 'input'; name: string }
  | { kind: 'constant'; data: TensorData }
  | { kind: 'parameter'; parameter: Parameter }
  | { kind: 'op'; op: Op<unknown>; inputs: Tensor[]; attrs: unknown };

let made = 0;

export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly source: Source;
  /** Counts up with every tensor made: the order of the trace. */
  readonly serial: number = made++;

  constructor(shape: Shape, dtype: DType, source: Source) {
    for (const size of shape) {
      if (!Number.isSafeInteger(size) || size <= 0)
        throw new ShapeError(`Impossible tensor shape ${showShape(shape)}: every axis must be a positive integer.`);
    }
    this.shape = shape;
    this.dtype = dtype;
    this.source = source;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }
}

/** A value that may change between runs without a new plan: it travels in the kernels' uniform parameters. */
export class ScalarInput {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

export type Scalar = number | ScalarInput;

/** A tensor whose values are given at each run under `name`. */
export function input(name: string, shape: Shape, dtype: Exclude<DType, BlockDType> = 'f32'): Tensor {
  return new Tensor(shape, dtype, { kind: 'input', name });
}

/** A number given at each run under `name`. */
export function scalar(name: string): ScalarInput {
  return new ScalarInput(name);
}

/** A tensor of known values; f32 from Float32Array, u32 from Uint32Array, f16 bit patterns from Uint16Array. Throws ShapeError when sizes differ. */
export function constant(data: TensorData, shape: Shape): Tensor {
  if (data.length !== sizeOf(shape)) throw new ShapeError(`constant: ${data.length} values do not fill shape ${showShape(shape)}.`);
  const dtype = data instanceof Float32Array ? 'f32' : data instanceof Uint16Array ? 'f16' : 'u32';
  return new Tensor(shape, dtype, { kind: 'constant', data });
}

/** A short name for messages: the weight's, the input's or the operation's. */
export function describe(tensor: Tensor): string {
  const source = tensor.source;
  const name =
    source.kind === 'op'
      ? source.op.name
      : source.kind === 'parameter'
        ? source.parameter.name
        : source.kind === 'input'
          ? source.name
          : 'constant';
  return `${name} ${showShape(tensor.shape)}`;
}

export function sizeOf(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function showShape(shape: Shape): string {
  return `(${shape.join(', ')})`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}
