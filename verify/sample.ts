/** Seeded operands of kernel tests: the graph's tensor, and the same values in f64 for the reference. */
import { decodeF16, encodeF16 } from '../core/half.ts';
import { TorchRandom } from '../core/random.ts';
import { constant, sizeOf, type Tensor } from '../core/tensor.ts';

/** A dense row-major array in f64. */
export interface Values {
  shape: readonly number[];
  data: Float64Array;
}

export interface Sample extends Values {
  tensor: Tensor;
}

interface Spread {
  dtype?: 'f32' | 'f16';
  mean?: number;
  std?: number;
}

/** A source of normal samples. f16 samples are rounded first, so that device and reference compute with the same numbers. */
export function sampler(seed: number): (shape: readonly number[], spread?: Spread) => Sample {
  const random = new TorchRandom(seed);
  return (shape, { dtype = 'f32', mean = 0, std = 1 } = {}) => {
    const drawn = random.randn(sizeOf(shape)).map((value) => value * std + mean);
    return sampleOf(drawn, shape, dtype);
  };
}

/** A sample of given values. */
export function sampleOf(values: ArrayLike<number>, shape: readonly number[], dtype: 'f32' | 'f16' = 'f32'): Sample {
  const bits = dtype === 'f16' ? encodeF16(values) : null;
  const data = bits ? decodeF16(bits) : Float32Array.from(values);
  return { tensor: constant(bits ?? data, shape), shape, data: Float64Array.from(data) };
}
