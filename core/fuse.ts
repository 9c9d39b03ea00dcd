/**
 * Fusion: two operations become one where the second alone reads the first's result (an activation, a residual sum), so that no intermediate
 * is written and read back. Which pairs fuse is said in rules (kernels/fusion.ts); here is only the walk over the graph.
 */
import { inputsOf, topological } from './graph.ts';
import { isOp, withInputs } from './op.ts';
import { within } from './scope.ts';
import type { Inputs, Op, OpTensor, Tensor } from './tensor.ts';

/** A pair of operations that one can replace. */
export interface FusionRule {
  producer: Op<unknown>;
  consumer: Op<unknown>;
  /** Given that `consumer` alone reads `producer`, as the input of that name: the tensor that replaces both, or null where that cannot be. */
  join(producer: OpTensor<unknown>, consumer: OpTensor<unknown>, input: string): Tensor | null;
}

/** A rule with the attributes of its operations known. */
export function rule<P, PI extends Inputs, C, CI extends Inputs>(
  producer: Op<P, PI>,
  consumer: Op<C, CI>,
  join: (producer: OpTensor<P, PI>, consumer: OpTensor<C, CI>, input: keyof CI) => Tensor | null,
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
    const rewritten = withInputs(tensor as OpTensor<unknown>, (input) => replacement.get(input)!);
    let result: Tensor = rewritten;
    // The operand computed last comes first: the other one is then ready to be read as the residual.
    for (const [name, input] of Object.entries(tensor.source.inputs).reverse()) {
      const producer = rewritten.source.inputs[name];
      if (!input || readers.get(input) !== 1 || producer?.source.kind !== 'op') continue;
      const fused = firstFusion(rules, producer as OpTensor<unknown>, rewritten, name);
      if (fused) {
        result = fused;
        break;
      }
    }
    replacement.set(tensor, result);
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, replacement.get(tensor)!]));
}

function firstFusion(rules: readonly FusionRule[], first: OpTensor<unknown>, second: OpTensor<unknown>, input: string): Tensor | null {
  for (const { producer, consumer, join } of rules) {
    // The one that does the work is the one to whose module it counts.
    const { module } = first.source.op.flops ? first : second;
    const fused = isOp(first, producer) && isOp(second, consumer) && within(module, () => join(first, second, input));
    if (fused) return fused;
  }
  return null;
}
