/**
 * Which module is being traced: a tensor remembers the one whose `forward` made it. Tracing is synchronous, so one place to remember is enough.
 * Where a module stands in its network, the tree tells (module.ts, `paths`); drawings, traces, attention maps and times by block read both.
 */
let current: object | null = null;
let results: Map<object, unknown> | null = null;

/** The module at work, if any. */
export const currentModule = (): object | null => current;

/** What `build` makes is `module`'s, unless a module within makes it. */
export function within<T>(module: object | null, build: () => T): T {
  const outer = current;
  current = module;
  try {
    return build();
  } finally {
    current = outer;
  }
}

/** The same, and what `build` returns is the module's result. */
export function traced<T>(module: object, build: () => T): T {
  const result = within(module, build);
  results?.set(module, result);
  return result;
}

/** What `build` returns, and the result of every module that ran; of one that ran several times the last. */
export function watch<T>(build: () => T): { result: T; results: Map<object, unknown> } {
  const outer = results;
  const mine = new Map<object, unknown>();
  results = mine;
  try {
    return { result: build(), results: mine };
  } finally {
    results = outer;
  }
}
