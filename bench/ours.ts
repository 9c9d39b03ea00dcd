/** This library in the benchmark, with f32 weights as its peers have them; f16 weights, as in use, are somewhat quicker. */

import { constant, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, evaluate } from '../gpu/program.ts';
import { attention } from '../kernels/attention.ts';
import { conv2d } from '../kernels/conv2d.ts';
import { slice } from '../kernels/copy.ts';
import { geglu } from '../kernels/geglu.ts';
import { groupNorm } from '../kernels/group-norm.ts';
import { layerNorm } from '../kernels/layer-norm.ts';
import { linear } from '../kernels/linear.ts';
import { reshape } from '../kernels/reshape.ts';
import { silu } from '../kernels/unary.ts';
import { windowAttention } from '../kernels/window-attention.ts';
import { type Case, EPS, GROUPS, SHIFT, WINDOW } from './cases.ts';
import type { Contender } from './contender.ts';

export function ours(device: Device): Contender {
  return {
    name: 'supir-webgpu',
    async prepare(c) {
      const y = graph(c);
      const program = await compile(device, { first: slice(reshape(y, [y.size]), 0, 0, 4) });
      return { run: () => program.run({}), result: () => evaluate(device, graph(c)) };
    },
  };
}

function graph({ kind, size, inputs }: Case): Tensor {
  const of = (name: string, ...shape: number[]) => constant(inputs[name], shape);
  if (kind === 'matmul') return linear(of('x', size[0], size[1]), of('w', size[2], size[1]));
  if (kind === 'conv2d') return conv2d(of('x', 1, size[0], size[0], size[1]), of('w', size[2], 3, 3, size[1]), null, { padding: 1 });
  if (kind === 'attention') {
    const channels = size[2] * size[3];
    return attention(of('q', 1, size[0], channels), of('k', 1, size[1], channels), of('v', 1, size[1], channels), size[2]);
  }
  if (kind === 'windowAttention') {
    const [side, heads, width] = size;
    const qkv = of('qkv', 1, side, side, 3 * heads * width);
    return windowAttention(qkv, of('bias', heads, WINDOW ** 2, WINDOW ** 2), { heads, window: WINDOW, shift: SHIFT, blocked: -100 });
  }
  const [rows, channels] = size;
  if (kind === 'geglu') return geglu(of('x', rows, 2 * channels));
  const [gamma, beta] = [of('gamma', channels), of('beta', channels)];
  if (kind === 'layerNorm') return layerNorm(of('x', rows, channels), gamma, beta, EPS);
  return silu(groupNorm(of('x', 1, rows, channels), gamma, beta, GROUPS, EPS));
}
