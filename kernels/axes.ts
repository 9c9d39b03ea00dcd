import type { AdapterFacts } from '../core/adapter.ts';

/** Names for what a shader has once for each of four axes: the names of its parameters, and their values. */
export type Numbered<Name extends string, T> = { readonly [I in 0 | 1 | 2 | 3 as `${Name}${I}`]: T };

/** { name0: items[0], ..., name3: items[3] } */
export function numbered<const Name extends string, const T>(name: Name, items: readonly T[]): Numbered<Name, T> {
  return Object.fromEntries(items.map((item, i) => [`${name}${i}`, item])) as Numbered<Name, T>;
}

/**
 * How many neighbours along an innermost axis of `size` one thread takes, of `count` elements in all: its place on the other axes is found by divisions, which
 * CPU drivers do lane by lane, each as dear as some loads. GPUs want many threads.
 */
export function runAlong(size: number, count: number, { schedule }: AdapterFacts): number {
  if (schedule !== 'subgroup') return 1;
  return [16, 8, 4, 2].find((run) => size % run === 0 && count / run >= ENOUGH) ?? 1;
}

/** Threads that keep the cores of a processor busy. */
const ENOUGH = 256;

/** The types of four parameters. */
export const U32 = ['u32', 'u32', 'u32', 'u32'] as const;
