/**
 * part: consecutive elements of a tensor under a shape of their own, seen where they lie. A kernel with several results writes them one after the other.
 * together: the reverse, tensors one after the other in a tensor. What nothing else reads is computed in its place there (core/plan.ts).
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op, type OpTensor } from '../core/op.ts';
import { describe, type Shape, showShape, sizeOf, type Tensor } from '../core/tensor.ts';
import { lowerInto } from './copy.ts';
import { lowerFill } from './fill.ts';

/** What a part's first element is a multiple of: adapters bind buffers from every 256th byte on. */
const ALIGNED = 64;

/** Where a part may begin behind one of so many elements. */
export const placeBehind = (size: number): number => ALIGNED * Math.ceil(size / ALIGNED);

/** The elements of x, f32, from `first` on, as a tensor of a shape. No data moves. Throws ShapeError. */
export function part(x: Tensor, first: number, shape: Shape): Tensor {
  if (first % ALIGNED || first + sizeOf(shape) > x.size || x.dtype !== 'f32')
    throw new ShapeError(`part: ${showShape(shape)} from ${first} on is no part of ${describe(x)}.`);
  return apply(partOp, { x }, { first, shape });
}

export const partOp: Op<{ first: number; shape: Shape }, { x: Tensor }> = {
  name: 'part',
  infer: (_inputs, { shape }) => ({ shape, dtype: 'f32' }),
  begins: ({ first }) => 4 * first,
  gradient: ({ source: { inputs, attrs } }, upstream) => ({ x: together([{ first: attrs.first, x: upstream }], inputs.x.shape) }),
};

/** A tensor and its first element among others. */
export interface Placed {
  first: number;
  x: Tensor;
}

interface TogetherAttrs {
  /** Of each part, in order of the inputs. */
  places: readonly { first: number; size: number }[];
  shape: Shape;
}

/** A part that lies in its place already is null when it comes to lowering. */
type Parts = { readonly [part: string]: Tensor | null };

/** A tensor of a shape, f32, that has the elements of each x from its `first` on, and zeros between. x f32 | f16. Throws ShapeError where parts overlap. */
export function together(parts: readonly Placed[], shape: Shape): Tensor {
  if (!areApart(parts, sizeOf(shape)) || parts.some(({ first }) => first % ALIGNED))
    throw new ShapeError(
      `together: ${parts.map(({ first, x }) => `${describe(x)} from ${first} on`).join(', ')} are no parts of ${showShape(shape)}.`,
    );
  const places = parts.map(({ first, x }) => ({ first, size: x.size }));
  return apply(togetherOp, Object.fromEntries(parts.map(({ x }, i) => [`part${i}`, x])), { places, shape });
}

/** Whether no two parts have an element in common, and all lie among so many. */
export function areApart(parts: readonly Placed[], size = Number.POSITIVE_INFINITY): boolean {
  let end = 0;
  return byPlace(parts).every(({ first, x }) => {
    const follows = first >= end;
    end = first + x.size;
    return follows && end <= size;
  });
}

/** What a tensor that `together` made is made of. */
export function partsOf({ source: { inputs, attrs } }: OpTensor<TogetherAttrs, Parts>): Placed[] {
  return Object.values(inputs).map((x, i) => ({ first: attrs.places[i].first, x: x! }));
}

const byPlace = <P extends { first: number }>(parts: readonly P[]): P[] => [...parts].sort((a, b) => a.first - b.first);

export const togetherOp: Op<TogetherAttrs, Parts> = {
  name: 'together',
  infer: (_parts, { shape }) => ({ shape, dtype: 'f32' }),
  holds: ({ places }) => places.map(({ first }) => 4 * first),

  lower(parts, output, { places, shape }, to) {
    Object.values(parts).forEach((x, i) => {
      if (x) lowerInto(to, x, output, places[i].first);
    });
    let end = 0;
    for (const { first, size } of byPlace([...places, { first: sizeOf(shape), size: 0 }])) {
      if (first > end) lowerFill(to, output, end, first - end, 0);
      end = first + size;
    }
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const entries = Object.entries(inputs).map(([name, x], i) => [name, part(upstream, attrs.places[i].first, x!.shape)] as const);
    return Object.fromEntries(entries);
  },
};
