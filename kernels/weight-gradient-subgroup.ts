/**
 * The derivative by a convolution's weight for adapters that compute a subgroup at a time (CPU drivers): a workgroup is one subgroup, a lane owns four
 * columns of dw, of (O, kh kw C), and of some pixels at a time loads them from x and some output channels from g, which are handed round. As in
 * implicit-matmul-subgroup.ts a load serves some 20 multiply-adds; here they are an outer product, for both operands lie along the sum.
 */
import { fill } from '../core/fill.ts';
import type { Lowering, Operand } from '../core/op.ts';
import { type DType, each, remembered, shader } from '../core/shader.ts';
import { type ImplicitMatmul, isWindowed } from './implicit-matmul.ts';
import { handRound } from './implicit-matmul-subgroup.ts';

/** What is multiplied, g (N, OH, OW, O) and x (N, H, W, C), how x is seen under the window, and where the result is. */
export interface WeightGradient {
  g: Operand;
  x: Operand;
  window: ImplicitMatmul['window'];
  /** (slices, O, kh, kw, C): pixels are cut into slices, each with a result. */
  output: Operand;
  slices: number;
}

/** Element types of both operands, and how many channels a load moves. */
export interface Loads {
  g: DType;
  x: DType;
  loadsG: 1 | 4;
  loadsX: 1 | 4;
}

/** Uniform parameters of both schedules. */
export const SIZES = {
  count: 'u32',
  tiles: 'u32',
  per_slice: 'u32',
  pixels: 'u32',
  outs: 'u32',
  channels: 'u32',
  oh: 'u32',
  ow: 'u32',
  h: 'u32',
  width: 'u32',
  kh: 'u32',
  kw: 'u32',
  stride: 'u32',
  top: 'u32',
  left: 'u32',
} as const;

/** Values of SIZES, for `tiles` parts of the result. */
export function sizesOf({ g, x, window, slices }: WeightGradient, tiles: number) {
  const [n, oh, ow, outs] = g.shape;
  const [, h, width, channels] = x.shape;
  const pixels = n * oh * ow;
  const per_slice = Math.ceil(pixels / slices);
  return { ...window, oh, ow, h, width, outs, channels, pixels, per_slice, count: tiles * slices, tiles };
}

export function loadsOf({ g, x }: WeightGradient): Loads {
  const [loadsG, loadsX] = [g, x].map(({ shape }) => (shape[3] % 4 === 0 ? 4 : 1)) as (1 | 4)[];
  return { g: g.dtype, x: x.dtype, loadsG, loadsX };
}

/** Parts of the result, one for a workgroup. */
export function subgroupTiles(lanes: number, { g, x, window }: Pick<WeightGradient, 'g' | 'x' | 'window'>) {
  const rows = rowsOf(lanes, g.shape[3]);
  const columns = window.kh * window.kw * x.shape[3];
  const across = Math.ceil(columns / (4 * lanes));
  return { rows, columns, across, count: Math.ceil(g.shape[3] / rows) * across };
}

/** Emits the dispatch; with `adds` its sums are added to what the output holds. */
export function lowerOnSubgroups(to: Lowering, m: WeightGradient, adds = false): void {
  const { g, x, window, output } = m;
  const lanes = to.facts.subgroupSizes[0];
  const { rows, columns, across, count } = subgroupTiles(lanes, m);
  const sizes = sizesOf(m, count);
  const { oh, ow, h, width: w } = sizes;
  to.dispatch({
    shader: subgroupWeightGradient(lanes, rows, loadsOf(m), isWindowed({ image: { h, w, oh, ow }, window })),
    operands: { g, x, y: output },
    params: { ...sizes, column_tiles: across, columns, adds },
    threads: sizes.count * lanes,
    flops: 2 * sizes.pixels * g.shape[3] * columns,
  });
}

/** Output channels of a workgroup: of some numbers the one that leaves fewest idle; of four lanes half as many, as in implicit-matmul-subgroup.ts. */
function rowsOf(lanes: number, outs: number): number {
  const computed = (rows: number) => rows * Math.ceil(outs / rows);
  return (lanes < 8 ? [16, 24, 12] : [64, 32, 48, 24]).reduce((best, rows) => (computed(rows) < computed(best) ? rows : best));
}

/** Pixels that are taken in at a time. */
const pixelsOf = (lanes: number) => (lanes < 8 ? 2 : 4);

const subgroupWeightGradient = remembered((lanes: number, rows: number, { g, x, loadsG, loadsX }: Loads, windowed: boolean) => {
  /** Four output channels each that a lane loads of a pixel. */
  const quads = Math.ceil(rows / 4 / lanes);
  const pixels = pixelsOf(lanes);
  const perPixel = (line: (n: number) => string) => each(pixels, line);
  const quadOfG = (quad: string, n: number) =>
    loadsG === 4
      ? `g_load(g${n} + min(${quad}, p.outs / 4u - 1u))`
      : `vec4<f32>(${[0, 1, 2, 3].map((i) => `g_load(g${n} + min(4u * (${quad}) + ${i}u, p.outs - 1u))`).join(', ')})`;
  /** Of the columns that one load moves, the j-th of a lane: its place under the window, and in a pixel of x. */
  const perLoad = (line: (j: number) => string) => each(4 / loadsX, line);
  const loadOfX = (n: number, j: number) => `x_load(select(0u, a${n}_${j} + c${j}, in${n}_${j}))`;
  const zero = loadsX === 4 ? 'vec4<f32>(0.0)' : '0.0';
  const stored = (at: string, sum: string) => `var sum = ${sum}; if (p.adds != 0u) { sum += y_load(${at}); } y_store(${at}, sum);`;
  const row = (r: number) => {
    const [quad, from] = [Math.floor(r / 4 / lanes), Math.floor(r / 4) % lanes];
    const value = (n: number) => `${handRound(lanes)}(v${n}_${quad}.${'xyzw'[r % 4]}, ${from}u) * x${n}`;
    return `sums[${r}] += ${Array.from({ length: pixels }, (_, n) => value(n)).join(' + ')};`;
  };
  return shader({
    name: `weightGradient ${g}x${loadsG} ${x}x${loadsX} ${rows} rows${windowed ? ' windowed' : ''} subgroup ${lanes}`,
    bindings: {
      g: { dtype: g, width: loadsG },
      x: { dtype: x, width: loadsX },
      y: { dtype: 'f32', width: loadsX, write: true, read: true },
    },
    params: { ...SIZES, column_tiles: 'u32', columns: 'u32', adds: 'u32' },
    workgroup: lanes,
    subgroups: true,
    code: fill(TEXT, {
      ...{ rows, row_count: `${rows}`, lanes, pixels },
      columns: perLoad(
        (j) => `let k${j} = min(column + ${j * loadsX}u, p.columns - 1u);
  let tap${j} = k${j} / p.channels;
  let c${j} = (k${j} - tap${j} * p.channels) / ${loadsX}u;${
    windowed
      ? `
  let dy${j} = i32(tap${j} / p.kw) - i32(p.top);
  let dx${j} = i32(tap${j} % p.kw) - i32(p.left);`
      : ''
  }`,
      ),
      first_place: windowed ? 'var ox = first % p.ow;\n  var oy = (first / p.ow) % p.oh;\n  var image = first / (p.ow * p.oh);' : '',
      load: perPixel(
        (n) => `let known${n} = pixel + ${n}u < end;
    let g${n} = min(pixel + ${n}u, p.pixels - 1u) * (p.outs / ${loadsG}u);
    ${each(quads, (i) => `let v${n}_${i} = ${quadOfG(`row / 4u + ${i * lanes}u + local`, n)};`)}
    ${perLoad((j) => (windowed ? underWindow(n, j, loadsX) : `let in${n}_${j} = known${n};\n    let a${n}_${j} = (pixel + ${n}u) * (p.channels / ${loadsX}u);`))}
    ${
      loadsX === 4
        ? `let x${n} = select(${zero}, ${loadOfX(n, 0)}, in${n}_0);`
        : `let x${n} = vec4<f32>(${[0, 1, 2, 3].map((j) => `select(${zero}, ${loadOfX(n, j)}, in${n}_${j})`).join(', ')});`
    }
    ${windowed ? nextPlace(n) : ''}`,
      ),
      accumulate: each(rows, row),
      store:
        loadsX === 4
          ? `if (column < p.columns) { ${stored('(at + column) / 4u', 'sums[r]')} }`
          : `for (var j = 0u; j < 4u; j++) { if (column + j < p.columns) { ${stored('at + column + j', 'sums[r][j]')} } }`,
    }),
  });
});

/** The kernel, with places for what varies. */
const TEXT = `
fn run(id: u32, group: u32, local: u32) {
  if (group >= p.count) { return; }
  let slice = group / p.tiles;
  let tile = group - slice * p.tiles;
  let row_tile = tile / p.column_tiles;
  let row = row_tile * $rows;
  // Rows and columns beyond the edge repeat the last ones; they are not stored.
  let column = 4u * ((tile - row_tile * p.column_tiles) * $lanes + local);
  $columns
  let first = slice * p.per_slice;
  let end = min(first + p.per_slice, p.pixels);
  $first_place
  var sums: array<vec4<f32>, $row_count>;
  for (var pixel = first; pixel < end; pixel += $pixels) {
    $load
    $accumulate
  }
  // The bound is not a constant: compilers would unroll the loop.
  let known = min($rows, p.outs - row);
  for (var r = 0u; r < known; r++) {
    let at = (slice * p.outs + row + r) * p.columns;
    $store
  }
}`;

/** Where pixel n sees load j of x, and whether that lies inside. */
const underWindow = (n: number, j: number, loads: number) => `let y${n}_${j} = i32(oy * p.stride) + dy${j};
    let x${n}_${j} = i32(ox * p.stride) + dx${j};
    let in${n}_${j} = known${n} & (u32(y${n}_${j}) < p.h) & (u32(x${n}_${j}) < p.width);
    let a${n}_${j} = ((image * p.h + u32(y${n}_${j})) * p.width + u32(x${n}_${j})) * (p.channels / ${loads}u);`;

/** From pixel n to the next. */
const nextPlace = (n: number) => `let right${n} = ox + 1u == p.ow;
    let below${n} = right${n} && oy + 1u == p.oh;
    ox = select(ox + 1u, 0u, right${n});
    image += select(0u, 1u, below${n});
    oy = select(select(oy, oy + 1u, right${n}), 0u, below${n});`;
