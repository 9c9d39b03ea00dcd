/** Layers: the modules that hold weights themselves, `conv.weight` in the checkpoint being `conv.weight` here. */
import { Module, Parameter } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { type Conv2dOptions, conv2d } from '../kernels/conv2d.ts';
import { groupNorm } from '../kernels/group-norm.ts';
import { layerNorm } from '../kernels/layer-norm.ts';
import { linear } from '../kernels/linear.ts';

/** A module from one tensor to one. */
export interface Layer extends Module {
  forward(x: Tensor): Tensor;
}

/** x (N, H, W, in) -> (N, OH, OW, out); square window, by default stride 1, same-size padding and a bias. */
export class Conv2d extends Module {
  weight: Parameter;
  bias?: Parameter;
  private readonly options: Conv2dOptions;

  constructor(
    inChannels: number,
    outChannels: number,
    window: number,
    { bias = true, ...options }: Conv2dOptions & { bias?: boolean } = {},
  ) {
    super();
    this.weight = new Parameter([outChannels, inChannels, window, window], 'conv');
    if (bias) this.bias = new Parameter([outChannels], 'vector');
    this.options = { padding: (window - 1) / 2, ...options };
  }

  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight.tensor, this.bias?.tensor ?? null, this.options);
  }
}

/** x (..., in) -> (..., out); by default with a bias, which attention's queries, keys and values have not. */
export class Linear extends Module {
  weight: Parameter;
  bias?: Parameter;

  constructor(inChannels: number, outChannels: number, { bias = true }: { bias?: boolean } = {}) {
    super();
    this.weight = new Parameter([outChannels, inChannels], 'matrix');
    if (bias) this.bias = new Parameter([outChannels], 'vector');
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight.tensor, this.bias?.tensor ?? null);
  }
}

/** x (N, ..., channels) -> the same shape. */
export class GroupNorm extends Module {
  weight: Parameter;
  bias: Parameter;
  private readonly groups: number;
  private readonly eps: number;

  constructor(channels: number, groups: number, eps = 1e-5) {
    super();
    this.weight = new Parameter([channels], 'vector');
    this.bias = new Parameter([channels], 'vector');
    this.groups = groups;
    this.eps = eps;
  }

  forward(x: Tensor): Tensor {
    return groupNorm(x, this.weight.tensor, this.bias.tensor, this.groups, this.eps);
  }
}

/** x (..., channels) -> the same shape. */
export class LayerNorm extends Module {
  weight: Parameter;
  bias: Parameter;

  constructor(channels: number) {
    super();
    this.weight = new Parameter([channels], 'vector');
    this.bias = new Parameter([channels], 'vector');
  }

  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight.tensor, this.bias.tensor);
  }
}

/** A function of a tensor where a layer is wanted, such as an activation. */
export class Pointwise extends Module {
  private readonly compute: (x: Tensor) => Tensor;

  constructor(compute: (x: Tensor) => Tensor) {
    super();
    this.compute = compute;
  }

  forward(x: Tensor): Tensor {
    return this.compute(x);
  }
}

/** Layers one after the other; their weights are named by position: `0.weight`, `2.weight`. */
export class Sequential extends Module {
  constructor(...layers: (Layer | ((x: Tensor) => Tensor))[]) {
    super();
    Object.assign(
      this,
      layers.map((layer) => (typeof layer === 'function' ? new Pointwise(layer) : layer)),
    );
  }

  forward(x: Tensor): Tensor {
    return Object.values(this as unknown as Record<string, Layer>).reduce((value, layer) => layer.forward(value), x);
  }
}

/** Where training has dropout, inference has nothing, but the position counts. */
export const identity = (x: Tensor): Tensor => x;
