/** Which source files compute a block: the page brings them along, so that the links work without a network. */
import type { GraphBlock } from '../drawing/graph-blocks.ts';

/** Files by the class of a network or module, and by the name of an operation that they export. */
export interface SourceMap {
  classes: Readonly<Record<string, string>>;
  operations: Readonly<Record<string, string>>;
}

/** Made when the page is built. */
declare const SOURCE_MAP: SourceMap;

/** Paths of sources, the networks' before the kernels'. */
export function sourcesOf({ network, kind, parts, operations }: GraphBlock, map: SourceMap = SOURCE_MAP): string[] {
  const kinds = [network, kind, ...parts.map((part) => part.kind.replace(/^\d+ /, ''))];
  const models = kinds.flatMap((each) => map.classes[each] ?? []);
  const kernels = Object.keys(operations).flatMap((each) => map.operations[each] ?? []);
  return [...new Set([...models, ...kernels])];
}
