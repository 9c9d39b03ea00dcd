/** Values of a stored tensor a window at a time, whatever their dtype, so that tensors of any size are converted and compared in little memory. */
import { BLOCK, dequantise, suitsBlocks } from '../core/blocks.ts';
import { checkpointOrder } from '../core/stored-order.ts';
import { blockKind } from './block-entries.ts';
import { blocksOf, byteLength, decode, isStoredBlocks, type NumberArray } from './dtype.ts';
import { elementCount, type TensorFile } from './tensor-file.ts';

/** Elements of a window, about. */
export const WINDOW = 2 ** 22;

export interface ValueWindow {
  /** Number of the first element, in the checkpoint's order. */
  first: number;
  /** Of the window; one axis where it is not of whole rows. */
  shape: number[];
  values: NumberArray;
}

/** All of a tensor. What is or may become blocks comes in whole rows, a multiple of 32 of them. */
export async function* valueWindows(file: TensorFile, name: string): AsyncGenerator<ValueWindow> {
  const { dtype, shape } = file.info(name);
  const count = elementCount(shape);
  const inRows = (shape.length === 2 || shape.length === 4) && suitsBlocks(shape);
  const rows = inRows ? shape[0] : count;
  const row = count / rows;
  const step = Math.max(1, Math.floor(WINDOW / BLOCK / row)) * BLOCK;
  for (let at = 0; at < rows; at += step) {
    const [first, length] = [at * row, Math.min(step, rows - at) * row];
    const from = byteLength(dtype, first);
    const bytes = await file.bytes(name, from, byteLength(dtype, first + length) - from);
    const window = inRows ? [length / row, ...shape.slice(1)] : [length];
    const values = isStoredBlocks(dtype)
      ? checkpointOrder(dequantise(blocksOf(dtype), bytes, length), { shape: window, kind: blockKind(shape) })
      : decode(dtype, bytes);
    yield { first, shape: window, values };
  }
}
