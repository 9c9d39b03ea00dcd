/** Line charts over sampling steps as an SVG file: panels one below the other, each with its own scale. */

export interface Panel {
  title: string;
  lines: { name: string; values: number[]; dashed?: boolean }[];
  /** Powers of ten evenly spaced; every value must be above 0. Infinite ones stand at the upper edge. */
  logarithmic?: boolean;
}

const [WIDTH, LEFT, RIGHT] = [720, 64, 16];
const [TOP, PANEL, GAP, BOTTOM] = [44, 130, 46, 44];

const STYLE = `
  svg { font: 13px system-ui, sans-serif; --back: #fff; --text: #1b1b1b; --dim: #595959; --grid: #e2e2e2; --one: #0b57d0; --two: #b3261e; }
  @media (prefers-color-scheme: dark) { svg { --back: #141414; --text: #ededed; --dim: #a6a6a6; --grid: #333; --one: #8ab4f8; --two: #f2b8b5; } }
  .back { fill: var(--back); } text { fill: var(--text); } .tick { fill: var(--dim); font-size: 11px; } .title { font-weight: 600; }
  .grid { stroke: var(--grid); } .line { fill: none; stroke-width: 2; } .one { stroke: var(--one); } .two { stroke: var(--two); stroke-dasharray: 5 4; }
  .dot { fill: var(--one); }`;

/** The SVG file; every line has a value for each step, the first step at the left. */
export function stepChart(title: string, panels: Panel[]): string {
  const height = TOP + panels.length * (PANEL + GAP) - GAP + BOTTOM;
  const steps = panels[0].lines[0].values.length;
  const x = (step: number) => LEFT + (steps === 1 ? 0.5 : (step - 1) / (steps - 1)) * (WIDTH - LEFT - RIGHT);
  const parts = panels.map((panel, i) => drawn(panel, TOP + i * (PANEL + GAP), x));
  const labels = stepLabels(steps).map(
    (step) => `<text class="tick" text-anchor="middle" x="${round(x(step))}" y="${height - 26}">${step}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">
<title id="title">${title}</title>
<style>${STYLE}
</style>
<rect class="back" width="${WIDTH}" height="${height}"/>
${parts.join('\n')}
${labels.join('\n')}
<text class="tick" text-anchor="middle" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${height - 8}">${title}: step</text>
</svg>
`;
}

function drawn({ title, lines, logarithmic = false }: Panel, top: number, x: (step: number) => number): string {
  const all = lines.flatMap(({ values }) => values).filter(Number.isFinite);
  const ticks = logarithmic ? powersOfTen(Math.min(...all), Math.max(...all)) : evenTicks(Math.min(0, ...all), Math.max(...all));
  const scale = logarithmic ? Math.log10 : (value: number) => value;
  const [low, high] = [scale(ticks[0]), scale(ticks[ticks.length - 1])];
  const y = (value: number) => top + PANEL - ((Math.min(scale(value), high) - low) / (high - low)) * PANEL;
  const grid = ticks.map(
    (value) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${round(y(value))}" y2="${round(y(value))}"/>` +
      `<text class="tick" text-anchor="end" x="${LEFT - 8}" y="${round(y(value) + 4)}">${value}</text>`,
  );
  const paths = lines.map(({ values, dashed }) => {
    const points = values.map((value, i) => `${round(x(i + 1))},${round(y(value))}`);
    if (points.length === 1) return `<circle class="dot" cx="${round(x(1))}" cy="${round(y(values[0]))}" r="3"/>`;
    return `<polyline class="line ${dashed ? 'two' : 'one'}" points="${points.join(' ')}"/>`;
  });
  const names = lines.length > 1 ? `: ${lines.map(({ name, dashed }) => `${name} (${dashed ? 'dashed' : 'solid'})`).join(', ')}` : '';
  return `<text class="title" x="${LEFT}" y="${top - 10}">${title}${names}</text>\n${grid.join('\n')}\n${paths.join('\n')}`;
}

/** Five to ten even values that reach from at most `low` to at least `high`. */
function evenTicks(low: number, high: number): number[] {
  const span = Math.max(high - low, 1e-6);
  const size = 10 ** Math.floor(Math.log10(span));
  const step = [0.25, 0.5, 1, 2].map((factor) => factor * size).find((each) => span / each <= 6) ?? 2 * size;
  const [first, last] = [Math.floor(low / step), Math.max(Math.ceil(high / step), Math.floor(low / step) + 1)];
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
}

function powersOfTen(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low));
  const last = Math.max(first + 1, Math.ceil(Math.log10(high)));
  return Array.from({ length: last - first + 1 }, (_, i) => Number((10 ** (first + i)).toPrecision(1)));
}

/** The first, the last, and about eight between. */
function stepLabels(steps: number): number[] {
  const every = Math.max(1, Math.ceil(steps / 9));
  const labels = Array.from({ length: Math.ceil(steps / every) }, (_, i) => 1 + i * every);
  if (labels[labels.length - 1] === steps) return labels;
  return [...(steps - labels[labels.length - 1] < every / 2 ? labels.slice(0, -1) : labels), steps];
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
