/**
 * What the operations on feature maps need to be computed window by window: along each axis, which range of an input a range of the result reads,
 * and the operation on a window alone. Zero padding happens only where a window touches the border of the whole image.
 */
import { ShapeError } from '../core/errors.ts';
import { inputsOf } from '../core/graph.ts';
import { apply, isOp, type OpTensor } from '../core/op.ts';
import { type Shape, sameShape } from '../core/shape.ts';
import { describe, type Tensor } from '../core/tensor.ts';
import { binaryOp } from '../kernels/binary.ts';
import { conv2dOp } from '../kernels/conv2d.ts';
import { concatOp, gatherOp, slice } from '../kernels/copy.ts';
import { depthToSpaceOp } from '../kernels/depth-to-space.ts';
import { groupNormOp, normalizeGroups } from '../kernels/group-norm.ts';
import { layerNormOp } from '../kernels/layer-norm.ts';
import { linearOp } from '../kernels/linear.ts';
import { unaryOp } from '../kernels/unary.ts';
import { windowAttentionOp } from '../kernels/window-attention.ts';
import type { Range } from './feature-map.ts';

/** Rows or columns. */
export type Axis = 1 | 2;

/** What an operation reads along one axis. */
export interface Span extends Range {
  /** How much of the zero padding at both ends belongs to it. */
  before: number;
  after: number;
  /** Of copies: where the result's range begins, in its own steps, seen from what is read; of coarse operations: seen from what they make of it. */
  shift: number;
}

/** The span start..end of an axis of `length`, of which the part outside is padding. */
function clip(start: number, end: number, length: number): Span {
  return { start: Math.max(start, 0), end: Math.min(end, length), before: Math.max(-start, 0), after: Math.max(end - length, 0), shift: 0 };
}

/** What a convolution reads of x. */
function convolved(tensor: OpTensor<unknown>, axis: Axis, { start, end }: Range): Span | null {
  if (!isOp(tensor, conv2dOp)) return null;
  const { inputs, attrs } = tensor.source;
  const before = attrs.padding[axis === 1 ? 0 : 2];
  return clip(start * attrs.stride - before, (end - 1) * attrs.stride - before + inputs.w.shape[axis], inputs.x.shape[axis]);
}

/** What copies read that keep each axis in its place: slices, padding, upsampling. */
function gathered(tensor: OpTensor<unknown>, axis: Axis, { start, end }: Range): Span | null {
  if (!isOp(tensor, gatherOp)) return null;
  const { inputs, attrs } = tensor.source;
  if (attrs.axes.length !== 4 || attrs.axes.some(({ from }, i) => from !== i)) return null;
  const { before, repeat } = attrs.axes[axis];
  const span = clip(Math.floor((start - before) / repeat), Math.floor((end - 1 - before) / repeat) + 1, inputs.x.shape[axis]);
  return { ...span, shift: before - start + span.start * repeat };
}

/** What operations on whole squares of pixels read: more than the range, for squares do not end where it does. */
function coarse(tensor: OpTensor<unknown>, axis: Axis, { start, end }: Range): Record<string, Span> | null {
  if (isOp(tensor, depthToSpaceOp)) {
    const { r } = tensor.source.attrs;
    const [first, last] = [Math.floor(start / r), Math.ceil(end / r)];
    return { x: { start: first, end: last, before: 0, after: 0, shift: start - r * first } };
  }
  if (!isOp(tensor, windowAttentionOp)) return null;
  // A tile is a map of its own whose windows are shifted within it, so that the outermost ones are wrong where the map goes on: there it reads one more.
  // At the map's border a shifted window joins pixels of opposite borders, which do not see each other: it may as well join those of the tile.
  const { window, shift } = tensor.source.attrs;
  const first = Math.max(0, Math.floor((start - shift) / window) * window);
  const last = Math.ceil((end - shift) / window) * window + (shift > 0 ? window : 0);
  return { qkv: { start: first, end: Math.min(last, tensor.shape[axis]), before: 0, after: 0, shift: start - first } };
}

/** Whether it has one value for each channel, which every pixel shares. */
const isOfChannels = ({ shape }: Tensor, [, , , channels]: Shape) => shape.length === 1 && shape[0] === channels;

function isPointwise(tensor: OpTensor<unknown>): boolean {
  if (isOp(tensor, unaryOp) || isOp(tensor, groupNormOp) || isOp(tensor, layerNormOp)) return true;
  if (isOp(tensor, linearOp)) return !tensor.source.attrs.batched;
  if (isOp(tensor, concatOp)) return tensor.source.attrs.axis === 3;
  return (
    isOp(tensor, binaryOp) && inputsOf(tensor).every((each) => sameShape(each.shape, tensor.shape) || isOfChannels(each, tensor.shape))
  );
}

/**
 * What a range of `tensor` along an axis reads of each input that is a feature map, by the input's name; the others are weights. Throws ShapeError
 * for an operation that is not computed window by window.
 */
export function readSpans(tensor: OpTensor<unknown>, axis: Axis, range: Range): Record<string, Span> {
  const x = convolved(tensor, axis, range) ?? gathered(tensor, axis, range);
  if (x) return { x };
  const larger = coarse(tensor, axis, range);
  if (larger) return larger;
  if (!isPointwise(tensor))
    throw new ShapeError(`${describe(tensor)} cannot be computed in tiles; only operations on whole pixels of (N, H, W, C) can.`);
  const same = { ...range, before: 0, after: 0, shift: 0 };
  return Object.fromEntries(
    Object.entries(tensor.source.inputs).flatMap(([name, from]) => (from?.shape.length === 4 ? [[name, same]] : [])),
  );
}

/** A range of an operation's result, and what it reads of the inputs. */
export interface RangeReads {
  range: Range;
  reads: Record<string, Span>;
}

/**
 * A window of `tensor`; `windowOf` gives the window of an input that it reads, and a norm takes its group moments (N, groups, 2) from outside.
 */
export function onWindow(
  tensor: OpTensor<unknown>,
  { down, across }: { down: RangeReads; across: RangeReads },
  windowOf: (from: Tensor, name: string) => Tensor,
  moments: () => Tensor,
): Tensor {
  if (isOp(tensor, groupNormOp)) {
    const { x, gamma, beta } = tensor.source.inputs;
    return normalizeGroups(windowOf(x, 'x'), moments(), gamma, beta, tensor.source.attrs.eps);
  }
  const inputs = Object.fromEntries(
    Object.entries(tensor.source.inputs).map(([name, from]) => [name, from && name in down.reads ? windowOf(from, name) : from]),
  );
  const result = apply(tensor.source.op, inputs, attrsOnWindow(tensor, down, across));
  if (!isOp(tensor, depthToSpaceOp) && !isOp(tensor, windowAttentionOp)) return result;
  return ([down, across] as const).reduce((part, { range, reads }, i) => {
    const [{ shift }] = Object.values(reads);
    const length = range.end - range.start;
    return shift === 0 && part.shape[i + 1] === length ? part : slice(part, i + 1, shift, shift + length);
  }, result);
}

function attrsOnWindow(tensor: OpTensor<unknown>, down: RangeReads, across: RangeReads): unknown {
  const [y, x] = [down.reads.x, across.reads.x];
  if (isOp(tensor, conv2dOp)) return { ...tensor.source.attrs, padding: [y.before, y.after, x.before, x.after] };
  if (!isOp(tensor, gatherOp)) return tensor.source.attrs;
  const [images, rows, columns, channels] = tensor.source.attrs.axes;
  const along = (axis: typeof rows, { start, end }: Range, { shift }: Span) => ({ ...axis, size: end - start, before: shift });
  return { ...tensor.source.attrs, axes: [images, along(rows, down.range, y), along(columns, across.range, x), channels] };
}
