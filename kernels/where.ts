/**
 * where: y = condition == 0 ? b : a elementwise, with broadcasting (broadcast.ts). What is not chosen may be infinite or NaN.
 * condition, a, b f32 | f16; y f32.
 */
import { apply, type Op } from '../core/op.ts';
import { type DTypes, elementType, shader } from '../core/shader.ts';
import { constant, type Tensor } from '../core/tensor.ts';
import { numbered, U32 } from './axes.ts';
import { broadcastShape, walkOver } from './broadcast.ts';
import { sumTo } from './sum-axis.ts';

/** a where the condition is not zero, b elsewhere; see `greater`, `less` and `equal`. Throws ShapeError. */
export function where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  return apply(whereOp, { condition, a, b }, null);
}

export const whereOp: Op<null, { condition: Tensor; a: Tensor; b: Tensor }> = {
  name: 'where',

  infer(inputs) {
    return { shape: broadcastShape('where', Object.values(inputs)), dtype: 'f32' };
  },

  lower({ condition, a, b }, output, _attrs, to) {
    const { loads, count, sizes, steps } = walkOver([condition, a, b], output.shape);
    const [, n1, n2, n3] = sizes;
    to.dispatch({
      shader: whereShader(loads, { condition: condition.dtype, a: a.dtype, b: b.dtype }),
      operands: { condition, a, b, y: output },
      params: {
        count,
        ...{ n1, n2, n3 },
        ...numbered('c', steps[0]),
        ...numbered('a', steps[1]),
        ...numbered('b', steps[2]),
      },
      threads: count,
    });
  },

  gradient({ source }, upstream) {
    const { condition, a, b } = source.inputs;
    const zero = constant(new Float32Array(1), [1]);
    return {
      condition: null,
      a: sumTo(where(condition, upstream, zero), a.shape),
      b: sumTo(where(condition, zero, upstream), b.shape),
    };
  },
};

function whereShader(loads: 1 | 4, types: DTypes<'condition' | 'a' | 'b'>) {
  const type = elementType({ dtype: 'f32', width: loads });
  return shader({
    name: `where ${types.condition} ${types.a} ${types.b} x${loads}`,
    bindings: {
      condition: { dtype: types.condition, width: loads },
      a: { dtype: types.a, width: loads },
      b: { dtype: types.b, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: {
      count: 'u32',
      n1: 'u32',
      n2: 'u32',
      n3: 'u32',
      ...numbered('c', U32),
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
  let condition = condition_load(i0 * p.c0 + i1 * p.c1 + i2 * p.c2 + i3 * p.c3);
  let a = a_load(i0 * p.a0 + i1 * p.a1 + i2 * p.a2 + i3 * p.a3);
  let b = b_load(i0 * p.b0 + i1 * p.b1 + i2 * p.b2 + i3 * p.b3);
  y_store(id, select(b, a, condition != ${type}(0.0)));
}`,
  });
}
