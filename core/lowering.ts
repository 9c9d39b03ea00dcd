/** How a kernel file turns an operation into dispatches. */
import type { AdapterFacts } from './adapter.ts';
import type { Scalar } from './scalar.ts';
import type { DType, ShaderSpec } from './shader.ts';
import type { Shape } from './shape.ts';

/** A tensor that a dispatch binds: where it lives is the plan's business, kernels only hand it back. */
export interface Operand {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Name for messages and profiles. */
  readonly label: string;
  /** A tensor that is nowhere whole, but in these, concatenated along the last axis. Only for inputs that `Op.inParts` names. */
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
