/**
 * Common subexpressions among dispatches: one that computes again what another has just computed is left out, and its readers read the other's result. It is
 * seen on dispatches, so that parts of operations count: the transformed pixels of two convolutions of one map.
 */
import { type PlannedDispatch, read, type Storage, written } from './dispatch.ts';
import { present } from './shader.ts';

/**
 * How many dispatches lie between both at most, so that no result stays long for it: training makes some again on purpose, because they would take much memory
 * until then.
 */
const NEAR = 8;

/** The dispatches without repeats. `lasting`: storage that is read from outside, whose results all stay. */
export function withoutRepeats(dispatches: readonly PlannedDispatch[], lasting: ReadonlySet<Storage>): PlannedDispatch[] {
  const writers = new Map<Storage, number>();
  for (const storage of dispatches.flatMap(written)) writers.set(storage, (writers.get(storage) ?? 0) + 1);
  const isResult = (storage: Storage) => storage.kind === 'pooled' && writers.get(storage) === 1 && !lasting.has(storage);
  const instead = new Map<Storage, Storage>();
  const kept: PlannedDispatch[] = [];
  for (const planned of dispatches) {
    const dispatch = reading(planned, instead);
    const before = kept.slice(-NEAR);
    const at = written(dispatch).every(isResult)
      ? before.findIndex((other) => written(other).every(isResult) && isSame(other, dispatch))
      : -1;
    const sources = new Set(read(dispatch));
    if (
      at < 0 ||
      before
        .slice(at + 1)
        .flatMap(written)
        .some((storage) => sources.has(storage))
    )
      kept.push(dispatch);
    else for (const [i, storage] of written(dispatch).entries()) instead.set(storage, written(before[at])[i]);
  }
  return kept;
}

function reading(dispatch: PlannedDispatch, instead: ReadonlyMap<Storage, Storage>): PlannedDispatch {
  if (!dispatch.operands.some(({ storage }) => instead.has(storage))) return dispatch;
  const operands = dispatch.operands.map((value) => ({ ...value, storage: instead.get(value.storage) ?? value.storage }));
  return { ...dispatch, operands };
}

/** Whether two dispatches compute the same from the same storage. */
function isSame(a: PlannedDispatch, b: PlannedDispatch): boolean {
  if (a.shader !== b.shader || a.threads !== b.threads || a.params.some((param, i) => param !== b.params[i])) return false;
  return present(a.shader.bindings).every(([, { write }], i) => {
    const [one, other] = [a.operands[i], b.operands[i]];
    return (write || one.storage === other.storage) && one.begins === other.begins && one.storage.bytes === other.storage.bytes;
  });
}
