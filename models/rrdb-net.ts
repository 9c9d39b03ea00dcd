/**
 * RRDBNet, the generator of ESRGAN (Wang et al. 2018, arXiv 1809.00219, sec. 3.1) and of BSRNet (Zhang et al. 2021, arXiv 2103.14006): residual
 * blocks of densely connected convolutions, then nearest upsampling. Weights have BSRNet's names, at the root of the file.
 */
import { Module, NetworkModule } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { add } from '../kernels/binary.ts';
import { concat, upsampleNearest } from '../kernels/copy.ts';
import { affine, leakyRelu } from '../kernels/unary.ts';
import { Conv2d, type Layer } from './layers.ts';
import { pixelUnshuffle } from './pixel-shuffle.ts';

export interface RrdbConfig {
  /** Channels of the trunk. */
  nf: number;
  /** Residual blocks. */
  nb: number;
  /** Channels that a dense convolution adds. */
  gc: number;
  /** Factor on the sides: 1, 2, 4 or 8. */
  scale: number;
  /** Side of the blocks of pixels that it reads as one; what it makes of them is enlarged as much more. Default 4 / scale where that is above 1, as Real-ESRGAN's. */
  unshuffle?: number;
}

/** Side of the blocks of pixels that a network of a configuration reads as one. */
export const unshuffleOf = ({ scale, unshuffle }: RrdbConfig): number => unshuffle ?? Math.max(1, 4 / scale);

const lrelu = (x: Tensor) => leakyRelu(x, 0.2);

/** What a residual branch is multiplied by. */
const RESIDUAL = 0.2;

/** x + 0.2 conv5([x, x1 .. x4]), each xk = lrelu(convk([x, x1 .. ])) of gc channels; x (N, H, W, nf) -> the same. */
class ResidualDenseBlock extends Module {
  conv1: Layer;
  conv2: Layer;
  conv3: Layer;
  conv4: Layer;
  conv5: Layer;

  constructor(nf: number, gc: number) {
    super();
    this.conv1 = new Conv2d(nf, gc, 3);
    this.conv2 = new Conv2d(nf + gc, gc, 3);
    this.conv3 = new Conv2d(nf + 2 * gc, gc, 3);
    this.conv4 = new Conv2d(nf + 3 * gc, gc, 3);
    this.conv5 = new Conv2d(nf + 4 * gc, nf, 3);
  }

  forward(x: Tensor): Tensor {
    const seen = [x];
    for (const conv of [this.conv1, this.conv2, this.conv3, this.conv4]) seen.push(lrelu(conv.forward(concat(seen))));
    return add(x, affine(this.conv5.forward(concat(seen)), RESIDUAL, 0));
  }
}

/** x + 0.2 RDB3(RDB2(RDB1(x))) */
class Rrdb extends Module {
  RDB1: ResidualDenseBlock;
  RDB2: ResidualDenseBlock;
  RDB3: ResidualDenseBlock;

  constructor(nf: number, gc: number) {
    super();
    this.RDB1 = new ResidualDenseBlock(nf, gc);
    this.RDB2 = new ResidualDenseBlock(nf, gc);
    this.RDB3 = new ResidualDenseBlock(nf, gc);
  }

  forward(x: Tensor): Tensor {
    return add(x, affine(this.RDB3.forward(this.RDB2.forward(this.RDB1.forward(x))), RESIDUAL, 0));
  }
}

export class RrdbNet extends NetworkModule {
  /** Side of the blocks of pixels that it reads as one. */
  readonly blockSide: number;
  conv_first: Layer;
  RRDB_trunk: Rrdb[];
  trunk_conv: Layer;
  upconv1?: Layer;
  upconv2?: Layer;
  upconv3?: Layer;
  HRconv: Layer;
  conv_last: Layer;

  constructor(config: RrdbConfig) {
    super();
    const { nf, nb, gc, scale } = config;
    this.blockSide = unshuffleOf(config);
    const doublings = Math.log2(scale * this.blockSide);
    this.conv_first = new Conv2d(3 * this.blockSide ** 2, nf, 3);
    this.RRDB_trunk = Array.from({ length: nb }, () => new Rrdb(nf, gc));
    this.trunk_conv = new Conv2d(nf, nf, 3);
    if (doublings > 0) this.upconv1 = new Conv2d(nf, nf, 3);
    if (doublings > 1) this.upconv2 = new Conv2d(nf, nf, 3);
    if (doublings > 2) this.upconv3 = new Conv2d(nf, nf, 3);
    this.HRconv = new Conv2d(nf, nf, 3);
    this.conv_last = new Conv2d(nf, 3, 3);
  }

  /** Modules after which a tile keeps what it has (models/cut-graph.ts). */
  stops(): Module[] {
    return this.RRDB_trunk.flatMap((block) => [block.RDB1, block.RDB2, block]);
  }

  /** x (N, H, W, 3) in [0, 1], sides multiples of `blockSide` -> (N, scale H, scale W, 3), not clamped. */
  forward(x: Tensor): Tensor {
    return this.ofBlocks(this.blockSide > 1 ? pixelUnshuffle(x, this.blockSide) : x);
  }

  /** The same of blocks (N, H / side, W / side, 3 side side). */
  ofBlocks(x: Tensor): Tensor {
    const first = this.conv_first.forward(x);
    let h = add(first, this.trunk_conv.forward(this.RRDB_trunk.reduce((value, block) => block.forward(value), first)));
    for (const conv of [this.upconv1, this.upconv2, this.upconv3]) if (conv) h = lrelu(conv.forward(upsampleNearest(h, 2)));
    return this.conv_last.forward(lrelu(this.HRconv.forward(h)));
  }
}
