/**
 * binary: y = f(a, b) elementwise with broadcasting (broadcast.ts).
 * a, b f32 | f16; y f32. One pipeline for every function: which one is a uniform.
 */
import { apply, type Op } from '../core/op.ts';
import { type DType, elementType, remembered, shader } from '../core/shader.ts';
import type { Tensor } from '../core/tensor.ts';
import { numbered, runAlong, U32 } from './axes.ts';
import { broadcastShape, walkOver } from './broadcast.ts';
import { sumTo } from './sum-axis.ts';
import { affine } from './unary.ts';
import { unaryGradient } from './unary-gradient.ts';

const FUNCTIONS = ['add', 'sub', 'mul', 'div', 'max', 'min', 'greater', 'less', 'equal', 'addProduct'] as const;
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
/** a + a b. */
export const addProduct = binary('addProduct');
/** 1 where a > b, else 0; comparisons have no derivative. */
export const greater = binary('greater');
/** 1 where a < b, else 0. */
export const less = binary('less');
/** 1 where a = b, else 0. */
export const equal = binary('equal');

export const binaryOp: Op<BinaryAttrs, { a: Tensor; b: Tensor }> = {
  name: 'binary',

  infer({ a, b }, { fn }) {
    return { shape: broadcastShape(fn, [a, b]), dtype: 'f32' };
  },

  lower({ a, b }, output, { fn }, to) {
    const { loads, count, sizes, steps } = walkOver([a, b], output.shape);
    const [, n1, n2, n3] = sizes;
    const run = runAlong(n3, count, to.facts);
    to.dispatch({
      shader: binaryShader(loads, a.dtype, b.dtype),
      operands: { a, b, y: output },
      params: {
        count: count / run,
        run,
        fn_code: FUNCTIONS.indexOf(fn),
        n1,
        n2,
        n3,
        ...numbered('a', steps[0]),
        ...numbered('b', steps[1]),
      },
      threads: count / run,
    });
  },

  gradient(result, upstream) {
    const { a, b } = result.source.inputs;
    const { fn } = result.source.attrs;
    if (fn === 'greater' || fn === 'less' || fn === 'equal') return { a: null, b: null };
    const [byA, byB] = slopes(fn, upstream, a, b, result);
    return { a: sumTo(byA, a.shape), b: sumTo(byB, b.shape) };
  },
};

/** The derivatives by both operands, in the result's shape. Where max and min have equal operands, all of it goes to b. */
function slopes(
  fn: Exclude<BinaryFunction, 'greater' | 'less' | 'equal'>,
  g: Tensor,
  a: Tensor,
  b: Tensor,
  result: Tensor,
): [Tensor, Tensor] {
  switch (fn) {
    case 'add':
      return [g, g];
    case 'sub':
      return [g, affine(g, -1, 0)];
    case 'mul':
      return [mul(g, b), mul(g, a)];
    case 'addProduct':
      return [addProduct(g, b), mul(g, a)];
    case 'div': {
      const byA = div(g, b);
      return [byA, affine(mul(byA, result), -1, 0)];
    }
    default: {
      const byA = unaryGradient(g, fn === 'max' ? sub(a, b) : sub(b, a), 'relu');
      return [byA, sub(g, byA)];
    }
  }
}

const binaryShader = remembered((loads: 1 | 4, a: DType, b: DType) => {
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
      run: 'u32',
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
  // A run of the innermost axis.
  let first = id * p.run;
  let i3 = first % p.n3;
  let i2 = (first / p.n3) % p.n2;
  let i1 = (first / (p.n3 * p.n2)) % p.n1;
  let i0 = first / (p.n3 * p.n2 * p.n1);
  let a_at = i0 * p.a0 + i1 * p.a1 + i2 * p.a2 + i3 * p.a3;
  let b_at = i0 * p.b0 + i1 * p.b1 + i2 * p.b2 + i3 * p.b3;
  var i = 0u;
  loop {
    let a = a_load(a_at + i * p.a3);
    let b = b_load(b_at + i * p.b3);
    var v: ${type};
    switch (p.fn_code) {
      case 0u: { v = a + b; }
      case 1u: { v = a - b; }
      case 2u: { v = a * b; }
      case 3u: { v = a / b; }
      case 4u: { v = max(a, b); }
      case 5u: { v = min(a, b); }
      case 6u: { v = select(${type}(0.0), ${type}(1.0), a > b); }
      case 7u: { v = select(${type}(0.0), ${type}(1.0), a < b); }
      case 8u: { v = select(${type}(0.0), ${type}(1.0), a == b); }
      default: { v = a + a * b; }
    }
    y_store(first + i, v);
    continuing {
      i++;
      break if i >= p.run;
    }
  }
}`,
  });
});
