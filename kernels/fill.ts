/** fill: some elements of a tensor become one number, which may be a program's scalar. */
import type { Lowering, Operand } from '../core/op.ts';
import { shader } from '../core/shader.ts';
import type { Scalar } from '../core/tensor.ts';

/** Emits the dispatch: `count` elements of y, f32, from `first` on become factor times value. */
export function lowerFill(to: Lowering, y: Operand, first: number, count: number, value: Scalar, factor = 1): void {
  to.dispatch({ shader: SHADER, operands: { y }, params: { first, count, factor, value }, threads: count });
}

const SHADER = shader({
  name: 'fill',
  bindings: { y: { dtype: 'f32', width: 1, write: true } },
  params: { first: 'u32', count: 'u32', factor: 'f32', value: 'f32' },
  workgroup: 64,
  code: `
fn run(id: u32, group: u32, local: u32) {
  if (id < p.count) { y_store(p.first + id, p.factor * p.value); }
}`,
});
