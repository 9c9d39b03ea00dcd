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

/** The same graph with every operation replaced by what `change` makes of it, whose inputs have been replaced; keys and shapes of the outputs stay. */
export function rewrite<Outputs extends Record<string, Tensor>>(
  outputs: Outputs,
  change: (rewritten: OpTensor<unknown>, original: OpTensor<unknown>) => Tensor,
): Outputs {
  const replacement = new Map<Tensor, Tensor>();
  for (const tensor of topological(Object.values(outputs))) {
    const replaced =
      tensor.source.kind === 'op'
        ? change(
            withInputs(tensor as OpTensor<unknown>, (input) => replacement.get(input)!),
            tensor as OpTensor<unknown>,
          )
        : tensor;
    replacement.set(tensor, replaced);
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, replacement.get(tensor)!])) as Outputs;
}

/** The same graph with neighbours fused; keys and shapes of the outputs stay. */
export function fuse<Outputs extends Record<string, Tensor>>(outputs: Outputs, rules: readonly FusionRule[]): Outputs {
  const readers = new Map<Tensor, number>();
  const count = (tensor: Tensor) => readers.set(tensor, (readers.get(tensor) ?? 0) + 1);
  for (const tensor of topological(Object.values(outputs))) inputsOf(tensor).forEach(count);
  Object.values(outputs).forEach(count);

  return rewrite(outputs, (rewritten, { source }) => {
    // The operand computed last comes first: the other one is then ready to be read as the residual.
    for (const [name, input] of Object.entries(source.inputs).reverse()) {
      const producer = rewritten.source.inputs[name];
      if (!input || readers.get(input) !== 1 || producer?.source.kind !== 'op') continue;
      const fused = firstFusion(rules, producer as OpTensor<unknown>, rewritten, name);
      if (fused) return fused;
    }
    return rewritten;
  });
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
