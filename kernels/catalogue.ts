/**
 * Every shader that the kernels can emit: each kernel planned on tiny graphs that cover element types, load widths and the adapters that
 * change its choice. For compile checks; WGSL comes from the same plan that programs run, so the list cannot drift from it.
 */

import { type AdapterFacts, MATRIX_FEATURE, type MatrixUnit, type Schedule } from '../core/adapter.ts';
import { isBlocks } from '../core/blocks.ts';
import { Parameter } from '../core/module.ts';
import { type DType, present, shaderSource } from '../core/shader.ts';
import { input, type Shape, scalar, type Tensor } from '../core/tensor.ts';
import { attention } from './attention.ts';
import { attentionPart, mergeAttention } from './attention-parts.ts';
import { add } from './binary.ts';
import { blockGradients, gradientGraphs, updateGraphs } from './catalogue-gradient.ts';
import { conv2d } from './conv2d.ts';
import { concat, permute } from './copy.ts';
import { depthToSpace } from './depth-to-space.ts';
import { plan } from './fusion.ts';
import { gatherRows } from './gather-rows.ts';
import { geglu } from './geglu.ts';
import { groupNorm } from './group-norm.ts';
import { layerNorm } from './layer-norm.ts';
import { linear, matmul } from './linear.ts';
import { type LayerTensor, lowRankDown, withLowRank } from './low-rank.ts';
import { mergeMoments } from './merge-moments.ts';
import { rankScales } from './rank-scales.ts';
import { max, sum } from './reduce.ts';
import { softmax } from './softmax.ts';
import { LARGE_TILES } from './tile-choice.ts';
import { cast, gelu, quickGelu, silu } from './unary.ts';
import { where } from './where.ts';
import { windowAttention } from './window-attention.ts';
import { modulate } from './zero-sft.ts';

export interface CatalogueShader {
  name: string;
  wgsl: string;
  /** WebGPU features it needs, such as 'shader-f16'. */
  needs: string[];
  /** How the tensors that it reads are stored. */
  types: ReadonlySet<DType>;
  /** On adapters of which schedules it is chosen. */
  schedules: Set<Schedule>;
}

const FLOATS = ['f32', 'f16'] as const;
const BLOCKS = ['q8', 'q4'] as const;
/** A last axis read in fours, and one read element by element. */
const CHANNELS = [8, 5];

const base = { vendor: '', architecture: '', device: '', description: '', software: false };
/** The matrix units of most GPUs. */
const HALVES: MatrixUnit = { input: 'f16', m: 16, n: 16, k: 16, lanes: 32 };
const ADAPTERS: AdapterFacts[] = [
  { ...base, features: new Set(), subgroupSizes: [0, 0], schedule: 'tiled' },
  { ...base, features: new Set(), subgroupSizes: [0, 0], schedule: 'tiled', tiles: LARGE_TILES },
  { ...base, features: new Set(['shader-f16', 'subgroups']), subgroupSizes: [32, 32], schedule: 'tiled' },
  { ...base, features: new Set(['shader-f16', 'subgroups']), subgroupSizes: [8, 8], software: true, schedule: 'subgroup' },
  { ...base, features: new Set(), subgroupSizes: [0, 0], schedule: 'matrix', matrixUnit: HALVES },
  {
    ...base,
    features: new Set([MATRIX_FEATURE, 'subgroup-size-control']),
    subgroupSizes: [32, 64],
    schedule: 'matrix',
    matrixUnit: HALVES,
  },
];

/** Extensions of WGSL, and the features that they need. */
const EXTENSIONS = {
  f16: 'shader-f16',
  subgroups: 'subgroups',
  subgroup_size_control: 'subgroup-size-control',
  chromium_experimental_subgroup_matrix: MATRIX_FEATURE,
};

/** WebGPU's features that a shader needs. */
export function needsOf(wgsl: string): string[] {
  const enabled = /^enable (.*);/m.exec(wgsl)?.[1].split(', ') ?? [];
  return enabled.map((extension) => EXTENSIONS[extension as keyof typeof EXTENSIONS]);
}

let listed: readonly CatalogueShader[] | undefined;

/** Each shader once, in the order of the graphs below. */
export function allShaders(): readonly CatalogueShader[] {
  listed ??= list();
  return listed;
}

function list(): CatalogueShader[] {
  const found = new Map<string, CatalogueShader>();
  for (const facts of ADAPTERS) {
    for (const tensor of graphs()) {
      for (const { shader } of plan({ tensor }, facts, { maxStorageBufferBindingSize: 2 ** 27, minUniformBufferOffsetAlignment: 256 })
        .dispatches) {
        const wgsl = shaderSource(shader);
        const known = found.get(wgsl);
        if (known) {
          known.schedules.add(facts.schedule);
          continue;
        }
        const read = present(shader.bindings).flatMap(([, { dtype, write }]) => (write ? [] : [dtype]));
        found.set(wgsl, { name: shader.name, wgsl, needs: needsOf(wgsl), types: new Set(read), schedules: new Set([facts.schedule]) });
      }
    }
  }
  return [...found.values()];
}

/** A weight in blocks. */
function weight(shape: Shape, dtype: DType): Tensor {
  const parameter = new Parameter(shape, 'matrix');
  parameter.dtype = dtype;
  return parameter.tensor;
}

/** A layer with an adapter. */
function adapted(layer: Tensor, of: (shape: Shape) => Tensor): Tensor {
  const outs = layer.shape[layer.shape.length - 1];
  return withLowRank(layer as LayerTensor, of([...layer.shape.slice(0, -1), 8]), of([outs, 8]));
}

/** Whatever a matmul or a convolution can end in. `layer` makes one with a bias or without. */
function* epilogues(layer: (bias: boolean) => Tensor, of: (shape: Shape, dtype?: DType) => Tensor): Generator<Tensor> {
  for (const bias of [false, true]) {
    for (const activate of [(y: Tensor) => y, silu, gelu, quickGelu]) {
      yield activate(layer(bias));
      for (const residual of FLOATS) yield add(activate(layer(bias)), of(layer(bias).shape, residual));
    }
  }
}

function* graphs(): Generator<Tensor> {
  let inputs = 0;
  const of = (shape: Shape, dtype: DType = 'f32') => (isBlocks(dtype) ? weight(shape, dtype) : input(`${inputs++}`, shape, dtype));

  for (const dtype of FLOATS) {
    for (const c of CHANNELS) {
      const x = of([2, 3, 3, c], dtype);
      yield silu(x);
      yield cast(x, 'f16');
      yield depthToSpace(of([2, 3, 3, 4 * c], dtype), 2);
      yield permute(x, [1, 0, 2, 3]);
      yield layerNorm(x, of([c]), of([c]));
      yield softmax(x);
      yield sum(x);
      yield max(x);
      yield sum(x, { axis: 0 });
      yield max(x, { axis: 0 });
      for (const a of FLOATS) for (const b of FLOATS) yield where(x, of(x.shape, a), of(x.shape, b));
      yield geglu(of([3, 2 * c], dtype));
      yield gatherRows(of([3, c], dtype), of([2], 'u32'));
      for (const other of FLOATS) yield add(x, of([2, 3, 3, c], other));
      for (const groups of [1, 2, 4, 8, 5])
        if (c % groups === 0)
          yield* [(y: Tensor) => y, silu, gelu, quickGelu].map((activate) => activate(groupNorm(x, of([c]), of([c]), groups)));
    }
  }
  // A norm and its modulation, in parts so that they may be f16: groups across loads of four, of whole loads, and of what is read one by one.
  for (const dtype of FLOATS) {
    for (const raw of FLOATS) {
      for (const [c, groups] of [
        [8, 2],
        [8, 8],
        [5, 2],
      ]) {
        const parts = (type: DType) => concat([of([2, 3, c], type), of([2, 3, c], type)]);
        const normal = groupNorm(parts(dtype), of([2 * c]), of([2 * c]), groups);
        yield modulate(normal, of([2, 3, 2 * c]), of([2, 3, 2 * c]), parts(raw), 1);
      }
    }
  }
  // Matmuls and convolutions: how they read and multiply, then what they end in. The larger image is enough for Winograd's convolution.
  for (const dtype of FLOATS) {
    for (const c of CHANNELS) {
      for (const weight of [...FLOATS, ...BLOCKS]) {
        if (isBlocks(weight) && c % 4) continue;
        for (const o of CHANNELS) {
          const x = of([2, 3, 3, c], dtype);
          if (!isBlocks(weight)) {
            // w as it lies, (in, out), as for derivatives.
            const product = () => matmul(of([2, 9, c], dtype), of([2, c, o], weight));
            for (const y of [product(), add(product(), of([2, 9, o]))]) yield y;
          }
          for (const layer of [() => conv2d(x, of([o, 3, 3, c], weight)), () => linear(x, of([o, c], weight))]) {
            yield layer();
            yield adapted(layer(), of);
          }
          for (const layer of [linear(x, of([2 * o, c], weight)), adapted(linear(x, of([2 * o, c], weight)), of)]) yield geglu(layer);
        }
        const x = of([1, 64, 64, 64], dtype);
        yield conv2d(x, of([64, 3, 3, 64], weight), null, { padding: 1 });
      }
    }
  }
  // Convolutions of few outputs and of few inputs.
  for (const dtype of FLOATS) {
    const thin = (c: number, o: number) => (bias: boolean) =>
      conv2d(of([2, 5, 7, c], dtype), of([o, 2, 2, c]), bias ? of([o]) : null, { padding: 1 });
    for (const o of [2, 3]) yield thin(20, o)(true);
    for (const layer of [thin(32, 8), thin(20, 5), thin(5, 20), thin(4, 20)]) {
      if (dtype === 'f32') yield* epilogues(layer, of);
      else yield layer(true);
      for (const activate of [(y: Tensor) => y, silu, gelu, quickGelu]) yield activate(adapted(layer(true), of));
    }
  }
  for (const o of CHANNELS) {
    const [x, w] = [of([3, 8]), of([o, 8])];
    yield* epilogues((bias) => linear(x, w, bias ? of([o]) : null), of);
    for (const bias of [false, true]) {
      const gated = () => geglu(linear(x, of([2 * o, 8]), bias ? of([2 * o]) : null));
      yield gated();
      for (const residual of FLOATS) yield add(gated(), of([3, o], residual));
    }
    yield lowRankDown(linear(x, of([o, 8])) as LayerTensor, x, w, of([o]));
  }
  // A sum along k in parts, and what adds them.
  for (const o of [2900, 2902]) {
    const long = linear(of([9, 1304]), of([o, 1304]), of([o]));
    yield long;
    yield geglu(long);
  }
  const [x, w] = [of([1, 64, 64, 64]), of([64, 3, 3, 64])];
  const convolution = (bias: boolean) => conv2d(x, w, bias ? of([64]) : null, { padding: 1 });
  yield* epilogues(convolution, of);
  for (const bias of [false, true])
    for (const activate of [(y: Tensor) => y, silu, gelu, quickGelu]) yield activate(adapted(convolution(bias), of));
  yield* gradientGraphs(of, CHANNELS);
  yield* blockGradients(of);
  yield* updateGraphs(of);
  yield rankScales([{ scale: scalar('s'), factor: 1, rank: 4 }])!;
  for (const c of CHANNELS) yield modulate(of([2, c]), of([2, c]), of([2, c]), of([2, c]), 1);
  for (const c of CHANNELS) {
    yield cast(of([2, c], 'u32'), 'f32');
    yield cast(of([2, c], 'u32'), 'f16');
    yield permute(of([2, 3, c], 'u32'), [1, 0, 2]);
  }

  // The subgroup schedule has a shader for every width of heads up to 128 that is in fours, but for wide heads that are alone; the tiled one some for ranges of widths.
  for (const width of [...Array.from({ length: 32 }, (_, i) => 4 * i + 4), 132, 260, 5, 33, 65, 97, 129, 257])
    for (const q of FLOATS)
      for (const k of FLOATS)
        for (const v of FLOATS) yield attention(of([1, 2, 2 * width], q), of([1, 3, 2 * width], k), of([1, 3, 2 * width], v), 2);
  for (const q of FLOATS)
    for (const k of FLOATS) for (const v of FLOATS) yield attention(of([1, 5, 96], q), of([1, 3, 96], k), of([1, 3, 96], v), 1);
  // The cleaners' windows, and heads that are not in fours.
  for (const [heads, width, window] of [
    [6, 30, 8],
    [2, 32, 8],
    [2, 12, 4],
    [1, 5, 3],
  ])
    yield windowAttention(of([1, window, window, 3 * heads * width]), of([heads, window ** 2, window ** 2]), {
      ...{ heads, window, shift: 1, blocked: -100 },
    });
  // Of keys in parts, the autoencoder's: one wide head, f32.
  for (const width of [8, 96, 512, 5, 33]) yield attentionPart(of([1, 2, width]), of([1, 3, width]), of([1, 3, width]), 1);
  for (const c of CHANNELS) yield mergeAttention(of([1, 2, c]), of([1, 2, c]), 1);
  yield mergeMoments(of([2, 1, 3, 2]), of([2]));
}
