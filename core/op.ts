/** Making graph nodes of operations, and telling which operation made one. */
import { ShapeError } from './errors.ts';
import { describe, type Op, type OpTensor, Tensor } from './tensor.ts';

export type { Dispatch, Lowering, Operand } from './lowering.ts';
export { width } from './shape.ts';
export type { Op, OpTensor } from './tensor.ts';

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
