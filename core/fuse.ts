/**
 * Fusion: two operations become one where the second alone reads the first's result (an activation, a residual sum), so that no intermediate
 * is written and read back. Which pairs fuse is said in rules (kernels/fusion.ts); here is only the walk over the graph.
 */
import { inputsOf, topological } from './graph.ts';
import { apply, isOp } from './op.ts';
import type { Op, OpTensor, Tensor } from './tensor.ts';

/** A pair of operations that one can replace. */
export interface FusionRule {
  producer: Op<unknown>;
  consumer: Op<unknown>;
  /** Given that `consumer` alone reads `producer`, as its input number `index`: the tensor that replaces both, or null where that cannot be. */
  join(producer: OpTensor<unknown>, consumer: OpTensor<unknown>, index: number): Tensor | null;
}

/** A rule with the attributes of its operations known. */
export function rule<P, C>(
  producer: Op<P>,
  consumer: Op<C>,
  join: (producer: OpTensor<P>, consumer: OpTensor<C>, index: number) => Tensor | null,
): FusionRule {
  return { producer, consumer, join } as unknown as FusionRule;
}

/** The same graph with neighbours fused; keys and shapes of the outputs stay. */
export function fuse(outputs: Record<string, Tensor>, rules: readonly FusionRule[]): Record<string, Tensor> {
  const readers = new Map<Tensor, number>();
  const count = (tensor: Tensor) => readers.set(tensor, (readers.get(tensor) ?? 0) + 1);
  const order = topological(Object.values(outputs));
  for (const tensor of order) inputsOf(tensor).forEach(count);
  Object.values(outputs).forEach(count);

  const replacement = new Map<Tensor, Tensor>();
  for (const tensor of order) {
    if (tensor.source.kind !== 'op') {
      replacement.set(tensor, tensor);
      continue;
    }
    const { op, inputs, attrs } = tensor.source;
    const rewritten = apply(
      op,
      inputs.map((input) => replacement.get(input)!),
      attrs,
    ) as OpTensor<unknown>;
    let result: Tensor = rewritten;
    // The operand computed last comes first: the other one is then ready to be read as the residual.
    for (let i = inputs.length - 1; i >= 0; i--) {
      const producer = rewritten.source.inputs[i];
      if (readers.get(inputs[i]) !== 1 || producer.source.kind !== 'op') continue;
      const fused = firstFusion(rules, producer as OpTensor<unknown>, rewritten, i);
      if (fused) {
        result = fused;
        break;
      }
    }
    replacement.set(tensor, result);
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, replacement.get(tensor)!]));
}

function firstFusion(rules: readonly FusionRule[], first: OpTensor<unknown>, second: OpTensor<unknown>, index: number): Tensor | null {
  for (const { producer, consumer, join } of rules) {
    const fused = isOp(first, producer) && isOp(second, consumer) && join(first, second, index);
    if (fused) return fused;
  }
  return null;
}
