/** Walking over a graph of tensors. */
import type { Inputs, Tensor } from './tensor.ts';

/**
 * Tensors reachable from `outputs`, each after everything it reads: outputs in the order in which the trace made them, and what an operation
 * reads from its first input to its last. Gradient rules put the upstream derivative first, so that a backward pass has done with later layers
 * before it takes up what it needs of earlier ones. What lies together in a tensor (Op.holds) comes in the order of the trace too, not when that tensor does.
 */
export function topological(outputs: Iterable<Tensor>): Tensor[] {
  const roots = [...outputs];
  const order = depthFirst(roots);
  const parts = order.flatMap((tensor) => (tensor.source.kind === 'op' && tensor.source.op.holds ? inputsOf(tensor) : []));
  return parts.length > 0 ? depthFirst([...roots, ...parts]) : order;
}

function depthFirst(roots: readonly Tensor[]): Tensor[] {
  const order: Tensor[] = [];
  const seen = new Set<Tensor>();
  // An explicit stack: deep networks would overflow the call stack.
  const stack = [...roots].sort((a, b) => b.serial - a.serial).map((tensor) => ({ tensor, expanded: false }));
  while (stack.length) {
    const entry = stack.pop()!;
    if (entry.expanded) order.push(entry.tensor);
    else if (!seen.has(entry.tensor)) {
      seen.add(entry.tensor);
      stack.push({ tensor: entry.tensor, expanded: true });
      const inputs = inputsOf(entry.tensor);
      for (let i = inputs.length - 1; i >= 0; i--) stack.push({ tensor: inputs[i], expanded: false });
    }
  }
  return order;
}

/** What a tensor's operation reads, in order of its inputs; nothing for a leaf of the graph. */
export function inputsOf({ source }: Tensor): Tensor[] {
  return source.kind === 'op' ? listOf(source.inputs) : [];
}

/** Inputs that there are, in order. */
export function listOf(inputs: Inputs): Tensor[] {
  return Object.values(inputs).filter((input) => input !== null);
}
