/** Where the blocks of a network stand on the page, from the graph's own places: a column down for each encoder, and the decoder up beside its skips. */
import type { BlockGraph, GraphBlock } from '../drawing/graph-blocks.ts';
import { placesOf } from '../drawing/graph-layout.ts';

export const [BOX_WIDTH, BOX_HEIGHT] = [150, 58];
const [GAP, ROW_GAP] = [12, 14];
const COLUMN_GAP = { wide: 56, narrow: 20 };

export interface Box {
  block: GraphBlock;
  x: number;
  y: number;
}

export interface DrawingLayout {
  boxes: Box[];
  lines: { from: string; to: string; path: string; skip: boolean }[];
  width: number;
  height: number;
}

/** `shape`: narrow has the blocks of a decoder's row one below the other as well, for phones. */
export function layoutOf(graph: BlockGraph, shape: 'wide' | 'narrow' = 'wide'): DrawingLayout {
  const places = placesOf(graph);
  const cells = new Map<string, GraphBlock[]>();
  for (const block of graph.blocks) {
    const { row, column } = places.get(block.path)!;
    cells.set(`${column} ${row}`, [...(cells.get(`${column} ${row}`) ?? []), block]);
  }
  const all = [...places.values()];
  const rows = [...new Set(all.map(({ row }) => row))].sort((a, b) => a - b);
  const boxes = new Map<string, Box>();
  // In the decoder the blocks of a row stand side by side where there is room, elsewhere one below the other.
  const sideways = (column: number) => shape === 'wide' && all.some((place) => place.column === column && place.up);
  const columns = [...new Set(all.map(({ column }) => column))].sort((a, b) => a - b);
  const lengthOf = (column: number, row: number) => cells.get(`${column} ${row}`)?.length ?? 0;
  const lines: number[] = [];
  let line = 0;
  for (const row of rows) {
    lines.push(line);
    line += Math.max(1, ...columns.map((column) => (sideways(column) ? 1 : lengthOf(column, row))));
  }
  let x = 0;
  for (const column of columns) {
    const [across, down] = sideways(column) ? [BOX_WIDTH + GAP, 0] : [0, BOX_HEIGHT + ROW_GAP];
    for (const [r, row] of rows.entries()) {
      for (const [i, block] of (cells.get(`${column} ${row}`) ?? []).entries())
        boxes.set(block.path, { block, x: x + i * across, y: lines[r] * (BOX_HEIGHT + ROW_GAP) + i * down });
    }
    x += BOX_WIDTH + COLUMN_GAP[shape] + across * (Math.max(...rows.map((row) => lengthOf(column, row))) - 1);
  }
  const curves = graph.edges.map(({ from, to }) => {
    const [a, b] = [boxes.get(from)!, boxes.get(to)!];
    return { from, to, path: curve(a, b), skip: places.get(from)!.column !== places.get(to)!.column };
  });
  return { boxes: [...boxes.values()], lines: curves, width: x - COLUMN_GAP[shape], height: line * (BOX_HEIGHT + ROW_GAP) - ROW_GAP };
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
