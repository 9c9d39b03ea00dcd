/**
 * Looking into a network: model code names its intermediate tensors, and whoever builds a graph may ask for some of them as further outputs.
 * Building a graph is synchronous, so one watcher at a time is enough; without one a name costs nothing.
 */
import type { Tensor } from './tensor.ts';

interface Watcher {
  wanted(name: string): boolean;
  tensors: Record<string, Tensor>;
  names: string[];
}

let watcher: Watcher | null = null;
let prefix = '';

/** Names a tensor, by the path of what computed it, and gives it back. */
export function observe(name: string, tensor: Tensor): Tensor {
  if (watcher) {
    watcher.names.push(prefix + name);
    if (watcher.wanted(prefix + name)) watcher.tensors[prefix + name] = tensor;
  }
  return tensor;
}

/** What `build` observes is named behind `path`. */
export function within<T>(path: string, build: () => T): T {
  const outer = prefix;
  prefix += path;
  try {
    return build();
  } finally {
    prefix = outer;
  }
}

/** What `build` returns, the tensors with a wanted name that it made, and all names that there were. */
export function watch<T>(
  wanted: (name: string) => boolean,
  build: () => T,
): { result: T; tensors: Record<string, Tensor>; names: string[] } {
  const outer = watcher;
  const mine: Watcher = { wanted, tensors: {}, names: [] };
  watcher = mine;
  try {
    return { result: build(), tensors: mine.tensors, names: mine.names };
  } finally {
    watcher = outer;
  }
}
