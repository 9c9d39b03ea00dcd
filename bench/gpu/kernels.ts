/** The kernels that take a restoration's time, as graphs of SDXL's sizes; their shaders come from the plan that programs run. */
import { type AdapterFacts, MATRIX_FEATURE } from '../../core/adapter.ts';
import { Parameter } from '../../core/module.ts';
import { shaderSource } from '../../core/shader.ts';
import { input, type Shape, type Tensor } from '../../core/tensor.ts';
import { attention } from '../../kernels/attention.ts';
import { attentionTile, loopLengths } from '../../kernels/attention-tiled.ts';
import { add } from '../../kernels/binary.ts';
import { needsOf } from '../../kernels/catalogue.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { concat } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { groupNorm } from '../../kernels/group-norm.ts';
import { layerNorm } from '../../kernels/layer-norm.ts';
import { linear } from '../../kernels/linear.ts';
import { silu } from '../../kernels/unary.ts';
import { modulate } from '../../kernels/zero-sft.ts';
import type { GpuModule } from './driver.ts';

export interface HotKernel extends GpuModule {
  operation: string;
  /** The shader's name. */
  shader: string;
  /** Products of its multiply-adds that make one of f32. */
  split: number;
  /** Trips of the loops inside the main loop, in the order of the text; absent where there is no such loop. */
  trips?: number[];
}

const TILED: AdapterFacts = {
  vendor: 'amd',
  architecture: '',
  device: '',
  description: '',
  software: false,
  features: new Set(['shader-f16', 'subgroups']),
  subgroupSizes: [32, 64],
  schedule: 'tiled',
};
const MATRIX: AdapterFacts = {
  ...TILED,
  features: new Set([...TILED.features, 'subgroup-size-control', MATRIX_FEATURE]),
  schedule: 'matrix',
  matrixUnit: { input: 'f16', m: 16, n: 16, k: 16, lanes: 32 },
};
const LIMITS = { maxStorageBufferBindingSize: 2 ** 31, minUniformBufferOffsetAlignment: 256 };

/** Every shader of the operations below, each once, and those of the matrix schedule that differ. */
export function hotKernels(): HotKernel[] {
  const kernels = new Map<string, HotKernel>();
  for (const facts of [TILED, MATRIX]) {
    for (const { operation, graph, trips } of operations()) {
      for (const { shader } of plan({ graph }, facts, LIMITS).dispatches) {
        if (facts === MATRIX && !shader.matrices) continue;
        const wgsl = shaderSource(shader);
        const same = kernels.get(wgsl);
        const { name, matrices } = shader;
        const own = matrices ? matrixTrips(name) : name.startsWith('matmul') ? matmulTrips(name) : trips;
        if (same) same.operation = [...new Set([...same.operation.split(', '), operation])].join(', ');
        else kernels.set(wgsl, { operation, shader: name, wgsl, needs: needsOf(wgsl), split: matrices ? productsOf(name) : 1, trips: own });
      }
    }
  }
  return [...kernels.values()];
}

interface Operation {
  operation: string;
  graph: Tensor;
  trips?: number[];
}

/** A matmul passes through a tile of the window 16 elements deep; where it is a convolution's, it may go on to the next place of the window. */
const matmulTrips = (shader: string) => (shader.includes('windowed') ? [16 / 320, 8] : [8]);

/** Products of halves that make one of f32: x is split into two of them, and so are weights that are not f16. */
const productsOf = (shader: string) => ['f16x4 f16', 'f32x4 f16'].findIndex((types) => shader.startsWith(`matmul ${types}`)) + 1 || 3;

/** The same with matrices, whose products are no loop, in tiles 32 elements deep or 16. */
const matrixTrips = (shader: string) => (shader.includes('windowed') ? [(productsOf(shader) < 3 ? 32 : 16) / 320] : []);

/** Slices of channels, then weights and values in four pieces of a block. */
function attentionTrips(width: number): number[] {
  const { depth, across, parts, values } = loopLengths(attentionTile(width / 4));
  return [width / 4 / depth, depth, across, ...Array.from({ length: 4 }, () => [parts, values]).flat()];
}

function* operations(): Generator<Operation> {
  let inputs = 0;
  const f32 = (...shape: Shape) => input(`${inputs++}`, shape);
  const f16 = (...shape: Shape) => input(`${inputs++}`, shape, 'f16');
  const image = f32(1, 64, 64, 320);
  const tokens = f32(1, 4096, 640);
  yield { operation: 'linear', graph: add(linear(tokens, f16(640, 640), f32(640)), tokens) };
  yield { operation: 'linear, activations in f16', graph: linear(f16(1, 4096, 640), f16(640, 640), f32(640)) };
  for (const dtype of ['q8', 'q4'] as const) {
    const parameter = new Parameter([640, 640], 'matrix');
    parameter.dtype = dtype;
    const blocks = parameter.tensor;
    yield { operation: `linear, weights in ${dtype}`, graph: add(linear(tokens, blocks, f32(640)), tokens) };
  }
  yield { operation: '1x1 convolution', graph: conv2d(image, f16(640, 1, 1, 320), f32(640)) };
  yield { operation: '3x3 convolution, stride 2', graph: conv2d(image, f16(320, 3, 3, 320), f32(320), { stride: 2, padding: 1 }) };
  yield { operation: '3x3 convolution', graph: add(conv2d(image, f16(320, 3, 3, 320), f32(320), { padding: 1 }), image) };
  for (const width of [32, 64, 96, 128, 256, 512]) {
    const q = f32(1, 1024, width);
    yield { operation: `attention, heads of ${width}`, graph: attention(q, q, q, 1), trips: attentionTrips(width) };
  }
  yield { operation: 'group norm + SiLU', graph: silu(groupNorm(image, f32(320), f32(320), 32)) };
  const [h, skip, mixed] = [f32(1, 64, 64, 640), f32(1, 64, 64, 640), f32(1, 64, 64, 640)];
  const [gamma, beta] = [f32(1, 64, 64, 1280), f32(1, 64, 64, 1280)];
  const normal = groupNorm(concat([h, mixed]), f32(1280), f32(1280), 32);
  yield { operation: 'ZeroSFT', graph: modulate(normal, gamma, beta, concat([h, skip]), 1) };
  yield { operation: 'layer norm', graph: layerNorm(tokens, f32(640), f32(640)) };
  yield { operation: 'linear + GEGLU', graph: geglu(linear(tokens, f16(5120, 640), f32(5120))) };
}
