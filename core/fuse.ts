/**
 * Fusion: an operation absorbs the one that alone reads its result (a bias-free activation, a residual sum), so that no intermediate is
 * written and read back. Which neighbours an operation can absorb is said in its kernel file; here is only the walk over the graph.
 */
import { apply, type OpTensor } from './op.ts';
import type { Tensor } from './tensor.ts';

/**
 * Tensors reachable from `outputs`, each after everything it reads: outputs in the order in which the trace made them, and what an operation
 * reads from its first input to its last. Gradient rules put the upstream derivative first, so that a backward pass has done with later layers
 * before it takes up what it needs of earlier ones.
 */
export function topological(outputs: Iterable<Tensor>): Tensor[] {
  const order: Tensor[] = [];
  const seen = new Set<Tensor>();
  // An explicit stack: deep networks would overflow the call stack.
  const stack = [...outputs].sort((a, b) => b.serial - a.serial).map((tensor) => ({ tensor, expanded: false }));
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

export function inputsOf(tensor: Tensor): Tensor[] {
  return tensor.source.kind === 'op' ? tensor.source.inputs : [];
}

/** The same graph with neighbours fused; keys and shapes of the outputs stay. */
export function fuse(outputs: Record<string, Tensor>): Record<string, Tensor> {
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
      const fused = producer.source.op.absorb?.(producer as OpTensor<unknown>, rewritten, i);
      if (fused) {
        result = fused;
        break;
      }
    }
    replacement.set(tensor, result);
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, replacement.get(tensor)!]));
}
