/**
 * What attention layers compare: queries and keys, found in a traced graph by the layer that made them. For looking at attention, which the kernels
 * never write down as a whole.
 */
import { inputsOf, topological } from '../core/graph.ts';
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

/** Attention between pixels, by the layer's checkpoint name, such as `model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1`. */
export function pixelAttention(outputs: Record<string, Tensor>): Map<string, AttentionInputs> {
  const found = new Map<string, AttentionInputs>();
  for (const tensor of topological(Object.values(outputs))) {
    if (!isOp(tensor, attentionOp)) continue;
    const { q, k } = tensor.source.inputs;
    const name = weightOf(q)?.replace(/\.to_q\.weight$/, '');
    if (name && q.shape.length === 4 && k.shape.length === 4) found.set(name, { q, k, heads: tensor.source.attrs.heads });
  }
  return found;
}

/** The name of the weight that made a tensor. */
function weightOf(tensor: Tensor): string | undefined {
  const weight = inputsOf(tensor).find((input) => input.source.kind === 'parameter');
  return weight?.source.kind === 'parameter' ? weight.source.parameter.name : undefined;
}
