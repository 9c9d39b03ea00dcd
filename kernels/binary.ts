/**
 * binary: y = f(a, b) elementwise with broadcasting: axes are matched from the last, and an axis of size 1 repeats. (NumPy's rule)
 * a, b f32 | f16; y f32. One pipeline for every function: which one is a uniform.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { type DType, elementType, shader } from '../core/shader.ts';
import { describe, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { numbered } from './axes.ts';
import { sumTo } from './sum-axis.ts';
import { affine } from './unary.ts';
import { unaryGradient } from './unary-gradient.ts';

const FUNCTIONS = ['add', 'sub', 'mul', 'div', 'max', 'min'] as const;
export type BinaryFunction = (typeof FUNCTIONS)[number];

export interface BinaryAttrs {
  fn: BinaryFunction;
}

const binary = (fn: BinaryFunction) => (a: Tensor, b: Tensor) => apply(binaryOp, { a, b }, { fn });

export const add = binary('add');
export const sub = binary('sub');
export const mul = binary('mul');
export const div = binary('div');
export const maximum = binary('max');
export const minimum = binary('min');

export const binaryOp: Op<BinaryAttrs, { a: Tensor; b: Tensor }> = {
  name: 'binary',

  infer({ a, b }, { fn }) {
    const rank = Math.max(a.shape.length, b.shape.length);
    const [sa, sb] = [align(a.shape, rank), align(b.shape, rank)];
    const shape = sa.map((size, i) => (size === 1 ? sb[i] : size));
    if (shape.some((size, i) => sb[i] !== 1 && sb[i] !== size))
      throw new ShapeError(`${fn}: ${describe(a)} and ${describe(b)} do not broadcast.`);
    if (collapse(sa, sb, shape).length > 4)
      throw new ShapeError(`${fn}: ${describe(a)} and ${describe(b)} broadcast over more than four separate axes.`);
    return { shape, dtype: 'f32' };
  },

  lower({ a, b }, output, { fn }, to) {
    const axes = collapse(align(a.shape, output.shape.length), align(b.shape, output.shape.length), output.shape);
    const inner = axes[3];
    const loads = inner.size % 4 === 0 && inner.a === 1 && inner.b === 1 ? 4 : 1;
    if (loads === 4) {
      inner.size /= 4;
      for (const axis of axes.slice(0, 3)) {
        axis.a /= 4;
        axis.b /= 4;
      }
    }
    const count = sizeOf(output.shape) / loads;
    to.dispatch({
      shader: binaryShader(loads, a.dtype, b.dtype),
      operands: { a, b, y: output },
      params: {
        count,
        fn_code: FUNCTIONS.indexOf(fn),
        n1: axes[1].size,
        n2: axes[2].size,
        n3: axes[3].size,
        ...numbered(
          'a',
          axes.map((axis) => axis.a),
        ),
        ...numbered(
          'b',
          axes.map((axis) => axis.b),
        ),
      },
      threads: count,
    });
  },

  gradient(result, upstream) {
    const { a, b } = result.source.inputs;
    const [byA, byB] = slopes(result.source.attrs.fn, upstream, a, b, result);
    return { a: sumTo(byA, a.shape), b: sumTo(byB, b.shape) };
  },
};

/** The derivatives by both operands, in the result's shape. Where max and min have equal operands, all of it goes to b. */
function slopes(fn: BinaryFunction, g: Tensor, a: Tensor, b: Tensor, result: Tensor): [Tensor, Tensor] {
  switch (fn) {
    case 'add':
      return [g, g];
    case 'sub':
      return [g, affine(g, -1, 0)];
    case 'mul':
      return [mul(g, b), mul(g, a)];
    case 'div': {
      const byA = div(g, b);
      return [byA, affine(mul(byA, result), -1, 0)];
    }
    default: {
      const byA = unaryGradient(g, fn === 'max' ? sub(a, b) : sub(b, a), 'ramp');
      return [byA, sub(g, byA)];
    }
  }
}

const U32 = ['u32', 'u32', 'u32', 'u32'] as const;

function align(shape: Shape, rank: number): number[] {
  return [...new Array(rank - shape.length).fill(1), ...shape];
}

interface Axis {
  size: number;
  /** Elements from one index to the next; 0 where the operand repeats. */
  a: number;
  b: number;
}

/** Merges neighbouring axes that both operands walk through without a gap, and fills up to four. */
function collapse(a: number[], b: number[], shape: Shape): Axis[] {
  const merged: Axis[] = [];
  let [strideA, strideB] = [1, 1];
  for (let i = shape.length - 1; i >= 0; i--) {
    const axis = { size: shape[i], a: a[i] === 1 ? 0 : strideA, b: b[i] === 1 ? 0 : strideB };
    strideA *= a[i];
    strideB *= b[i];
    const next = merged[0];
    if (axis.size === 1) continue;
    if (next && axis.a === next.a * next.size && axis.b === next.b * next.size) next.size *= axis.size;
    else merged.unshift(axis);
  }
  while (merged.length < 4) merged.unshift({ size: 1, a: 0, b: 0 });
  return merged;
}

function binaryShader(loads: 1 | 4, a: DType, b: DType) {
  const type = elementType({ dtype: 'f32', width: loads });
  return shader({
    name: `binary ${a} ${b} x${loads}`,
    bindings: {
      a: { dtype: a, width: loads },
      b: { dtype: b, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: {
      count: 'u32',
      fn_code: 'u32',
      n1: 'u32',
      n2: 'u32',
      n3: 'u32',
      ...numbered('a', U32),
      ...numbered('b', U32),
    },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let i3 = id % p.n3;
  let i2 = (id / p.n3) % p.n2;
  let i1 = (id / (p.n3 * p.n2)) % p.n1;
  let i0 = id / (p.n3 * p.n2 * p.n1);
  let a = a_load(i0 * p.a0 + i1 * p.a1 + i2 * p.a2 + i3 * p.a3);
  let b = b_load(i0 * p.b0 + i1 * p.b1 + i2 * p.b2 + i3 * p.b3);
  var v: ${type};
  switch (p.fn_code) {
    case 0u: { v = a + b; }
    case 1u: { v = a - b; }
    case 2u: { v = a * b; }
    case 3u: { v = a / b; }
    case 4u: { v = max(a, b); }
    default: { v = min(a, b); }
  }
  y_store(id, v);
}`,
  });
}
