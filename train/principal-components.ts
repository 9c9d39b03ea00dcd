/** Principal components of vectors: the directions in which they vary most. (Pearson 1901; eigenvectors by Jacobi's rotations, 1846) */

export interface Components {
  /** The vectors' mean, (size). */
  mean: Float64Array;
  /** (size, size): a direction a row, of length 1, that of the largest variance first. */
  vectors: Float64Array;
  /** (size), along each direction, falling. */
  variances: Float64Array;
}

/** Of `data` (count, size). */
export function principalComponents(data: Float32Array, size: number): Components {
  const count = data.length / size;
  const mean = new Float64Array(size);
  for (let i = 0; i < data.length; i++) mean[i % size] += data[i] / count;
  const covariance = new Float64Array(size * size);
  const centered = new Float64Array(size);
  for (let row = 0; row < data.length; row += size) {
    for (let i = 0; i < size; i++) centered[i] = data[row + i] - mean[i];
    for (let i = 0; i < size; i++) for (let j = 0; j <= i; j++) covariance[i * size + j] += (centered[i] * centered[j]) / count;
  }
  for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) covariance[j * size + i] = covariance[i * size + j];
  const vectors = eigenvectors(covariance, size);
  const order = Array.from({ length: size }, (_, i) => i).sort((a, b) => covariance[b * size + b] - covariance[a * size + a]);
  return {
    mean,
    vectors: Float64Array.from({ length: size * size }, (_, at) => vectors[order[Math.floor(at / size)] * size + (at % size)]),
    variances: Float64Array.from(order, (i) => covariance[i * size + i]),
  };
}

/** Rotates the symmetric `matrix` (size, size) in place until only its diagonal is left. -> the rotations' product, an eigenvector a row. */
function eigenvectors(matrix: Float64Array, size: number): Float64Array {
  const vectors = Float64Array.from({ length: size * size }, (_, at) => (at % (size + 1) === 0 ? 1 : 0));
  const rotate = (values: Float64Array, i: number, j: number, stride: number, cos: number, sin: number) => {
    for (let k = 0; k < size; k++) {
      const [a, b] = [i * (stride === 1 ? size : 1) + k * stride, j * (stride === 1 ? size : 1) + k * stride];
      const [x, y] = [values[a], values[b]];
      values[a] = cos * x - sin * y;
      values[b] = sin * x + cos * y;
    }
  };
  for (let sweep = 0; sweep < 30; sweep++) {
    let rest = 0;
    for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) rest += matrix[i * size + j] ** 2;
    if (rest === 0) break;
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < i; j++) {
        const off = matrix[i * size + j];
        if (off === 0) continue;
        const angle = 0.5 * Math.atan2(2 * off, matrix[j * size + j] - matrix[i * size + i]);
        const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
        rotate(matrix, i, j, 1, cos, sin);
        rotate(matrix, i, j, size, cos, sin);
        rotate(vectors, i, j, 1, cos, sin);
      }
    }
  }
  return vectors;
}
