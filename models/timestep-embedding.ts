/**
 * Sinusoidal embeddings of numbers (timesteps, image sizes): Vaswani et al. 2017, sec. 3.5, with the cosines first.
 * Computed on the host, with the angles rounded to f32 as PyTorch rounds them: at arguments near 1000 that is what decides the fourth digit.
 */

const MAX_PERIOD = 10000;

/** Each of n values -> cosines, then sines, of value * 10000^(-i / half), half = floor(dim / 2); an odd dim ends in 0. f32 (n, dim). */
export function timestepEmbedding(values: ArrayLike<number>, dim: number): Float32Array<ArrayBuffer> {
  const half = Math.floor(dim / 2);
  const out = new Float32Array(values.length * dim);
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(Math.exp(Math.fround(Math.fround(-Math.log(MAX_PERIOD) * i) / half)));
    for (let n = 0; n < values.length; n++) {
      const angle = Math.fround(Math.fround(values[n]) * frequency);
      out[n * dim + i] = Math.cos(angle);
      out[n * dim + half + i] = Math.sin(angle);
    }
  }
  return out;
}

/** Rows of k numbers each (original size, crop, target size), every number embedded on its own: f32 (rows, k * dim), which is (rows * k, dim) read in rows. */
export function sizeEmbedding(rows: readonly (readonly number[])[], dim: number): Float32Array<ArrayBuffer> {
  return timestepEmbedding(rows.flat(), dim);
}
