/**
 * Runs that take a result over from the run before them and compute only what comes after it. It is seen on dispatches, as hoisting is, so that whoever
 * builds a graph only names the result.
 */
import { type PlannedDispatch, read, type Storage, written } from './dispatch.ts';

/** The dispatches of a run in which `result` has its values already: those that follow it, and what they read beside it. */
export function dispatchesAfter(dispatches: readonly PlannedDispatch[], result: Storage): Set<PlannedDispatch> {
  const after = new Set<PlannedDispatch>();
  const made = new Set([result]);
  for (const dispatch of dispatches) {
    if (!read(dispatch).some((storage) => made.has(storage))) continue;
    after.add(dispatch);
    for (const storage of written(dispatch)) made.add(storage);
  }
  const needed = new Set<Storage>();
  for (const dispatch of after) for (const storage of written(dispatch)) needed.add(storage); // several may fill one
  for (const dispatch of [...dispatches].reverse()) {
    if (!after.has(dispatch) && !written(dispatch).some((storage) => needed.has(storage))) continue;
    after.add(dispatch);
    for (const storage of read(dispatch)) if (storage !== result) needed.add(storage);
  }
  return after;
}
