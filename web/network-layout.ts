/** Where the blocks of a network stand on the page, from the graph's own places: a column down for each encoder, and the decoder up beside its skips. */
import type { BlockGraph, GraphBlock } from '../models/graph-blocks.ts';
import { placesOf } from '../models/graph-layout.ts';

export const [BOX_WIDTH, BOX_HEIGHT] = [168, 58];
const [GAP, ROW_GAP, COLUMN_GAP] = [14, 16, 72];

export interface Box {
  block: GraphBlock;
  x: number;
  y: number;
}

export interface Layout {
  boxes: Box[];
  lines: { from: string; to: string; path: string; skip: boolean }[];
  width: number;
  height: number;
}

export function layoutOf(graph: BlockGraph): Layout {
  const places = placesOf(graph);
  const cells = new Map<string, GraphBlock[]>();
  for (const block of graph.blocks) {
    const { row, column } = places.get(block.path)!;
    cells.set(`${column} ${row}`, [...(cells.get(`${column} ${row}`) ?? []), block]);
  }
  const all = [...places.values()];
  const rows = [...new Set(all.map(({ row }) => row))].sort((a, b) => a - b);
  const boxes = new Map<string, Box>();
  let x = 0;
  for (const column of [...new Set(all.map((place) => place.column))].sort((a, b) => a - b)) {
    const widest = Math.max(...rows.map((row) => cells.get(`${column} ${row}`)?.length ?? 0));
    for (const [line, row] of rows.entries()) {
      for (const [i, block] of (cells.get(`${column} ${row}`) ?? []).entries())
        boxes.set(block.path, { block, x: x + i * (BOX_WIDTH + GAP), y: line * (BOX_HEIGHT + ROW_GAP) });
    }
    x += widest * (BOX_WIDTH + GAP) - GAP + COLUMN_GAP;
  }
  const lines = graph.edges.map(({ from, to }) => {
    const [a, b] = [boxes.get(from)!, boxes.get(to)!];
    return { from, to, path: curve(a, b), skip: places.get(from)!.column !== places.get(to)!.column };
  });
  return { boxes: [...boxes.values()], lines, width: x - COLUMN_GAP, height: rows.length * (BOX_HEIGHT + ROW_GAP) - ROW_GAP };
}

/** From side to side between columns and neighbours of a row, else from edge to edge along the column. */
function curve(from: Box, to: Box): string {
  const middle = BOX_WIDTH / 2;
  if (Math.abs(from.x - to.x) < BOX_WIDTH / 2) {
    const down = to.y > from.y;
    const [y1, y2] = [from.y + (down ? BOX_HEIGHT : 0), to.y + (down ? 0 : BOX_HEIGHT)];
    return `M${from.x + middle} ${y1}L${to.x + middle} ${y2}`;
  }
  const right = to.x > from.x;
  const [x1, x2] = [from.x + (right ? BOX_WIDTH : 0), to.x + (right ? 0 : BOX_WIDTH)];
  const [y1, y2] = [from.y + BOX_HEIGHT / 2, to.y + BOX_HEIGHT / 2];
  const bend = Math.max(14, Math.abs(x2 - x1) / 2) * (right ? 1 : -1);
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}
