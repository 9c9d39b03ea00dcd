/**
 * What the kernels that reduce a row share: one workgroup a row, each thread a strided part of it, then a tree in workgroup memory. In the
 * subgroup schedule, where barriers are dear and neighbouring threads gain nothing from neighbouring loads, a thread has a row to itself.
 */
import type { AdapterFacts } from '../core/adapter.ts';

/** Threads that share one row. */
export const ROW_THREADS = 64;

/** Threads of a workgroup where each has rows to itself: few, so that all cores have a part of a small tensor. */
export const ALONE_THREADS = 16;

/** Rows of such a thread of a layer norm or its derivative, which share its loads of gamma. */
export const ROWS_ALONE = 2;

/** Threads that go along a row of an elementwise kernel. CPU drivers run a subgroup to its end before the next: there one goes from beginning to end. */
export const threadsOfRow = ({ schedule, subgroupSizes }: AdapterFacts): number =>
  schedule === 'subgroup' ? subgroupSizes[0] : ROW_THREADS;

/** WGSL of `combine_<name>(local, value) -> type`: every thread of the workgroup gets the combination of all values. */
export function rowTree(name: string, type: string, combine: (a: string, b: string) => string): string {
  return `
var<workgroup> ${name}_lanes: array<${type}, ${ROW_THREADS}>;
fn combine_${name}(local: u32, value: ${type}) -> ${type} {
  ${name}_lanes[local] = value;
  workgroupBarrier();
  for (var half = ${ROW_THREADS / 2}u; half > 0u; half >>= 1u) {
    if (local < half) { ${name}_lanes[local] = ${combine(`${name}_lanes[local]`, `${name}_lanes[local + half]`)}; }
    workgroupBarrier();
  }
  let result = ${name}_lanes[0];
  workgroupBarrier();
  return result;
}`;
}

/** WGSL of a `combine_<name>` for threads that have the row to themselves. */
export function rowAlone(name: string, type: string): string {
  return `fn combine_${name}(local: u32, value: ${type}) -> ${type} { return value; }`;
}
