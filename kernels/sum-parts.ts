/**
 * What follows an implicit matmul whose sums were made in parts: y = act(sum over parts + bias) + residual, as an epilogue ends it.
 * sums (parts, batch, rows, columns), with geglu twice the columns, values first; y (batch, rows, columns), all f32. Parts are added in their order.
 */
import type { Lowering, Operand } from '../core/op.ts';
import { shader } from '../core/shader.ts';
import {
  EPILOGUE_PARAMS,
  type EpilogueOperands,
  epilogueBindings,
  epilogueName,
  epilogueOf,
  epilogueOperands,
  epilogueParams,
  epilogueWgsl,
} from './epilogue.ts';

export interface PartialSums {
  sums: Operand;
  parts: number;
  batch: number;
  rows: number;
  /** Of the result. */
  columns: number;
}

/** Emits the dispatch that adds the parts and ends as `m` tells. */
export function sumParts(to: Lowering, m: EpilogueOperands, { sums, parts, batch, rows, columns }: PartialSums): void {
  const width = columns % 4 === 0 ? 4 : 1;
  const epilogue = epilogueOf(m, width);
  const gated = m.activation === 'geglu';
  const type = width === 4 ? 'vec4<f32>' : 'f32';
  const threads = (batch * rows * columns) / width;
  to.dispatch({
    shader: shader({
      name: `sum of parts ${epilogueName(epilogue)}`,
      bindings: { sums: { dtype: 'f32', width }, ...epilogueBindings(epilogue) },
      params: { count: 'u32', parts: 'u32', rows: 'u32', columns: 'u32', ...EPILOGUE_PARAMS },
      workgroup: 64,
      code: `
${epilogueWgsl(epilogue)}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let across = p.columns / ${width}u;
  let row = id / across;
  let column = id - row * across;
  let step = p.count${gated ? ' * 2u' : ''};
  var value = ${type}(0.0);
  ${gated ? `var gate = ${type}(0.0);` : ''}
  var at = row * across${gated ? ' * 2u' : ''} + column;
  for (var part = 0u; part < p.parts; part++) {
    value += sums_load(at);
    ${gated ? 'gate += sums_load(at + across);' : ''}
    at += step;
  }
  finish(row / p.rows, row % p.rows, column * ${width}u, value${gated ? ', gate' : ''});
}`,
    }),
    operands: { sums, ...epilogueOperands(m) },
    params: { count: threads, parts, rows, columns, ...epilogueParams(m, rows) },
    threads,
    flops: parts * batch * rows * columns * (gated ? 2 : 1),
  });
}
