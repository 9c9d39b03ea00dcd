/** Doubles the size of a feature map (N, H, W, C): every pixel fourfold, then a convolution. In the UNet and in the autoencoder's decoder. */
import { Module } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { upsampleNearest } from '../kernels/copy.ts';
import { Conv2d, type Layer } from './layers.ts';

export class Upsample extends Module {
  conv: Layer;

  constructor(channels: number) {
    super();
    this.conv = new Conv2d(channels, channels, 3);
  }

  forward(x: Tensor): Tensor {
    return this.conv.forward(upsampleNearest(x, 2));
  }
}
