/** Making graph nodes of operations, and telling which operation made one. */
import { ShapeError } from './errors.ts';
import { listOf } from './graph.ts';
import { within } from './scope.ts';
import { describe, type Inputs, type Op, type OpTensor, Tensor } from './tensor.ts';

export type { Dispatch, Lowering, Operand } from './lowering.ts';
export { width } from './shape.ts';
export type { Inputs, Op, OpTensor } from './tensor.ts';

/** Makes the graph node of an operation. Throws ShapeError. */
export function apply<Attrs, I extends Inputs>(op: Op<Attrs, I>, inputs: NoInfer<I>, attrs: Attrs): Tensor {
  const odd = op.integers ? undefined : listOf(inputs).find(({ dtype }) => dtype === 'u32');
  if (odd) throw new ShapeError(`${op.name}: ${describe(odd)} holds integers (u32); cast it to f32 first.`);
  const { shape, dtype } = op.infer(inputs, attrs);
  return new Tensor(shape, dtype, { kind: 'op', op: op as unknown as Op<unknown>, inputs, attrs });
}

export function isOp<Attrs, I extends Inputs>(tensor: Tensor, op: Op<Attrs, I>): tensor is OpTensor<Attrs, I> {
  return tensor.source.kind === 'op' && tensor.source.op === (op as unknown as Op<unknown>);
}

/** The same operation of the same module on other inputs: `change` says what stands for each. */
export function withInputs<Attrs, I extends Inputs>(
  { source: { op, inputs, attrs }, module }: OpTensor<Attrs, I>,
  change: (input: Tensor) => Tensor,
) {
  const changed = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input && change(input)])) as I;
  return within(module, () => apply(op, changed, attrs)) as OpTensor<Attrs, I>;
}
