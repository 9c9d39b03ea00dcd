/** A dispatch of a plan: a shader, what it is bound to, and what it costs. */
import type { Operand } from './lowering.ts';
import type { Changes, Scalar } from './scalar.ts';
import { present, type ShaderSpec } from './shader.ts';
import type { TensorData } from './shape.ts';
import type { Parameter } from './tensor.ts';

/** Where a value's bytes are. Pooled storage is placed in a slot; the others have buffers of their own. */
export type Storage =
  | { kind: 'pooled'; bytes: number; slot: number }
  | { kind: 'input'; bytes: number; name: string; changes: Changes }
  | { kind: 'constant'; bytes: number; data: TensorData }
  | { kind: 'parameter'; bytes: number; parameter: Parameter };

export interface Value extends Operand {
  storage: Storage;
  /** The byte of the storage at which it begins: that of a view, else absent. */
  begins?: number;
}

export interface PlannedDispatch {
  shader: ShaderSpec;
  /** In order of the shader's bindings. */
  operands: Value[];
  /** In order of the shader's parameters. */
  params: (Scalar | boolean)[];
  threads: number;
  /** The operation, its shapes and its weight, for messages and profiles. */
  label: string;
  /** The module that it computes for (scope.ts). */
  module: object | null;
  /** Floating-point operations it computes. */
  flops: number;
  /** Bytes of its operands, each counted once: the least that it moves. */
  bytes: number;
}

const operandsOf = ({ shader, operands }: PlannedDispatch, write: boolean): Storage[] =>
  present(shader.bindings).flatMap(([, binding], i) => (Boolean(binding.write) === write ? [operands[i].storage] : []));

/** Where what it reads lies. */
export const read = (dispatch: PlannedDispatch): Storage[] => operandsOf(dispatch, false);
/** Where what it writes lies. */
export const written = (dispatch: PlannedDispatch): Storage[] => operandsOf(dispatch, true);
