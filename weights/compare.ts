/** How far the weights of one file are from those of another, such as an original and its form of 4 bits: an error for every tensor. */
import { isFloat } from './dtype.ts';
import type { TensorFile } from './tensor-file.ts';
import { valueWindows } from './value-windows.ts';

export interface TensorError {
  name: string;
  shape: readonly number[];
  /** Dtypes in the first and the second file. */
  dtypes: [string, string];
  /** 2-norm of the difference over that of the first file's tensor; infinite where the first is all zero and the second is not. */
  relative: number;
  /** Largest difference of an element. */
  max: number;
}

export interface WeightComparison {
  /** Of every tensor of real numbers that both files have in one shape, the worst first. */
  tensors: TensorError[];
  /** As `relative`, over all of them. */
  relative: number;
  /** Names in one of the files only, and of tensors whose shapes differ. */
  onlyFirst: string[];
  onlySecond: string[];
  otherShapes: string[];
}

/** Compares by name; `onTensor` is told how many of them are done. Values that are not finite make an error NaN, which is the worst. */
export async function compareWeights(
  first: TensorFile,
  second: TensorFile,
  onTensor: (done: number, of: number) => void = () => {},
): Promise<WeightComparison> {
  const shared = first.names().filter((name) => second.has(name));
  const isSame = (name: string) => String(first.info(name).shape) === String(second.info(name).shape);
  const names = shared.filter((name) => isSame(name) && isFloat(first.info(name).dtype) && isFloat(second.info(name).dtype));
  const tensors: TensorError[] = [];
  let [difference, size] = [0, 0];
  for (const [i, name] of names.entries()) {
    const sums = await tensorSums(first, second, name);
    difference += sums.difference;
    size += sums.size;
    const dtypes: [string, string] = [first.info(name).dtype, second.info(name).dtype];
    tensors.push({ name, shape: first.info(name).shape, dtypes, relative: ratio(sums.difference, sums.size), max: sums.max });
    onTensor(i + 1, names.length);
  }
  return {
    tensors: tensors.sort((a, b) => (Number.isNaN(b.relative) ? 1 : Number.isNaN(a.relative) ? -1 : b.relative - a.relative)),
    relative: ratio(difference, size),
    onlyFirst: first.names().filter((name) => !second.has(name)),
    onlySecond: second.names().filter((name) => !first.has(name)),
    otherShapes: shared.filter((name) => !isSame(name)),
  };
}

const ratio = (difference: number, size: number): number => (difference === 0 ? 0 : Math.sqrt(difference / size));

/** Squares of the difference and of the first tensor, summed, and the largest difference. */
async function tensorSums(first: TensorFile, second: TensorFile, name: string) {
  let [difference, size, max] = [0, 0, 0];
  const others = valueWindows(second, name);
  for await (const { values } of valueWindows(first, name)) {
    const other = (await others.next()).value!.values;
    for (let i = 0; i < values.length; i++) {
      const off = Math.abs(other[i] - values[i]);
      difference += off * off;
      size += values[i] * values[i];
      if (!(off <= max)) max = off;
    }
  }
  return { difference, size, max };
}
