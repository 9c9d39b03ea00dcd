/**
 * Loop-invariant code motion: what depends on weights, constants and inputs that change seldom alone is computed when those are given, and its
 * results stay on the device between runs. It is seen on dispatches, so that a part of an operation can be hoisted: a convolution's transformed windows.
 */
import { type PlannedDispatch, read, type Storage, written } from './dispatch.ts';
import type { Changes } from './scalar.ts';

/** Most bytes of results that stay: a share of the weights, or where that is little this much. */
const [SHARE, LEAST] = [1 / 16, 2 ** 26];
/** Operations that take about as long as moving a byte, to weigh what it costs to compute a result again. */
const OPERATIONS_PER_BYTE = 10;

export interface Hoisted {
  /** All dispatches in an order of computation, the hoisted ones first. */
  dispatches: PlannedDispatch[];
  /** How many of them are hoisted. */
  once: number;
  /** Where those of their results lie that the others read. */
  kept: ReadonlySet<Storage>;
}

/** Moves dispatches to the front whose results are the same in every run, dearest first, as far as there is room beside `weights` bytes of weights. */
export function hoist(dispatches: readonly PlannedDispatch[], weights: number): Hoisted {
  const room = Math.max(LEAST, SHARE * weights);
  const changing = overwritten(dispatches);
  for (;;) {
    const steady = steadyAmong(dispatches, changing);
    const others = dispatches.filter((dispatch) => !steady.has(dispatch));
    const made = new Set([...steady].flatMap(written));
    const kept = new Set(others.flatMap(read).filter((storage) => made.has(storage)));
    const excess = sum(kept) - room;
    if (excess <= 0) return { dispatches: [...steady, ...others], once: steady.size, kept };
    for (const storage of leastWorth(kept, steady, excess)) changing.add(storage);
  }
}

/** Scratch that is filled anew after it was read: it does not hold one result. */
function overwritten(dispatches: readonly PlannedDispatch[]): Set<Storage> {
  const found = new Set<Storage>();
  const seen = new Set<Storage>();
  for (const dispatch of dispatches) {
    for (const storage of written(dispatch)) if (seen.has(storage)) found.add(storage);
    for (const storage of read(dispatch)) seen.add(storage);
  }
  return found;
}

/** The dispatches that neither read nor help to make what changes from run to run. */
function steadyAmong(dispatches: readonly PlannedDispatch[], changing: ReadonlySet<Storage>): Set<PlannedDispatch> {
  const changes = new Set(changing);
  const steady = new Set(dispatches);
  for (let before = -1; before !== steady.size; ) {
    before = steady.size;
    for (const dispatch of steady) {
      const own = written(dispatch);
      if (!dispatch.params.some(changesEachRun) && ![...read(dispatch), ...own].some((storage) => isChanging(storage, changes))) continue;
      steady.delete(dispatch);
      for (const storage of own) changes.add(storage);
    }
  }
  return steady;
}

const changesEachRun = (param: PlannedDispatch['params'][number]) => typeof param === 'object' && param.changes === 'every run';
const isChanging = (storage: Storage, changes: ReadonlySet<Storage>) => changes.has(storage) || changesOf(storage) === 'every run';

/** How often the values change that a storage holds, where they are not computed. */
export function changesOf(storage: Storage): Changes | null {
  return storage.kind === 'input' ? storage.changes : storage.kind === 'parameter' ? storage.parameter.changes : null;
}

/** Of what is kept, the results that cost least for their bytes, some `excess` bytes of them. */
function leastWorth(kept: ReadonlySet<Storage>, steady: ReadonlySet<PlannedDispatch>, excess: number): Storage[] {
  const makers = new Map<Storage, PlannedDispatch[]>();
  for (const dispatch of steady) for (const storage of written(dispatch)) makers.set(storage, [...(makers.get(storage) ?? []), dispatch]);
  const costOf = (storage: Storage) => {
    const needed = new Set<PlannedDispatch>(makers.get(storage));
    for (const dispatch of needed) for (const source of read(dispatch)) for (const maker of makers.get(source) ?? []) needed.add(maker);
    let cost = 0;
    for (const { flops, bytes } of needed) cost += flops + OPERATIONS_PER_BYTE * bytes;
    return cost / storage.bytes;
  };
  const worth = new Map([...kept].map((storage) => [storage, costOf(storage)]));
  const order = [...kept].sort((a, b) => worth.get(a)! - worth.get(b)!);
  let left = excess;
  return order.filter(({ bytes }) => {
    const leaves = left > 0;
    left -= leaves ? bytes : 0;
    return leaves;
  });
}

const sum = (storages: Iterable<Storage>) => [...storages].reduce((bytes, storage) => bytes + storage.bytes, 0);
