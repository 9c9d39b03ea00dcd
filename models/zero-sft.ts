/**
 * How control features enter the UNet: ZeroSFT at every skip connection and ZeroCrossAttn at two places. Layers named zero_* start
 * training at zero, so that at first the photo changes nothing. (SUPIR, arXiv 2401.13627, sec. 3.2)
 */
import { Module } from '../core/module.ts';
import type { Scalar, Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { concat } from '../kernels/copy.ts';
import { affine, silu } from '../kernels/unary.ts';
import { modulate } from '../kernels/zero-sft.ts';
import { Conv2d, GroupNorm, type Layer, Sequential } from './layers.ts';
import { CrossAttention } from './transformer.ts';

/** Spatial feature transform of a skip connection by a control feature; replaces the UNet's concatenation [h, skip]. */
export class ZeroSFT extends Module {
  zero_conv: Layer;
  mlp_shared: Layer;
  zero_mul: Layer;
  zero_add: Layer;
  param_free_norm: Layer;

  /** Channels of the control feature, the skip and h (0 after the middle block, where there is no h); width of the hidden layer. */
  constructor(control: number, skip: number, h: number, hidden: number, groups: number) {
    super();
    this.param_free_norm = new GroupNorm(skip + h, groups);
    this.mlp_shared = new Sequential(new Conv2d(control, hidden, 3), silu);
    this.zero_mul = new Conv2d(hidden, skip + h, 3);
    this.zero_add = new Conv2d(hidden, skip + h, 3);
    this.zero_conv = new Conv2d(control, skip, 1);
  }

  /** c (N, H, W, control); skip (N, H, W, skip); h (N, H, W, h) or null; scale 0 gives [h, skip] back. -> (N, H, W, h + skip) */
  forward(c: Tensor, skip: Tensor, h: Tensor | null, scale: Scalar): Tensor {
    const join = (last: Tensor) => (h ? concat([h, last]) : last);
    const mixed = join(add(skip, this.zero_conv.forward(c)));
    const a = this.mlp_shared.forward(c);
    return modulate(this.param_free_norm.forward(mixed), this.zero_mul.forward(a), this.zero_add.forward(a), join(skip), scale);
  }
}

/** Attention of the UNet's features to a control feature: x + scale attention(norm(x), norm(c)). */
export class ZeroCrossAttn extends Module {
  attn: CrossAttention;
  norm1: Layer;
  norm2: Layer;

  constructor(query: number, control: number, headChannels: number, groups: number) {
    super();
    this.attn = new CrossAttention(query, control, headChannels);
    this.norm1 = new GroupNorm(query, groups);
    this.norm2 = new GroupNorm(control, groups);
  }

  /** c (N, H, W, control); x (N, H, W, query) -> x's shape. */
  forward(c: Tensor, x: Tensor, scale: Scalar): Tensor {
    return add(x, affine(this.attn.forward(this.norm1.forward(x), this.norm2.forward(c)), scale, 0));
  }
}
