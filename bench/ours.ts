/** This library in the benchmark, or another checkout's. Its peers have all weights in f32; where a case says f16 or q8, only ours are stored so. */
import { quantise } from '../core/blocks.ts';
import { encodeF16 } from '../core/half.ts';
import type * as Library from '../index.ts';
import { type Case, EPS, GROUPS, SHIFT, WINDOW } from './cases.ts';
import type { Contender } from './contender.ts';

export function ours(device: Library.Device, library: typeof Library): Contender {
  const { compile, evaluate, reshape, slice } = library;
  return {
    name: 'supir-webgpu',
    async prepare(c) {
      const { y, inputs } = graph(c, library);
      const program = await compile(device, { first: slice(reshape(y, [y.size]), 0, 0, 4) });
      await program.run(inputs);
      return {
        run: () => program.run({}), // on the inputs that it has
        result: () => evaluate(device, y, inputs),
      };
    },
  };
}

/** The operation on inputs, with weights as constants or as parameters. */
function graph(c: Case, library: typeof Library): { y: Library.Tensor; inputs: Record<string, Float32Array> } {
  const inputs: Record<string, Float32Array> = {};
  const given = (name: string, ...shape: number[]) => {
    inputs[name] = c.inputs[name];
    return library.input(name, shape);
  };
  return { y: result(c, library, given), inputs };
}

function result(
  { kind, size, inputs, weights }: Case,
  library: typeof Library,
  given: (name: string, ...shape: number[]) => Library.Tensor,
): Library.Tensor {
  const held = (name: string, ...shape: number[]) => library.constant(inputs[name], shape);
  const weight = (...shape: number[]) => {
    if (weights !== 'q8') return library.constant(weights === 'f16' ? encodeF16(inputs.w) : inputs.w, shape);
    const parameter = new library.Parameter(shape, 'matrix');
    const bytes = quantise('q8', inputs.w);
    parameter.dtype = 'q8';
    parameter.source = {
      read: async () => inputs.w,
      readRows: async () => inputs.w,
      pieces: () => [{ offset: 0, bytes: bytes.length, read: async () => bytes }],
    };
    return parameter.tensor;
  };
  if (kind === 'matmul') return library.linear(given('x', size[0], size[1]), weight(size[2], size[1]));
  if (kind === 'conv2d')
    return library.conv2d(given('x', 1, size[0], size[0], size[1]), weight(size[2], 3, 3, size[1]), null, { padding: 1 });
  if (kind === 'attention') {
    const channels = size[2] * size[3];
    return library.attention(given('q', 1, size[0], channels), given('k', 1, size[1], channels), given('v', 1, size[1], channels), size[2]);
  }
  if (kind === 'windowAttention') {
    const [side, heads, width] = size;
    const qkv = given('qkv', 1, side, side, 3 * heads * width);
    const bias = held('bias', heads, WINDOW ** 2, WINDOW ** 2);
    return library.windowAttention(qkv, bias, { heads, window: WINDOW, shift: SHIFT, blocked: -100 });
  }
  const [rows, channels] = size;
  if (kind === 'geglu') return library.geglu(given('x', rows, 2 * channels));
  const [gamma, beta] = [held('gamma', channels), held('beta', channels)];
  if (kind === 'layerNorm') return library.layerNorm(given('x', rows, channels), gamma, beta, EPS);
  return library.silu(library.groupNorm(given('x', 1, rows, channels), gamma, beta, GROUPS, EPS));
}
