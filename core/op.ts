/**
 * What a kernel file provides for one operation: how shapes follow, how it becomes dispatches, and which neighbours it can absorb.
 */
import type { AdapterFacts } from './device.ts';
import { ShapeError } from './errors.ts';
import type { DType, ShaderSpec } from './shader.ts';
import { describe, type Scalar, type Shape, Tensor } from './tensor.ts';

/** A tensor that a dispatch binds: where it lives is the plan's business, kernels only hand it back. */
export interface Operand {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Name for messages and profiles. */
  readonly label: string;
  /** A tensor that is nowhere whole, but in these, one behind the other along the last axis. Only for inputs that `Op.inParts` names. */
  readonly parts?: readonly Operand[];
}

export interface Dispatch {
  shader: ShaderSpec;
  /** One per shader binding, in order; null binds zeros for an absent optional input. */
  operands: (Operand | null)[];
  /** One per shader parameter, in order. Booleans travel as 0 and 1. */
  params: (Scalar | boolean)[];
  /** Threads wanted; whole workgroups are started and the shader masks the rest. */
  threads: number;
  /** Floating-point operations it computes; without it, the operation's first dispatch counts as computing all of `Op.flops`. */
  flops?: number;
}

export interface Lowering {
  readonly facts: AdapterFacts;
  /** Adds a dispatch; they run in order, each seeing the results of those before it. */
  dispatch(dispatch: Dispatch): void;
  /** A scratch tensor that lives until this operation's last dispatch. */
  scratch(label: string, shape: Shape, dtype?: DType): Operand;
}

export interface Op<Attrs> {
  readonly name: string;
  /** True where u32 inputs are welcome; `apply` refuses them elsewhere. */
  readonly integers?: boolean;
  /** Shape and dtype of the result. Throws ShapeError naming the operation, the shapes and the weight. */
  infer(inputs: Tensor[], attrs: Attrs): { shape: Shape; dtype: DType };
  /** Emits the dispatches that fill `output`. Absent for views, which share their first input's storage. */
  lower?(inputs: Operand[], output: Operand, attrs: Attrs, to: Lowering): void;
  /** Numbers of the inputs that `lower` takes in parts too. */
  readonly inParts?: readonly number[];
  /** Whether `result` is its inputs one behind the other along the last axis: it is not computed where all who read it take it in parts. */
  joins?(result: OpTensor<Attrs>): boolean;
  /**
   * Fusion: given that `producer` (a result of this op) is read by `consumer` alone, as its input number `index`, returns one tensor
   * that replaces both, or null.
   */
  absorb?(producer: OpTensor<Attrs>, consumer: OpTensor<unknown>, index: number): Tensor | null;
  /**
   * Reverse mode: the derivatives of the loss by every input, from `upstream`, its derivative by the result; null for an input that has none,
   * such as indices. f32, of the inputs' shapes. All are traced, and only those that somebody reads are ever computed.
   */
  gradient?(result: OpTensor<Attrs>, upstream: Tensor): (Tensor | null)[];
  /** Multiply-adds times two by the operation's definition, however it is computed. */
  flops?(inputs: readonly { shape: Shape }[], output: { shape: Shape }, attrs: Attrs): number;
}

/** A tensor that an operation made. */
export type OpTensor<Attrs> = Tensor & { source: { kind: 'op'; op: Op<Attrs>; inputs: Tensor[]; attrs: Attrs } };

/** Makes the graph node of an operation. Throws ShapeError. */
export function apply<Attrs>(op: Op<Attrs>, inputs: Tensor[], attrs: Attrs): Tensor {
  const odd = op.integers ? undefined : inputs.find(({ dtype }) => dtype === 'u32');
  if (odd) throw new ShapeError(`${op.name}: ${describe(odd)} holds integers (u32); cast it to f32 first.`);
  const { shape, dtype } = op.infer(inputs, attrs);
  return new Tensor(shape, dtype, { kind: 'op', op: op as Op<unknown>, inputs, attrs });
}

export function isOp<Attrs>(tensor: Tensor, op: Op<Attrs>): tensor is OpTensor<Attrs> {
  return tensor.source.kind === 'op' && tensor.source.op === (op as Op<unknown>);
}

/** 4 where the last axis allows four-element loads, else 1. */
export function width(shape: Shape): 1 | 4 {
  return shape[shape.length - 1] % 4 === 0 ? 4 : 1;
}
