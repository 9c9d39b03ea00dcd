/**
 * The transformer of SDXL's UNet: self-attention, cross-attention to the text, gated feed-forward, each around a residual.
 * (Latent diffusion, arXiv 2112.10752, sec. 3.3; SDXL, arXiv 2307.01952)
 * Feature maps stay (N, H, W, C): channels last, a pixel is a token.
 */
import { Module } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { attention } from '../kernels/attention.ts';
import { add } from '../kernels/binary.ts';
import { geglu } from '../kernels/geglu.ts';
import { groupNorm, identity, type Layer, layerNorm, linear, projection, sequential } from './layers.ts';

/** Attention of x (N, ..., query) to context (N, ..., context), or to itself. -> x's shape. */
export class CrossAttention extends Module {
  private readonly heads: number;
  to_q: Layer;
  to_k: Layer;
  to_v: Layer;
  to_out: Layer;

  constructor(query: number, context: number, headChannels: number) {
    super();
    this.heads = query / headChannels;
    this.to_q = projection(query, query);
    this.to_k = projection(context, query);
    this.to_v = projection(context, query);
    this.to_out = sequential(linear(query, query), identity);
  }

  forward(x: Tensor, context: Tensor = x): Tensor {
    return this.to_out(attention(this.to_q(x), this.to_k(context), this.to_v(context), this.heads));
  }
}

/** x (..., channels) -> (..., inner): value times gelu(gate). */
export function gegluLayer(channels: number, inner: number): Layer {
  const proj = linear(channels, 2 * inner);
  return Object.assign((x: Tensor) => geglu(proj(x)), { proj });
}

export class FeedForward extends Module {
  net: Layer;

  constructor(channels: number) {
    super();
    this.net = sequential(gegluLayer(channels, 4 * channels), identity, linear(4 * channels, channels));
  }

  forward(x: Tensor): Tensor {
    return this.net(x);
  }
}

export class BasicTransformerBlock extends Module {
  attn1: CrossAttention;
  ff: FeedForward;
  attn2: CrossAttention;
  norm1: Layer;
  norm2: Layer;
  norm3: Layer;

  constructor(channels: number, context: number, headChannels: number) {
    super();
    this.attn1 = new CrossAttention(channels, channels, headChannels);
    this.ff = new FeedForward(channels);
    this.attn2 = new CrossAttention(channels, context, headChannels);
    this.norm1 = layerNorm(channels);
    this.norm2 = layerNorm(channels);
    this.norm3 = layerNorm(channels);
  }

  forward(x: Tensor, context: Tensor): Tensor {
    let h = add(x, this.attn1.forward(this.norm1(x)));
    h = add(h, this.attn2.forward(this.norm2(h), context));
    return add(h, this.ff.forward(this.norm3(h)));
  }
}

/** x (N, H, W, C), context (N, L, D) -> x's shape. GroupNorm's eps is 1e-6 here, unlike in the rest of the UNet. */
export class SpatialTransformer extends Module {
  norm: Layer;
  proj_in: Layer;
  transformer_blocks: BasicTransformerBlock[];
  proj_out: Layer;

  constructor(channels: number, depth: number, context: number, headChannels: number, groups: number) {
    super();
    this.norm = groupNorm(channels, groups, 1e-6);
    this.proj_in = linear(channels, channels);
    this.transformer_blocks = Array.from({ length: depth }, () => new BasicTransformerBlock(channels, context, headChannels));
    this.proj_out = linear(channels, channels);
  }

  forward(x: Tensor, context: Tensor): Tensor {
    const h = this.transformer_blocks.reduce((value, block) => block.forward(value, context), this.proj_in(this.norm(x)));
    return add(x, this.proj_out(h));
  }
}
