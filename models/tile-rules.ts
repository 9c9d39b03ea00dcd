/**
 * What the operations on feature maps need to be computed window by window: which window of an input a window of the result reads, and the
 * operation on these windows alone. Zero padding happens only where a window touches the border of the whole image.
 */
import { ShapeError } from '../core/errors.ts';
import { inputsOf } from '../core/graph.ts';
import { apply, isOp, type OpTensor } from '../core/op.ts';
import { describe, sameShape, type Tensor } from '../core/tensor.ts';
import { attentionOp } from '../kernels/attention.ts';
import { binaryOp } from '../kernels/binary.ts';
import { conv2dOp } from '../kernels/conv2d.ts';
import { concatOp, gatherOp } from '../kernels/copy.ts';
import { groupNormOp, normalizeGroups } from '../kernels/group-norm.ts';
import { unaryOp } from '../kernels/unary.ts';
import { type Window, wholeOf } from './feature-map.ts';

/** Along one axis: what is read, and how much of the zero padding belongs to it. */
interface Span {
  start: number;
  end: number;
  before: number;
  after: number;
}

/** The span start..end of an axis of `length`, of which the part outside is padding. */
function clip(start: number, end: number, length: number): Span {
  return {
    start: Math.max(start, 0),
    end: Math.min(end, length),
    before: Math.max(-start, 0),
    after: Math.max(end - length, 0),
  };
}

/** Rows and columns of x that a convolution reads for a window of its result. */
function convolved(tensor: Tensor, { y0, y1, x0, x1 }: Window): { rows: Span; columns: Span } | null {
  if (!isOp(tensor, conv2dOp)) return null;
  const { inputs, attrs } = tensor.source;
  const [, h, w] = inputs.x.shape;
  const [, kh, kw] = inputs.w.shape;
  const span = (from: number, to: number, before: number, size: number, length: number) =>
    clip(from * attrs.stride - before, (to - 1) * attrs.stride - before + size, length);
  return { rows: span(y0, y1, attrs.padding[0], kh, h), columns: span(x0, x1, attrs.padding[2], kw, w) };
}

/** Copies that keep each axis in its place: slices, padding, upsampling. */
function gathered(tensor: Tensor, { y0, y1, x0, x1 }: Window): { rows: Span; columns: Span } | null {
  if (!isOp(tensor, gatherOp)) return null;
  const { inputs, attrs } = tensor.source;
  if (attrs.axes.length !== 4 || attrs.axes.some(({ from }, axis) => from !== axis)) return null;
  const span = (axis: number, from: number, to: number) => {
    const { before, repeat } = attrs.axes[axis];
    return clip(Math.floor((from - before) / repeat), Math.floor((to - 1 - before) / repeat) + 1, inputs.x.shape[axis]);
  };
  return { rows: span(1, y0, y1), columns: span(2, x0, x1) };
}

function isPointwise(tensor: OpTensor<unknown>): boolean {
  if (isOp(tensor, unaryOp) || isOp(tensor, groupNormOp)) return true;
  if (isOp(tensor, concatOp)) return tensor.source.attrs.axis === 3;
  return isOp(tensor, binaryOp) && inputsOf(tensor).every(({ shape }) => sameShape(shape, tensor.shape));
}

/**
 * The window of each input, by its name, that a window of `tensor` reads; none for an input that is no feature map (a weight).
 * Throws ShapeError for an operation that is not computed window by window.
 */
export function readWindows(tensor: OpTensor<unknown>, window: Window): Record<string, Window> {
  const spans = convolved(tensor, window) ?? gathered(tensor, window);
  if (spans) {
    const { rows, columns } = spans;
    return { x: { y0: rows.start, y1: rows.end, x0: columns.start, x1: columns.end } };
  }
  if (isOp(tensor, attentionOp)) {
    const { k, v } = tensor.source.inputs;
    return { q: window, k: wholeOf(k.shape), v: wholeOf(v.shape) };
  }
  if (isPointwise(tensor)) {
    const maps = Object.entries(tensor.source.inputs).filter(([, input]) => input?.shape.length === 4);
    return Object.fromEntries(maps.map(([name]) => [name, window]));
  }
  throw new ShapeError(`${describe(tensor)} cannot be computed in tiles; only operations on whole pixels of (N, H, W, C) can.`);
}

/**
 * A window of `tensor`: `part` gives the window of an input that readWindows names; a norm takes its group moments (N, groups, 2) from outside.
 */
export function onWindow(
  tensor: OpTensor<unknown>,
  window: Window,
  part: (input: Tensor, read: Window) => Tensor,
  moments: () => Tensor,
): Tensor {
  const reads = readWindows(tensor, window);
  const inputs = Object.fromEntries(
    Object.entries(tensor.source.inputs).map(([name, input]) => [name, input && name in reads ? part(input, reads[name]) : input]),
  );
  if (isOp(tensor, groupNormOp)) {
    const { x, gamma, beta } = inputs as typeof tensor.source.inputs;
    return normalizeGroups(x, moments(), gamma, beta, tensor.source.attrs.eps);
  }
  const convolution = convolved(tensor, window);
  if (convolution && isOp(tensor, conv2dOp)) {
    const { rows, columns } = convolution;
    return apply(conv2dOp, inputs as typeof tensor.source.inputs, {
      ...tensor.source.attrs,
      padding: [rows.before, rows.after, columns.before, columns.after],
    });
  }
  const copy = gathered(tensor, window);
  if (copy && isOp(tensor, gatherOp)) {
    const { attrs } = tensor.source;
    const [all, rows, columns, channels] = attrs.axes;
    const along = (axis: typeof rows, from: number, to: number, read: number) => ({
      ...axis,
      size: to - from,
      before: axis.before - from + read * axis.repeat,
    });
    const { y0, y1, x0, x1 } = window;
    const axes = [all, along(rows, y0, y1, copy.rows.start), along(columns, x0, x1, copy.columns.start), channels];
    return apply(gatherOp, inputs as typeof tensor.source.inputs, { ...attrs, axes });
  }
  return apply(tensor.source.op, inputs, tensor.source.attrs);
}
