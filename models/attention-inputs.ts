/**
 * What attention layers compare: queries and keys, by the module that attends. For looking at attention, which the kernels never write down as a whole.
 */
import { topological } from '../core/graph.ts';
import { isOp } from '../core/op.ts';
import type { Tensor } from '../core/tensor.ts';
import { attentionOp } from '../kernels/attention.ts';

export interface AttentionInputs {
  /** (N, H, W, C) */
  q: Tensor;
  /** (N, H', W', C) */
  k: Tensor;
  heads: number;
}

/** Attention between pixels, by its module. */
export function pixelAttention(outputs: Record<string, Tensor>): Map<object, AttentionInputs> {
  const found = new Map<object, AttentionInputs>();
  for (const tensor of topological(Object.values(outputs))) {
    if (!isOp(tensor, attentionOp) || !tensor.module) continue;
    const { q, k } = tensor.source.inputs;
    if (q.shape.length === 4 && k.shape.length === 4) found.set(tensor.module, { q, k, heads: tensor.source.attrs.heads });
  }
  return found;
}
