/**
 * Convolutions of few output or few input channels, of which a tile of the implicit matmul would mostly compute columns that nobody asked for, or end a sum
 * as soon as it has begun.
 * - Few outputs: every pixel is multiplied with every tap of every output channel, in a matmul of plain rows, and the products of a window are added up
 *   behind it (kn2row; Vasudevan, Anderson & Gregg 2017). They are fewer than the pixel's channels.
 * - Few inputs, on adapters that compute a subgroup at a time: a lane keeps some whole windows and goes through all output channels, whose weights are
 *   handed round, so that a sum is never stored before it is ready.
 */
import type { AdapterFacts } from '../core/adapter.ts';
import type { Lowering } from '../core/op.ts';
import { type DType, each, elementType, loopBelow, remembered, shader } from '../core/shader.ts';
import { sizeOf } from '../core/shape.ts';
import { lowerRows, lowerTranspose } from './copy.ts';
import {
  EPILOGUE_PARAMS,
  type Epilogue,
  epilogueBindings,
  epilogueName,
  epilogueOf,
  epilogueOperands,
  epilogueParams,
  epilogueWgsl,
} from './epilogue.ts';
import { adaptersAsResidual, type ImplicitMatmul, lowerImplicitMatmul, plainRows, windowParams } from './implicit-matmul.ts';
import { handRound } from './implicit-matmul-subgroup.ts';
import { WINDOW_PARAMS } from './matmul-variant.ts';
import { TILES } from './tile-choice.ts';

/** WGSL of where `row` lies, which takes divisions. */
const ofRow = `let out_line = row / p.ow;
  let image = out_line / p.oh;`;

/** WGSL that walks through the taps of a row: `pixel` is x's under the tap, if it is `inside`. Below zero numbers wrap around, to more than any size. */
const overTaps = (body: string) =>
  loopBelow(
    'ky',
    'p.kh',
    `let y = (out_line - image * p.oh) * p.stride + ky - p.top;
    let line = (image * (p.h >> p.zoom) + (y >> p.zoom)) * (p.width >> p.zoom);
    ${loopBelow(
      'kx',
      'p.kw',
      `let x = (row - out_line * p.ow) * p.stride + kx - p.left;
      let inside = y < p.h && x < p.width;
      let pixel = select(0u, line + (x >> p.zoom), inside);
      ${body}`,
    )}`,
  );

const tapsOf = ({ window }: ImplicitMatmul) => window.kh * window.kw;

/**
 * Whether products of pixels and taps are the better way, of weights that are not turned: no more than a pixel of x and its result have channels, so that
 * they take no memory to speak of, and in fewer columns of tiles than the results of all taps.
 */
export function hasFewOutputs(m: ImplicitMatmul): boolean {
  const taps = tapsOf(m);
  const tile = TILES.small.columns;
  const computed = (columns: number) => tile * Math.ceil(columns / tile);
  const pixels = sizeOf(m.x.shape) / m.channels;
  const all = taps * m.columns;
  return !m.turned && taps > 1 && all <= m.channels + m.columns && pixels * computed(all) < m.rows * taps * computed(m.columns);
}

/** Emits a convolution as products of pixels and taps, and their sums. */
export function lowerByTaps(to: Lowering, convolution: ImplicitMatmul): void {
  const m = adaptersAsResidual(to, convolution);
  const taps = tapsOf(m);
  const pixels = sizeOf(m.x.shape) / m.channels;
  const { channels } = m;
  // The products are stored in fours; those beyond the taps are of no account.
  const all = taps * m.columns;
  const stored = 4 * Math.ceil(all / 4);
  const windows = to.scratch('windows', [1, stored, channels]);
  lowerRows(to, { ...m.w, shape: [1, all, channels] }, windows, 0, 0);
  const products = to.scratch('products with taps', [pixels, stored]);
  lowerImplicitMatmul(to, {
    ...{ x: m.x, w: windows, bias: null, residual: null, output: products, activation: 'none' },
    ...{ rows: pixels, columns: stored, channels, batch: 1 },
    ...plainRows(pixels),
  });
  const step = [4, 3, 2, 1].find((n) => m.columns % n === 0)!;
  to.dispatch({
    shader: tapSumsShader(step, epilogueOf(m, 1)),
    operands: { products, ...epilogueOperands(m) },
    params: { rows: m.rows, columns: m.columns, taps, stored, ...windowParams(m), ...epilogueParams(m, m.rows) },
    threads: m.rows,
    flops: m.rows * all,
  });
}

/** products (N, H, W, O kh kw and some more) -> y (N, OH, OW, O). A thread adds up those of a pixel of the result, `step` columns at a time. */
const tapSumsShader = remembered((step: number, epilogue: Epilogue) => {
  const columns = (line: (j: number) => string) => each(step, line);
  return shader({
    name: `sum of taps x${step} ${epilogueName(epilogue)}`,
    bindings: { products: { dtype: 'f32', width: 1 }, ...epilogueBindings(epilogue) },
    params: { rows: 'u32', columns: 'u32', taps: 'u32', stored: 'u32', ...WINDOW_PARAMS, ...EPILOGUE_PARAMS },
    workgroup: 64,
    code: `
${epilogueWgsl(epilogue)}
fn run(row: u32, group: u32, local: u32) {
  if (row >= p.rows) { return; }
  ${ofRow}
  ${loopBelow(
    'column',
    'p.columns',
    `${columns((j) => `var sum${j} = 0.0;`)}
    var at = column * p.taps;
    ${overTaps(`let place = pixel * p.stored + at;
      ${columns((j) => `sum${j} += select(0.0, products_load(place + ${j}u * p.taps), inside);`)}
      at++;`)}
    ${columns((j) => `finish(0u, row, column + ${j}u, sum${j});`)}`,
    `${step}u`,
  )}
}`,
  });
});

/** Elements of a window that a lane keeps at most, of each of so many rows. */
const KEPT = 36;
const ROWS = 8;

/** Whether a lane can keep whole windows, of weights that are not turned, and goes through output channels in fours. */
export function hasFewInputs(m: ImplicitMatmul, { schedule }: AdapterFacts): boolean {
  const k = tapsOf(m) * m.channels;
  return schedule === 'subgroup' && !m.turned && tapsOf(m) > 1 && k <= KEPT && k <= m.columns && m.columns % 4 === 0;
}

/** Emits a convolution whose windows are kept. */
export function lowerKeptWindows(to: Lowering, convolution: ImplicitMatmul): void {
  const m = adaptersAsResidual(to, convolution);
  const k = tapsOf(m) * m.channels;
  const width = m.channels % 4 === 0 ? 4 : 1;
  const lanes = to.facts.subgroupSizes[0];
  // An image's rows have groups of their own, so that one load of a bias serves all rows of a lane.
  const groups = Math.ceil((m.image.oh * m.image.ow) / (ROWS * lanes));
  const columns = to.scratch('weights by column', [1, k, m.columns]);
  lowerTranspose(to, { ...m.w, shape: [1, m.columns, k] }, columns);
  to.dispatch({
    shader: keptWindowsShader(lanes, m.x.dtype, width, epilogueOf(m, 4)),
    operands: { x: m.x, w: columns, ...epilogueOperands(m) },
    params: {
      ...{ rows: m.rows, columns: m.columns, channels: m.channels / width, k, groups, of_lane: ROWS },
      ...windowParams(m),
      ...epilogueParams(m, m.rows),
    },
    threads: m.x.shape[0] * groups * lanes,
    flops: 2 * m.rows * m.columns * k,
  });
}

/** x (N, H, W, C), w (kh kw C, O) -> y (N, OH, OW, O). A lane has ROWS rows of the result, of which it makes four columns at a time. */
const keptWindowsShader = remembered((lanes: number, x: DType, width: 1 | 4, epilogue: Epilogue) => {
  const loads = Math.ceil(KEPT / lanes);
  const biased = epilogue.column === 'add';
  const rows = (line: (r: number) => string) => each(ROWS, line);
  return shader({
    name: `kept windows ${x}x${width} ${epilogueName(epilogue)} subgroup ${lanes}`,
    bindings: { x: { dtype: x, width }, w: { dtype: 'f32', width: 4 }, ...epilogueBindings(epilogue) },
    params: { rows: 'u32', columns: 'u32', channels: 'u32', k: 'u32', groups: 'u32', of_lane: 'u32', ...WINDOW_PARAMS, ...EPILOGUE_PARAMS },
    workgroup: lanes,
    subgroups: true,
    code: `
${epilogueWgsl({ ...epilogue, column: biased ? 'none' : epilogue.column })}
fn run(id: u32, group: u32, local: u32) {
  let of_image = group / p.groups;
  let begin = of_image * p.oh * p.ow;
  let end = min(begin + p.oh * p.ow, p.rows);
  if (begin >= end) { return; }
  let first = begin + (group - of_image * p.groups) * ${ROWS * lanes}u + local;
  // What a window is shorter than the array stays zero.
  var kept: array<f32, ${ROWS * KEPT}>;
  // Bounds of loops are not constants: drivers would unroll them.
  ${loopBelow(
    'i',
    'p.of_lane',
    `let row = min(first + i * ${lanes}u, end - 1u);
    var to = i * ${KEPT}u;
    ${ofRow}
    ${overTaps(
      loopBelow(
        'c',
        'p.channels',
        `let v = select(${elementType({ dtype: 'f32', width })}(0.0), x_load(pixel * p.channels + c), inside);
        ${each(width, (j) => `kept[to + ${j}u] = v${width === 4 ? `[${j}]` : ''};`)}
        to += ${width}u;`,
      ),
    )}`,
  )}
  let fours = p.columns / 4u;
  ${each(loads, (i) => `let at${i} = min(${i * lanes}u + local, p.k - 1u) * fours;`)}
  ${rows((r) => `let row${r} = select(p.rows, first + ${r * lanes}u, first + ${r * lanes}u < end);`)}
  ${loopBelow(
    'four',
    'fours',
    `let start = ${biased ? 'bias_load(of_image * p.bias_step / 4u + four)' : 'vec4<f32>(0.0)'};
    ${rows((r) => `var s${r} = start;`)}
    ${each(loads, (i) => `let w${i} = w_load(at${i} + four);`)}
    ${each(KEPT, (j) => `{ let v = ${handRound(lanes)}(w${Math.floor(j / lanes)}, ${j % lanes}u); ${rows((r) => `s${r} += kept[${r * KEPT + j}] * v;`)} }`)}
    ${rows((r) => `finish4(0u, row${r}, 4u * four, s${r});`)}`,
  )}
}`,
  });
});
