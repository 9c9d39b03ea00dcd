/** How a kernel file turns an operation into dispatches. */
import type { AdapterFacts } from './adapter.ts';
import type { Scalar } from './scalar.ts';
import type { Bindings, DType, Params, ShaderSpec } from './shader.ts';
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

/** A value for every parameter that a shader declares. Booleans travel as 0 and 1; a program's scalar can only be an f32. */
export type ParamValues<P extends Params> = {
  readonly [Name in keyof P]: (P[Name] extends 'f32' | undefined ? Scalar : number | boolean) | Absent<P[Name]>;
};

/** A tensor for every binding that a shader declares. */
export type BoundOperands<B extends Bindings> = { readonly [Name in keyof B]: Operand | Absent<B[Name]> };

/** What only some variants of a kernel have may be left out, or null; where the shader does declare it, leaving it out is an error when planned. */
type Absent<Declared> = undefined extends Declared ? null | undefined : never;

export interface Dispatch<P extends Params = Params, B extends Bindings = Bindings> {
  shader: ShaderSpec<P, B>;
  operands: BoundOperands<NoInfer<B>>;
  params: ParamValues<NoInfer<P>>;
  /** Threads wanted; whole workgroups are started and the shader masks the rest. */
  threads: number;
  /** Floating-point operations it computes; where no dispatch of an operation tells any, the first counts as computing all of `Op.flops`. */
  flops?: number;
}

export interface Lowering {
  readonly facts: AdapterFacts;
  /** Adds a dispatch; they run in order, each seeing the results of those before it. */
  dispatch<P extends Params, B extends Bindings>(dispatch: Dispatch<P, B>): void;
  /** A scratch tensor that lives until this operation's last dispatch. */
  scratch(label: string, shape: Shape, dtype?: DType): Operand;
}
