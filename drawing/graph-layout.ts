/**
 * Where the blocks of a graph stand: a column for each chain, down along the trace. From where skip connections join it, a chain turns up again in a
 * column of its own, each block beside the one whose skip it reads: the U of a U-Net. (Ronneberger et al. 2015, fig. 1)
 */
import type { BlockGraph, GraphBlock } from './graph-blocks.ts';

export interface Place {
  column: number;
  row: number;
  /** In a column that goes up the blocks of a row are stacked from below. */
  up: boolean;
}

/** A place for every block, by path. Several blocks may share one, in order of the trace. */
export function placesOf({ blocks, edges }: BlockGraph): Map<string, Place> {
  const places = new Map<string, Place>();
  const ancestors = new Map<string, Set<string>>();
  let columns = 0;
  /** Blocks that only very many others read, such as embeddings: they stand above the chain traced after them. */
  let aside: GraphBlock[] = [];
  const order = new Map(blocks.map(({ path }, i) => [path, i]));
  for (const [i, block] of blocks.entries()) {
    const incoming = edges.filter(({ from, to }) => to === block.path && order.get(from)! < i);
    incoming.sort((a, b) => order.get(a.from)! - order.get(b.from)!);
    ancestors.set(block.path, new Set(incoming.flatMap(({ from }) => [from, ...ancestors.get(from)!])));
    const readers = edges.filter(({ from }) => from === block.path);
    if (block.shared || (readers.length > 0 && readers.every(({ to }) => blocks.find(({ path }) => path === to)!.shared))) {
      aside.push(block);
      continue;
    }
    const drawn = incoming.filter(({ from }) => places.has(from));
    if (drawn.length === 0) {
      const column = columns++;
      for (const each of aside) places.set(each.path, { column, row: 0, up: false });
      aside = [];
      places.set(block.path, { column, row: 1, up: false });
      continue;
    }
    const before = places.get(drawn[drawn.length - 1].from)!;
    // A skip connection comes from an ancestor of what else is read.
    const skips = drawn.filter(({ from, shape }) => shape.length === 4 && drawn.some((other) => ancestors.get(other.from)!.has(from)));
    const row = Math.min(...skips.map(({ from }) => places.get(from)!.row), before.up ? before.row : Number.POSITIVE_INFINITY);
    if (skips.length > 0) places.set(block.path, { column: before.up ? before.column : columns++, row, up: true });
    else if (before.up) places.set(block.path, before);
    else places.set(block.path, { column: before.column, row: 1 + Math.max(...drawn.map(({ from }) => places.get(from)!.row)), up: false });
  }
  for (const each of aside) places.set(each.path, { column: columns++, row: 0, up: false });
  return places;
}
