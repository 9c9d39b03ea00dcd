/** exchange: two weights of one size, f32, change places, where they lie. */
import { apply, type Op } from '../core/op.ts';
import { shader } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';

/** -> a, which now is what b was. */
export function exchange(a: Tensor, b: Tensor): Tensor {
  return apply(exchangeOp, { a, b }, null);
}

export const exchangeOp: Op<null, { a: Tensor; b: Tensor }> = {
  name: 'exchange',
  inPlace: true,
  infer: ({ a }) => ({ shape: a.shape, dtype: 'f32' }),

  lower({ b }, a, _attrs, to) {
    const loads = Math.ceil(sizeOf(a.shape) / 4);
    to.dispatch({ shader: EXCHANGE, operands: { a, b }, params: { count: loads }, threads: loads });
  },
};

const EXCHANGE = shader({
  name: 'exchange',
  bindings: { a: { dtype: 'f32', width: 4, write: true, read: true }, b: { dtype: 'f32', width: 4, write: true, read: true } },
  params: { count: 'u32' },
  workgroup: 64,
  code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let a = a_load(id);
  a_store(id, b_load(id));
  b_store(id, a);
}`,
});
