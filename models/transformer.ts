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
import { GroupNorm, identity, type Layer, LayerNorm, Linear, Sequential } from './layers.ts';

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
    this.to_q = new Linear(query, query, { bias: false });
    this.to_k = new Linear(context, query, { bias: false });
    this.to_v = new Linear(context, query, { bias: false });
    this.to_out = new Sequential(new Linear(query, query), identity);
  }

  forward(x: Tensor, context: Tensor = x): Tensor {
    return this.to_out.forward(attention(this.to_q.forward(x), this.to_k.forward(context), this.to_v.forward(context), this.heads));
  }
}

/** x (..., channels) -> (..., inner): value times gelu(gate). */
export class Geglu extends Module {
  proj: Linear;

  constructor(channels: number, inner: number) {
    super();
    this.proj = new Linear(channels, 2 * inner);
  }

  forward(x: Tensor): Tensor {
    return geglu(this.proj.forward(x));
  }
}

export class FeedForward extends Module {
  net: Layer;

  constructor(channels: number) {
    super();
    this.net = new Sequential(new Geglu(channels, 4 * channels), identity, new Linear(4 * channels, channels));
  }

  forward(x: Tensor): Tensor {
    return this.net.forward(x);
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
    this.norm1 = new LayerNorm(channels);
    this.norm2 = new LayerNorm(channels);
    this.norm3 = new LayerNorm(channels);
  }

  forward(x: Tensor, context: Tensor): Tensor {
    let h = add(x, this.attn1.forward(this.norm1.forward(x)));
    h = add(h, this.attn2.forward(this.norm2.forward(h), context));
    return add(h, this.ff.forward(this.norm3.forward(h)));
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
    this.norm = new GroupNorm(channels, groups, 1e-6);
    this.proj_in = new Linear(channels, channels);
    this.transformer_blocks = Array.from({ length: depth }, () => new BasicTransformerBlock(channels, context, headChannels));
    this.proj_out = new Linear(channels, channels);
  }

  forward(x: Tensor, context: Tensor): Tensor {
    const h = this.transformer_blocks.reduce((value, block) => block.forward(value, context), this.proj_in.forward(this.norm.forward(x)));
    return add(x, this.proj_out.forward(h));
  }
}
