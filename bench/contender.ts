/** What takes part in the benchmark: a library that can prepare a case and then run it again and again. */
import type { Case } from './cases.ts';

export interface Runner {
  /** Computes once, to the end, and leaves the result on the GPU. */
  run(): Promise<unknown>;
  /** Computes once and reads the result back, row-major with channels last. */
  result(): Promise<Float32Array>;
}

export interface Contender {
  name: string;
  /** Puts the inputs on the GPU. */
  prepare(c: Case): Promise<Runner>;
}

/** (rows, columns) -> (columns, rows): between channels last and channels first. */
export function turn(values: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) turned[c * rows + r] = values[r * columns + c];
  return turned;
}
