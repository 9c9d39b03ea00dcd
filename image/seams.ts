/**
 * Seams: whether the lines along which tiles begin and end can be seen in a picture. The gradient energy across such a line is compared with
 * that of the lines around it, and this ratio with what it is along all other lines.
 */
import type { Image } from './image.ts';

export interface SeamReport {
  /** Lines between two columns or rows of pixels where a tile begins or ends: `at` is the pixel behind the line. */
  borders: { across: 'columns' | 'rows'; at: number; ratio: number }[];
  /** Mean ratio of the borders, and of other lines; alike where there is no seam. */
  border: number;
  elsewhere: number;
  /** Of 100 other lines, 99 have a ratio up to this. */
  elsewhere99: number;
}

/** Lines on either side that a line is compared with. */
const AROUND = 8;
/** Energy of two roundings to levels, so that flat parts have a ratio too. */
const ROUNDING = 2 / 12;

/**
 * `columns` and `rows`: the pixels at which tiles begin or end, without the picture's own borders. `grid`: other lines are every so many pixels, so
 * that JPEG's blocks and the decoder's enlargements, whose lines the borders are too, do not pass for seams. `plain`: the same scene without tiles,
 * such as the stage-1 image; ratios are then over its, so that a horizon on a border does not pass for one either.
 */
export function measureSeams(image: Image, columns: readonly number[], rows: readonly number[], grid = 8, plain?: Image): SeamReport {
  const across = (step: (of: Image) => number) => {
    const own = ratios(energies(image, step(image)));
    const other = plain && ratios(energies(plain, step(plain)));
    return other ? own.map((ratio, at) => ratio / other[at]) : own;
  };
  const [acrossColumns, acrossRows] = [across(() => 1), across(({ width }) => width)];
  const borders: SeamReport['borders'] = [
    ...columns.map((at) => ({ across: 'columns' as const, at, ratio: acrossColumns[at] })),
    ...rows.map((at) => ({ across: 'rows' as const, at, ratio: acrossRows[at] })),
  ];
  const others = [...without(acrossColumns, columns, grid), ...without(acrossRows, rows, grid)].sort((a, b) => a - b);
  return {
    borders,
    border: mean(borders.map(({ ratio }) => ratio)),
    elsewhere: mean(others),
    elsewhere99: others[Math.floor(0.99 * (others.length - 1))],
  };
}

/** Where windows of tiled sampling begin and end in a picture, in pixels; `factor` pixels are a latent pixel. */
export function windowBorders(
  windows: readonly { y0: number; y1: number; x0: number; x1: number }[],
  { width, height }: Pick<Image, 'width' | 'height'>,
  factor: number,
): { columns: number[]; rows: number[] } {
  const inside = (ends: number[], size: number) =>
    [...new Set(ends.map((end) => end * factor))].filter((end) => end > 0 && end < size).sort((a, b) => a - b);
  return {
    columns: inside(
      windows.flatMap(({ x0, x1 }) => [x0, x1]),
      width,
    ),
    rows: inside(
      windows.flatMap(({ y0, y1 }) => [y0, y1]),
      height,
    ),
  };
}

/** Mean squared difference, in levels, between a column or row of pixels and the one before; of the first, 0. `step`: 1 for columns, the width for rows. */
function energies({ width, height, data }: Image, step: number): Float64Array {
  const lines = new Float64Array(step === 1 ? width : height);
  for (let pixel = step; pixel < width * height; pixel++) {
    const line = step === 1 ? pixel % width : Math.floor(pixel / width);
    if (line === 0) continue;
    for (let c = 0; c < 3; c++) lines[line] += (data[3 * pixel + c] - data[3 * (pixel - step) + c]) ** 2;
  }
  const samples = (3 * width * height) / lines.length;
  return lines.map((sum) => sum / samples);
}

/** Each line's energy over the median of those around it; NaN near the ends. */
function ratios(energy: Float64Array): Float64Array {
  return energy.map((own, at) => {
    if (at <= AROUND || at + AROUND >= energy.length) return Number.NaN;
    const around = [...energy.subarray(at - AROUND, at), ...energy.subarray(at + 1, at + 1 + AROUND)].sort((a, b) => a - b);
    return (own + ROUNDING) / ((around[AROUND - 1] + around[AROUND]) / 2 + ROUNDING);
  });
}

function without(values: Float64Array, lines: readonly number[], grid: number): number[] {
  return [...values].filter((value, at) => at % grid === 0 && !Number.isNaN(value) && !lines.includes(at));
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
