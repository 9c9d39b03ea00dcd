/**
 * The graph: tensors, the operations that make them and the weights they read, three nouns that say what each of them is by the other two.
 * An operation on tensors computes nothing, it makes a tensor with shape and dtype (op.ts), and shape errors are raised there, at the line of
 * model code that caused them. A program (gpu/program.ts) plans and runs the graph.
 */
import type { BlockDType } from './blocks.ts';
import { ShapeError, UserError } from './errors.ts';
import type { Lowering, Operand } from './lowering.ts';
import type { ParameterKind, ParameterSource, WeightPiece } from './parameter-source.ts';
import type { Changes } from './scalar.ts';
import { currentModule } from './scope.ts';
import { type DType, storageBytes } from './shader.ts';
import { type Shape, showShape, sizeOf, type TensorData } from './shape.ts';
import { packed } from './stored-order.ts';

export { type Changes, type Scalar, ScalarInput, scalar } from './scalar.ts';
export { type Shape, sameShape, showShape, sizeOf, type TensorData } from './shape.ts';

type Source =
  | { kind: 'input'; name: string; changes: Changes }
  | { kind: 'constant'; data: TensorData }
  | { kind: 'parameter'; parameter: Parameter }
  | { kind: 'op'; op: Op<unknown>; inputs: Inputs; attrs: unknown };

let made = 0;

export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly source: Source;
  /** The module that made it (scope.ts); null for what was made outside of all. */
  readonly module: object | null = currentModule();
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

/** What an operation reads, by name; null for an optional input that is absent. */
export type Inputs = { readonly [name: string]: Tensor | null };

/** The same where they are to be bound. */
export type OperandsOf<I extends Inputs> = { readonly [Name in keyof I]: null extends I[Name] ? Operand | null : Operand };

/** What a kernel file provides for one operation: how shapes follow, how it becomes dispatches, and its derivatives. */
export interface Op<Attrs, I extends Inputs = Inputs> {
  readonly name: string;
  /** True where u32 inputs are welcome; `apply` refuses them elsewhere. */
  readonly integers?: boolean;
  /** Shape and dtype of the result. Throws ShapeError naming the operation, the shapes and the weight. */
  infer(inputs: I, attrs: Attrs): { shape: Shape; dtype: DType };
  /** Emits the dispatches that fill `output`. Absent for views, which share their first input's storage. */
  lower?(inputs: OperandsOf<I>, output: Operand, attrs: Attrs, to: Lowering): void;
  /** Of a view, where it begins in its first input: a byte whose number is a multiple of 256. Default 0. */
  begins?(attrs: Attrs): number;
  /**
   * Of a result that is its inputs one after the other, f32: the byte at which each begins, a multiple of 256. An input that nothing else reads is computed
   * there, and is null when it comes to `lower`.
   */
  holds?(attrs: Attrs): readonly number[];
  /** Whether `lower` changes its first input where it lies, a weight that nothing else of the program reads but after it: the result is that input, changed. */
  readonly inPlace?: boolean;
  /** The inputs that `lower` takes in parts too. */
  readonly inParts?: readonly (keyof I)[];
  /** Whether `result` is its inputs concatenated along the last axis: it is not computed where all who read it take it in parts. */
  joins?(result: OpTensor<Attrs, I>): boolean;
  /**
   * Reverse mode: the derivatives of the loss by the inputs, from `upstream`, its derivative by the result; null for an input that has none, such
   * as indices. f32, of the inputs' shapes. All are traced, and only those that somebody reads are ever computed.
   */
  gradient?(result: OpTensor<Attrs, I>, upstream: Tensor): { readonly [Name in keyof I]: Tensor | null };
  /** Multiply-adds times two by the operation's definition, however it is computed. */
  flops?(inputs: I, output: { shape: Shape }, attrs: Attrs): number;
}

/** A tensor that an operation made. */
export type OpTensor<Attrs, I extends Inputs = Inputs> = Tensor & { source: { kind: 'op'; op: Op<Attrs, I>; inputs: I; attrs: Attrs } };

/** A weight: a leaf of a network's tree (module.ts). */
export class Parameter {
  /** Shape in the checkpoint. */
  readonly shape: Shape;
  readonly kind: ParameterKind;
  /** Full checkpoint key; set when the module tree is named. */
  name = '';
  /** Storage of matrix kinds on the GPU. */
  dtype: DType;
  /** How often its values change: in training, with every run. What is made of the other weights alone may be kept (hoist.ts). */
  changes: Changes = 'seldom';
  /** Where the values come from; set when a checkpoint is attached. */
  source: ParameterSource | null = null;

  constructor(shape: Shape, kind: ParameterKind) {
    this.shape = shape;
    this.kind = kind;
    this.dtype = kind === 'vector' ? 'f32' : 'f16';
  }

  /** Shape on the GPU. */
  get storedShape(): Shape {
    const [a, b, kh, kw] = this.shape;
    return this.kind === 'conv' ? [a, kh, kw, b] : this.kind === 'transposed' ? [b, a] : this.shape;
  }

  /** The graph node that reads this weight. */
  get tensor(): Tensor {
    return new Tensor(this.storedShape, this.dtype, { kind: 'parameter', parameter: this });
  }

  /** Bytes on the GPU. */
  get bytes(): number {
    return storageBytes(this.dtype, sizeOf(this.shape));
  }

  /** The weight as the GPU stores it. Throws UserError when no checkpoint is attached. */
  pieces(): WeightPiece[] {
    const { source } = this;
    if (!source) throw new UserError(`The weight ${this.name} has no values: attach a checkpoint to its network first.`);
    return source.pieces?.() ?? [{ offset: 0, bytes: this.bytes, read: async () => packed(await source.read(), this) }];
  }
}

/** A tensor whose values are given at each run under `name`, or, where they change seldom, before the first run and whenever they change. */
export function input(name: string, shape: Shape, dtype: Exclude<DType, BlockDType> = 'f32', changes: Changes = 'every run'): Tensor {
  return new Tensor(shape, dtype, { kind: 'input', name, changes });
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
