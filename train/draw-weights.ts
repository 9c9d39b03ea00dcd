/** Weights for a network that begins untrained. */
import { named, type Parameter, parameters } from '../core/module.ts';
import { TorchRandom } from '../core/random.ts';
import { sizeOf } from '../core/tensor.ts';

/** Weights that a training changes: each with its values in the checkpoint's order, in f32. */
export interface TrainableWeights {
  weights: Parameter[];
  values: Float32Array[];
}

/**
 * Names every weight below `root` by its path and gives it values, f32 on the GPU: matrices, convolutions and tables normal numbers with variance 1 / (inputs of a
 * unit), so that inputs keep their spread (Glorot & Bengio 2010, by the inputs alone); vectors 0 where they are called bias, else 1. A seed gives the same
 * ones everywhere. Call it before the network is traced: a graph keeps the dtype that a weight had then. The network computes with these arrays: what a training changes in them is what is read next.
 */
export function drawWeights(root: object, seed: number): TrainableWeights {
  const random = new TorchRandom(seed);
  const weights = [...parameters(named(root, ''))].map(([, parameter]) => parameter);
  const values = weights.map(({ name, shape, kind }) => {
    const size = sizeOf(shape);
    if (kind === 'vector') return new Float32Array(size).fill(/(^|\.)bias$/.test(name) ? 0 : 1);
    const inputs = kind === 'transposed' ? shape[0] : sizeOf(shape.slice(1));
    return random.randn(size).map((value) => value / Math.sqrt(inputs));
  });
  for (const [n, weight] of weights.entries()) {
    const columns = sizeOf(weight.shape.slice(1));
    weight.dtype = 'f32';
    weight.source = {
      read: async () => values[n],
      readRows: async (rows) => Float32Array.from(rows.flatMap((row) => [...values[n].subarray(row * columns, (row + 1) * columns)])),
    };
  }
  return { weights, values };
}
