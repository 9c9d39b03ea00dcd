/**
 * copy: y[o] = x[i(o)] with i_d = (o_d - before_d) / repeat_d along up to four axes, zero where i_d falls outside x. This one kernel moves
 * data for permute, slice, pad, nearest upsampling and concatenation; reshape is a view and moves nothing.
 * x f32 | f16; y f32.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Lowering, type Op, type Operand } from '../core/op.ts';
import { type DType, elementType, remembered, shader } from '../core/shader.ts';
import { describe, sizeOf, type Tensor } from '../core/tensor.ts';
import { numbered, runAlong } from './axes.ts';
import { reshape } from './reshape.ts';
import { sumAxis } from './sum-axis.ts';

/** Axis i of the result is axis order[i] of x. Up to 4 axes. */
export function permute(x: Tensor, order: number[]): Tensor {
  const rank = x.shape.length;
  if (order.length !== rank || new Set(order).size !== rank || order.some((axis) => !(axis >= 0 && axis < rank))) {
    throw new ShapeError(`permute: (${order.join(', ')}) is not an order of the axes of ${describe(x)}.`);
  }
  return apply(
    gatherOp,
    { x },
    {
      name: 'permute',
      axes: order.map((from) => ({ from, size: x.shape[from], before: 0, repeat: 1 })),
    },
  );
}

/** Elements start <= i < end along an axis (negative axes count from the last). */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const at = axis < 0 ? axis + x.shape.length : axis;
  if (!(start >= 0 && end > start && end <= x.shape[at]))
    throw new ShapeError(`slice: [${start}, ${end}) is not inside axis ${axis} of ${describe(x)}.`);
  return apply(
    gatherOp,
    { x },
    {
      name: 'slice',
      axes: x.shape.map((size, from) =>
        from === at ? { from, size: end - start, before: -start, repeat: 1 } : { from, size, before: 0, repeat: 1 },
      ),
    },
  );
}

/** Zeros around x: [before, after] for every axis. */
export function pad(x: Tensor, amounts: [number, number][]): Tensor {
  if (amounts.length !== x.shape.length || amounts.flat().some((n) => !(Number.isInteger(n) && n >= 0))) {
    throw new ShapeError(`pad: needs two non-negative integers for each axis of ${describe(x)}.`);
  }
  return apply(
    gatherOp,
    { x },
    {
      name: 'pad',
      axes: x.shape.map((size, from) => ({ from, size: amounts[from][0] + size + amounts[from][1], before: amounts[from][0], repeat: 1 })),
    },
  );
}

/** Each pixel of x (N, H, W, C) repeated factor x factor times. -> (N, factor H, factor W, C) */
export function upsampleNearest(x: Tensor, factor: number): Tensor {
  if (x.shape.length !== 4) throw new ShapeError(`upsampleNearest: x must be (N, H, W, C), not ${describe(x)}.`);
  if (!(Number.isInteger(factor) && factor > 0))
    throw new ShapeError(`upsampleNearest: the factor must be a positive integer, not ${factor}.`);
  return apply(
    gatherOp,
    { x },
    {
      name: 'upsampleNearest',
      axes: x.shape.map((size, from) => ({
        from,
        size: from === 1 || from === 2 ? size * factor : size,
        before: 0,
        repeat: from === 1 || from === 2 ? factor : 1,
      })),
    },
  );
}

/** Each element along an axis (negative axes count from the last) `times` times in a row. */
export function repeat(x: Tensor, axis: number, times: number): Tensor {
  const at = axis < 0 ? axis + x.shape.length : axis;
  if (!(at in x.shape) || !(Number.isInteger(times) && times > 0))
    throw new ShapeError(`repeat: axis ${axis} of ${describe(x)} cannot be repeated ${times} times.`);
  return apply(
    gatherOp,
    { x },
    {
      name: 'repeat',
      axes: x.shape.map((size, from) => ({ from, size: from === at ? size * times : size, before: 0, repeat: from === at ? times : 1 })),
    },
  );
}

interface OutAxis {
  /** The axis of x that this axis of the result walks along. */
  from: number;
  size: number;
  before: number;
  repeat: number;
}

interface GatherAttrs {
  name: string;
  axes: OutAxis[];
}

export const gatherOp: Op<GatherAttrs, { x: Tensor }> = {
  name: 'copy',
  integers: true,

  infer({ x }, { name, axes }) {
    if (axes.length > 4) throw new ShapeError(`${name}: at most four axes, not ${describe(x)}.`);
    return { shape: axes.map((axis) => axis.size), dtype: 'f32' };
  },

  lower({ x }, output, { axes }, to) {
    const strides = x.shape.map((_, i) => sizeOf(x.shape.slice(i + 1)));
    lowerCopy(
      to,
      x,
      output,
      0,
      axes.map(({ from, size, before, repeat }, i) => ({
        size,
        limit: x.shape[from],
        before,
        repeat,
        inStride: strides[from],
        outStride: sizeOf(output.shape.slice(i + 1)),
      })),
    );
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    const { x } = inputs;
    // Repeated elements first become one again, then everything goes back to where it came from.
    const once = attrs.axes.reduce((g, axis, i) => (axis.repeat === 1 ? g : sumRuns(g, i, axis.repeat)), upstream);
    const axes = x.shape.map((size, from) => {
      const i = attrs.axes.findIndex((axis) => axis.from === from);
      return { from: i, size, before: -attrs.axes[i].before / attrs.axes[i].repeat, repeat: 1 };
    });
    const moved = axes.some(({ from, before, size }, i) => from !== i || before !== 0 || size !== once.shape[i]);
    return { x: moved ? apply(gatherOp, { x: once }, { name: attrs.name, axes }) : once };
  },
};

/** Sums each run of `length` elements along an axis. */
function sumRuns(g: Tensor, axis: number, length: number): Tensor {
  const before = sizeOf(g.shape.slice(0, axis));
  const after = sizeOf(g.shape.slice(axis + 1));
  const size = g.shape[axis] / length;
  return reshape(sumAxis(reshape(g, [before * size, length, after]), 1), g.shape.with(axis, size));
}

/** Tensors concatenated along an axis (default the last, channels). All other axes agree. Throws ShapeError. */
export function concat(tensors: Tensor[], axis = -1): Tensor {
  if (tensors.length === 1) return tensors[0];
  const parts = Object.fromEntries(tensors.map((tensor, i) => [`part${i}`, tensor]));
  return apply(concatOp, parts, { axis: axis < 0 ? axis + tensors[0].shape.length : axis });
}

export const concatOp: Op<{ axis: number }, { readonly [part: string]: Tensor }> = {
  name: 'concat',
  integers: true,

  infer(parts, { axis }) {
    const inputs = Object.values(parts);
    const [first, ...rest] = inputs;
    if (!(axis in first.shape)) throw new ShapeError(`concat: ${describe(first)} has no axis ${axis}.`);
    for (const other of rest) {
      const same = other.shape.length === first.shape.length && other.shape.every((size, i) => i === axis || size === first.shape[i]);
      if (!same) throw new ShapeError(`concat along axis ${axis}: ${describe(first)} and ${describe(other)} differ in another axis.`);
    }
    return { shape: first.shape.map((size, i) => (i === axis ? inputs.reduce((sum, x) => sum + x.shape[i], 0) : size)), dtype: 'f32' };
  },

  joins: ({ source: { inputs, attrs }, shape }) =>
    attrs.axis === shape.length - 1 && Object.values(inputs).every(({ dtype }) => dtype === 'f32' || dtype === 'f16'),

  lower(parts, output, { axis }, to) {
    // Everything before the axis is one outer walk, the axis and everything behind it one dense run.
    const run = sizeOf(output.shape.slice(axis));
    let start = 0;
    for (const x of Object.values(parts)) {
      const inner = sizeOf(x.shape.slice(axis));
      const outer = sizeOf(x.shape) / inner;
      lowerCopy(to, x, output, start, [
        { size: outer, limit: outer, before: 0, repeat: 1, inStride: inner, outStride: run },
        { size: inner, limit: inner, before: 0, repeat: 1, inStride: 1, outStride: 1 },
      ]);
      start += inner;
    }
  },

  gradient({ source: { inputs, attrs } }, upstream) {
    let start = 0;
    const part = (x: Tensor) => slice(upstream, attrs.axis, start, (start += x.shape[attrs.axis]));
    return Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, part(x)]));
  },
};

/** x (N, rows, columns) -> y (N, columns, rows). */
export function lowerTranspose(to: Lowering, x: Operand, y: Operand): void {
  const [n, rows, columns] = x.shape;
  const axis = (size: number, inStride: number, outStride: number) => ({ size, limit: size, before: 0, repeat: 1, inStride, outStride });
  lowerCopy(to, x, y, 0, [axis(n, rows * columns, rows * columns), axis(columns, 1, rows), axis(rows, columns, 1)]);
}

/** Rows of x (N, rows, C) from `from` on -> as many of y (N, rows, C) from `at` on as the smaller one has. */
export function lowerRows(to: Lowering, x: Operand, y: Operand, from: number, at: number): void {
  const [n, rows, columns] = x.shape;
  const count = Math.min(rows, y.shape[1]);
  const axis = (size: number, limit: number, before: number, inStride: number, outStride: number) => ({
    ...{ size, limit, before, repeat: 1, inStride, outStride },
  });
  lowerCopy(to, x, y, at * columns, [
    axis(n, n, 0, rows * columns, y.shape[1] * columns),
    axis(count, rows, -from, columns, columns),
    axis(columns, columns, 0, 1, 1),
  ]);
}

/** All of x -> as many elements of y from `at` on. */
export function lowerInto(to: Lowering, x: Operand, y: Operand, at: number): void {
  const size = sizeOf(x.shape);
  lowerCopy(to, x, y, at, [{ size, limit: size, before: 0, repeat: 1, inStride: 1, outStride: 1 }]);
}

interface CopyAxis {
  size: number;
  limit: number;
  before: number;
  repeat: number;
  inStride: number;
  outStride: number;
}

function lowerCopy(to: Lowering, x: Operand, y: Operand, start: number, axes: CopyAxis[]): void {
  const none = { size: 1, limit: 1, before: 0, repeat: 1, inStride: 0, outStride: 0 };
  const four = [...new Array<CopyAxis>(4 - axes.length).fill(none), ...axes].map((axis) => ({ ...axis }));
  const last = four[3];
  const quads = (n: number) => n % 4 === 0;
  const loads =
    last.inStride === 1 &&
    last.outStride === 1 &&
    last.repeat === 1 &&
    [last.size, last.limit, last.before, start].every(quads) &&
    four.slice(0, 3).every(({ inStride, outStride }) => quads(inStride) && quads(outStride))
      ? 4
      : 1;
  if (loads === 4) {
    last.size /= 4;
    last.limit /= 4;
    last.before /= 4;
    for (const axis of four.slice(0, 3)) {
      axis.inStride /= 4;
      axis.outStride /= 4;
    }
  }
  const count = four.reduce((product, axis) => product * axis.size, 1);
  const column = (key: keyof CopyAxis) => four.map((axis) => axis[key]);
  const run = last.repeat === 1 ? runAlong(last.size, count, to.facts) : 1;
  to.dispatch({
    shader: copyShader(loads, x.dtype),
    operands: { x, y },
    params: {
      count: count / run,
      run,
      start: start / loads,
      n1: four[1].size,
      n2: four[2].size,
      n3: four[3].size,
      ...numbered('limit', column('limit')),
      ...numbered('before', column('before')),
      ...numbered('repeat', column('repeat')),
      ...numbered('from', column('inStride')),
      ...numbered('to', column('outStride')),
    },
    threads: count / run,
  });
}

const copyShader = remembered((loads: 1 | 4, x: DType) => {
  const type = elementType({ dtype: 'f32', width: loads });
  const [u32, i32] = [new Array<'u32'>(4).fill('u32'), new Array<'i32'>(4).fill('i32')];
  return shader({
    name: `copy ${x} x${loads}`,
    bindings: {
      x: { dtype: x, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: {
      count: 'u32',
      run: 'u32',
      start: 'u32',
      n1: 'u32',
      n2: 'u32',
      n3: 'u32',
      ...numbered('limit', i32),
      ...numbered('before', i32),
      ...numbered('repeat', i32),
      ...numbered('from', u32),
      ...numbered('to', u32),
    },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  // A run of the innermost axis, in which nothing repeats.
  let first = id * p.run;
  let o3 = first % p.n3;
  let o2 = (first / p.n3) % p.n2;
  let o1 = (first / (p.n3 * p.n2)) % p.n1;
  let o0 = first / (p.n3 * p.n2 * p.n1);
  // Not divided yet: a negative position must not round to zero.
  let t = vec4<i32>(i32(o0) - p.before0, i32(o1) - p.before1, i32(o2) - p.before2, i32(o3) - p.before3);
  let i = t / vec4<i32>(p.repeat0, p.repeat1, p.repeat2, p.repeat3);
  let in_rows = all(t.xyz >= vec3<i32>(0)) && all(i.xyz < vec3<i32>(p.limit0, p.limit1, p.limit2));
  let row = vec3<u32>(select(vec3<i32>(0), i.xyz, in_rows));
  let x_at = row.x * p.from0 + row.y * p.from1 + row.z * p.from2;
  let y_at = p.start + o0 * p.to0 + o1 * p.to1 + o2 * p.to2 + o3 * p.to3;
  var n = 0u;
  loop {
    let column = i.w + i32(n);
    let inside = in_rows && t.w + i32(n) >= 0 && column < p.limit3;
    let v = x_load(x_at + u32(select(0, column, inside)) * p.from3);
    y_store(y_at + n * p.to3, select(${type}(0.0), ${type}(v), inside));
    continuing {
      n++;
      break if n >= p.run;
    }
  }
}`,
  });
});
