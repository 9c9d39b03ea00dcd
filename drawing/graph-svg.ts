/**
 * A graph of blocks as an SVG picture: what each block is, the shape that leaves it, its parameters and its share of the work. Light or dark as
 * the reader's system is; text can be searched and selected.
 */
import type { Shape } from '../core/tensor.ts';
import type { BlockGraph, GraphBlock, Work } from './graph-blocks.ts';
import { type Place, placesOf } from './graph-layout.ts';

const [WIDTH, GAP_X, GAP_Y, GAP_STACK, MARGIN] = [316, 56, 30, 22, 24];
/** About as wide as a letter is. */
const LETTER = 6.6;
const [LINE, PAD, HEADER] = [16, 9, 56];

const STYLE = `
  svg { font: 12px system-ui, sans-serif; --back: #fff; --box: #f4f6fa; --edge: #8a94a6; --text: #1b1b1b; --dim: #595959; --work: #0b57d0; --skip: #0a7d4b; }
  @media (prefers-color-scheme: dark) { svg { --back: #141414; --box: #1f2329; --edge: #7c8594; --text: #ededed; --dim: #a6a6a6; --work: #8ab4f8; --skip: #6dd58c; } }
  .back { fill: var(--back); } text { fill: var(--text); white-space: pre; } .dim { fill: var(--dim); } .name { font-weight: 600; } .title { font-size: 18px; font-weight: 600; }
  .box { fill: var(--box); stroke: var(--edge); } .share { fill: var(--work); } .edge { fill: none; stroke: var(--edge); stroke-width: 1.5; }
  .skip { stroke: var(--skip); } .arrow { fill: var(--edge); } .arrow.skip { fill: var(--skip); stroke: none; } .end { text-anchor: end; }`;

interface Box extends Place {
  block: GraphBlock;
  lines: { left: string; right: string; dim?: boolean }[];
  x: number;
  y: number;
  height: number;
}

/** The SVG file. `title` says which network it is and for which size. */
export function drawGraph(graph: BlockGraph, title: string): string {
  const prefix = commonPath(graph.blocks.map(({ path }) => path));
  const { boxes, height, gutters, ...sizes } = arrange(graph, prefix);
  const most = Math.max(...graph.blocks.map(({ flops }) => flops));
  const total = graph.blocks.reduce(
    (sum, { parameters, flops }) => ({ parameters: sum.parameters + parameters, flops: sum.flops + flops }),
    {
      parameters: 0,
      flops: 0,
    },
  );
  const inputs = graph.inputs.map(({ name, shape }) => `${name} ${shown(shape)}`).join('   ');
  const header = [`${title}: ${amount(total.parameters)} parameters, ${amount(total.flops)}FLOP`, `Inputs: ${inputs}`];
  const width = Math.max(sizes.width, 2 * MARGIN + header[0].length * 11, 2 * MARGIN + header[1].length * LETTER);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title">
<title id="title">${escaped(header[0])}</title>
<style>${STYLE}
</style>
<rect class="back" width="${width}" height="${height}"/>
<text class="title" x="${MARGIN}" y="34">${escaped(header[0])}</text>
<text class="dim" x="${MARGIN}" y="56">${escaped(header[1])}</text>
${graph.edges.map((edge) => drawnEdge(boxes.get(edge.from)!, boxes.get(edge.to)!, boxes, gutters)).join('\n')}
${[...boxes.values()].map((box) => drawnBox(box, most)).join('\n')}
</svg>
`;
}

/** Sizes and positions of the boxes; `gutters` are the lower ends of the rows. */
function arrange(graph: BlockGraph, prefix: string): { boxes: Map<string, Box>; width: number; height: number; gutters: number[] } {
  const places = placesOf(graph);
  const boxes = new Map<string, Box>();
  for (const block of graph.blocks) {
    const lines = described(block, prefix);
    boxes.set(block.path, { block, ...places.get(block.path)!, lines, x: 0, y: 0, height: 2 * PAD + lines.length * LINE });
  }
  const all = [...boxes.values()];
  const cell = (row: number, column: number) => all.filter((box) => box.row === row && box.column === column);
  const stacked = (stack: Box[]) => stack.reduce((sum, { height }) => sum + height, GAP_STACK * Math.max(0, stack.length - 1));
  const [rows, columns] = [1 + Math.max(...all.map(({ row }) => row)), 1 + Math.max(...all.map(({ column }) => column))];
  const gutters: number[] = [];
  let top = HEADER + MARGIN;
  for (let row = 0; row < rows; row++) {
    const cells = Array.from({ length: columns }, (_, column) => cell(row, column));
    const height = Math.max(...cells.map(stacked));
    for (const [column, stack] of cells.entries()) {
      const up = stack[0]?.up;
      let y = up ? top + height : top;
      for (const box of stack) {
        box.x = MARGIN + column * (WIDTH + GAP_X);
        box.y = up ? y - box.height : y;
        y += (up ? -1 : 1) * (box.height + GAP_STACK);
      }
    }
    top += height + (height > 0 ? GAP_Y : 0);
    gutters.push(top - GAP_Y);
  }
  return { boxes, gutters, height: top - GAP_Y + MARGIN, width: 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP_X };
}

function described(block: GraphBlock, prefix: string): Box['lines'] {
  const last = block.count > 1 ? ` to ${Number(/\d+$/.exec(block.path)![0]) + block.count - 1}` : '';
  const lines: Box['lines'] = [
    { left: `${block.path.slice(prefix.length)}${last}`, right: '' },
    { left: `→ ${shown(block.shape)}`, right: amounts(block) },
  ];
  const parts = block.parts.some(({ kind }) => kind) ? block.parts : [];
  if (block.kind || parts.length === 0)
    lines.push({ left: [block.kind, operations(block)].filter(Boolean).join(': '), right: '', dim: true });
  for (const part of parts) lines.push({ left: `${part.path}  ${part.kind || operations(part)}`, right: amounts(part), dim: true });
  const reads = block.reads.map((name) => name.slice(commonPath([name, block.path]).length));
  if (reads.length > 0) lines.push({ left: `reads ${reads.join(', ')}`, right: '', dim: true });
  return lines;
}

function drawnBox({ block, lines, x, y, height }: Box, most: number): string {
  const fitting = (text: string, right: string, i: number) => {
    const most = Math.floor((WIDTH - 20) / LETTER - right.length - (i === 0 ? 4 : 0));
    if (text.length <= most) return text;
    return i === 0 ? `…${text.slice(1 - most)}` : `${text.slice(0, most - 1)}…`;
  };
  const text = lines.map(({ left, right, dim }, i) => {
    const style = i === 0 ? 'name' : dim ? 'dim' : '';
    const at = y + PAD + (i + 1) * LINE - 4;
    const end = right ? `<text class="${style} end" x="${x + WIDTH - 10}" y="${at}">${escaped(right)}</text>` : '';
    return `<text class="${style}" x="${x + 10}" y="${at}">${escaped(fitting(left, right, i))}</text>${end}`;
  });
  const share = most > 0 ? Math.round((block.flops / most) * (WIDTH - 2)) : 0;
  return `<g><rect class="box" x="${x}" y="${y}" width="${WIDTH}" height="${height}" rx="4"/>
<rect class="share" x="${x + 1}" y="${y + height - 4}" width="${share}" height="3"/>
${text.join('\n')}</g>`;
}

/** Straight where the boxes are neighbours, else along the gaps between columns and rows. */
function drawnEdge(from: Box, to: Box, boxes: Map<string, Box>, gutters: number[]): string {
  const middle = (box: Box) => box.x + WIDTH / 2;
  const [bottom, top] = [from.y + from.height, to.y + to.height];
  if (from.column === to.column) {
    // Two that read each other, such as a block that attends to a feature half-way, have an arrow each.
    const x = middle(from) + (from.row === to.row ? (to.y < from.y ? -40 : 40) : 0);
    const down = to.y > from.y;
    const between = ({ column, y }: Box) => column === to.column && y > Math.min(from.y, to.y) && y < Math.max(from.y, to.y);
    if (![...boxes.values()].some(between))
      return path(
        [
          [x, down ? bottom : from.y],
          [x, down ? to.y : top],
        ],
        false,
      );
    const side = from.x + WIDTH + 14;
    const [leave, arrive] = [from.y + 14, top - 14];
    return path(
      [
        [from.x + WIDTH, leave],
        [side, leave],
        [side, arrive],
        [to.x + WIDTH, arrive],
      ],
      false,
    );
  }
  const skip = to.up && from.column < to.column;
  const near = to.column - from.column === 1;
  const leave = from.y + from.height / 2 + (near ? 0 : 10);
  const arrive = to.y + to.height / 2 + (near ? -8 : 8);
  const [out, into] = [from.x + WIDTH + 16, to.x - (near ? 24 : 14)];
  if (near)
    return path(
      [
        [from.x + WIDTH, leave],
        [into, leave],
        [into, arrive],
        [to.x, arrive],
      ],
      skip,
    );
  const gutter = gutters[from.row] + GAP_Y / 2;
  return path(
    [
      [from.x + WIDTH, leave],
      [out, leave],
      [out, gutter],
      [into, gutter],
      [into, arrive],
      [to.x, arrive],
    ],
    skip,
  );
}

/** A line through points with round corners and an arrow's head at its end. */
function path(points: [number, number][], skip: boolean): string {
  const style = skip ? ' skip' : '';
  const [end, before] = [points[points.length - 1], points[points.length - 2]];
  const [dx, dy] = [Math.sign(end[0] - before[0]), Math.sign(end[1] - before[1])];
  const line = points.map(([x, y], i) => {
    if (i === 0) return `M${x} ${y}`;
    if (i === points.length - 1) return `L${x - 5 * dx} ${y - 5 * dy}`;
    const toward = ([a, b]: [number, number]) => {
      const length = Math.hypot(a - x, b - y) || 1;
      const radius = Math.min(6, length / 2);
      return `${x + ((a - x) / length) * radius} ${y + ((b - y) / length) * radius}`;
    };
    return `L${toward(points[i - 1])} Q${x} ${y} ${toward(points[i + 1])}`;
  });
  const [x, y] = end;
  const head = `M${x} ${y} L${x - 8 * dx + 4 * dy} ${y - 8 * dy + 4 * dx} L${x - 8 * dx - 4 * dy} ${y - 8 * dy - 4 * dx} Z`;
  return `<path class="edge${style}" d="${line.join(' ')}"/><path class="arrow${style}" d="${head}"/>`;
}

/** The operations that read weights or mix tokens, with their number. */
function operations({ operations }: Work): string {
  const names: Record<string, string> = {
    conv2d: 'convolution',
    linear: 'linear',
    attention: 'attention',
    groupNorm: 'group norm',
    layerNorm: 'layer norm',
  };
  const told = Object.entries(names).flatMap(([key, name]) =>
    operations[key] ? [`${operations[key] > 1 ? `${operations[key]} ` : ''}${name}`] : [],
  );
  return told.join(', ') || 'elementwise';
}

const amounts = ({ parameters, flops }: Work): string => `${amount(parameters)}${flops > 0 ? `   ${amount(flops)}FLOP` : ''}`;

/** Three digits and the letter of the thousands. */
export function amount(value: number): string {
  const exponent = Math.min(5, Math.max(0, Math.floor(Math.log10(Math.max(value, 1)) / 3)));
  return `${Number((value / 1000 ** exponent).toPrecision(3))} ${['', 'k', 'M', 'G', 'T', 'P'][exponent]}`;
}

const shown = (shape: Shape): string => shape.join(' × ');

/** The path that all begin with, with its last dot. */
function commonPath(paths: string[]): string {
  const shared = paths.reduce((prefix, path) => prefix.slice(0, commonLength(prefix, path)));
  return shared.slice(0, shared.lastIndexOf('.') + 1);
}

function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < Math.min(a.length, b.length) && a[length] === b[length]) length++;
  return length;
}

const escaped = (text: string): string => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
