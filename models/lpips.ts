/**
 * LPIPS: how far two images are apart to the eye, by the features of a network trained to name objects. (Zhang et al. 2018, arXiv 1801.03924)
 * The backbone is torchvision's AlexNet or VGG16 (features.*), the heads lin0 to lin4 are those that the authors trained for it; neither ships
 * with the program.
 */
import { ShapeError } from '../core/errors.ts';
import { Module, Parameter } from '../core/module.ts';
import { constant, describe, sizeOf, type Tensor } from '../core/tensor.ts';
import { add, div, maximum, sub } from '../kernels/binary.ts';
import { type Conv2dOptions, conv2d as convolve } from '../kernels/conv2d.ts';
import { pad, slice } from '../kernels/copy.ts';
import { mean, sum } from '../kernels/reduce.ts';
import { reshape } from '../kernels/reshape.ts';
import { affine, sqrt, square } from '../kernels/unary.ts';
import { Conv2d, type Layer } from './layers.ts';

type Step = { conv: [from: number, to: number, window: number, options?: Conv2dOptions] } | 'relu' | 'tap' | { pool: 2 | 3 };

export type LpipsBackbone = 'alexnet' | 'vgg16';

/** torchvision's `features`, position by position, and where LPIPS listens: at relu layers marked 'tap'. */
const BACKBONES: Record<LpipsBackbone, Step[]> = {
  alexnet: [
    { conv: [3, 64, 11, { stride: 4, padding: 2 }] },
    'tap',
    { pool: 3 },
    { conv: [64, 192, 5] },
    'tap',
    { pool: 3 },
    { conv: [192, 384, 3] },
    'tap',
    { conv: [384, 256, 3] },
    'tap',
    { conv: [256, 256, 3] },
    'tap',
  ],
  vgg16: [
    [3, 64, 64],
    [64, 128, 128],
    [128, 256, 256, 256],
    [256, 512, 512, 512],
    [512, 512, 512, 512],
  ].flatMap((channels, stage): Step[] => [
    ...(stage > 0 ? [{ pool: 2 } as const] : []),
    ...channels.slice(1).flatMap((to, i): Step[] => [{ conv: [channels[i], to, 3] }, i === channels.length - 2 ? 'tap' : 'relu']),
  ]),
};

/** The backbone's inputs are (x - shift) / scale of images in [-1, 1]: ImageNet's mean and deviation. */
const [SHIFT, SCALE] = [
  [-0.03, -0.088, -0.188],
  [0.458, 0.448, 0.45],
];

export class Lpips extends Module {
  features: Record<number, Layer> = {};
  private readonly steps: readonly Step[];

  constructor(backbone: LpipsBackbone) {
    super();
    this.steps = BACKBONES[backbone];
    let [channels, heads] = [0, 0];
    this.steps.forEach((step, position) => {
      if (typeof step === 'object' && 'conv' in step) {
        const [from, to, window, options] = step.conv;
        this.features[position] = new Conv2d(from, to, window, options);
        channels = to;
      }
      if (step === 'tap')
        Object.assign(this, { [`lin${heads++}`]: { model: { 1: { weight: new Parameter([1, channels, 1, 1], 'conv') } } } });
    });
  }

  /** a, b (1, H, W, 3) in [-1, 1], sides of at least 32 pixels -> (1), 0 for equal images. */
  forward(a: Tensor, b: Tensor): Tensor {
    const [left, right] = [this.taps(a), this.taps(b)];
    const distances = left.map((feature, i) => {
      const head = (this as unknown as Record<string, { model: { 1: { weight: Parameter } } }>)[`lin${i}`].model[1].weight;
      const weighted = convolve(square(sub(unit(feature), unit(right[i]))), head.tensor);
      return mean(reshape(weighted, [1, weighted.size]));
    });
    return distances.reduce(add);
  }

  private taps(image: Tensor): Tensor[] {
    let x = div(sub(image, constant(Float32Array.from(SHIFT), [3])), constant(Float32Array.from(SCALE), [3]));
    const found: Tensor[] = [];
    const zero = constant(Float32Array.of(0), [1]);
    this.steps.forEach((step, position) => {
      if (step === 'relu' || step === 'tap') x = maximum(x, zero);
      else x = 'pool' in step ? maxPool(x, step.pool) : this.features[position].forward(x);
      if (step === 'tap') found.push(x);
    });
    return found;
  }
}

/** Each pixel's channels at length 1; x (N, H, W, C). */
function unit(x: Tensor): Tensor {
  const length = reshape(sqrt(sum(square(x))), [...x.shape.slice(0, -1), 1]);
  return div(x, affine(length, 1, 1e-10));
}

/** Maximum over windows of 2 or 3 pixels a side with a step of 2, only whole ones: x (N, H, W, C) -> (N, h, w, C), h = floor((H - window) / 2) + 1. */
export function maxPool(x: Tensor, window: 2 | 3): Tensor {
  return [1, 2].reduce((y, axis) => {
    const length = y.shape[axis];
    const count = Math.floor((length - window) / 2) + 1;
    if (count < 1) throw new ShapeError(`maxPool: ${describe(y)} has no window of ${window} along axis ${axis}.`);
    const [before, after] = [sizeOf(y.shape.slice(0, axis)), sizeOf(y.shape.slice(axis + 1))];
    // Pairs of neighbours; where the last window ends within a pair, that is filled up and its second half not used.
    const pairs = window === 2 ? count : count + 1;
    const missing = Math.max(0, 2 * pairs - length);
    const whole =
      missing > 0
        ? pad(
            y,
            y.shape.map((_, i) => [0, i === axis ? missing : 0]),
          )
        : slice(y, axis, 0, 2 * pairs);
    const paired = reshape(whole, [before, pairs, 2, after]);
    const half = (which: 0 | 1, from: number) => slice(slice(paired, 2, which, which + 1), 1, from, from + count);
    const first = maximum(half(0, 0), half(1, 0));
    return reshape(window === 2 ? first : maximum(first, half(0, 1)), y.shape.with(axis, count));
  }, x);
}
