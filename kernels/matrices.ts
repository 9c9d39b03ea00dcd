/**
 * Matrices that the threads of a subgroup hold and multiply together, as a GPU's matrix units do. Native ones are WGSL's subgroup matrices, an
 * experiment of Chromium's (gpuweb proposal subgroup-matrix). Emulated ones are the same operations in plain WGSL, slow but without any
 * feature, so that a schedule made of them can be checked on adapters that have none.
 *
 * Both name their types Left, Right and Sums, and multiply what lies in x_tile (by rows) and w_tile (by columns) in workgroup memory. Four numbers as
 * they lie there are a Four: halves in two words, or f32.
 */
import type { MatrixUnit } from '../core/adapter.ts';
import { each } from '../core/shader.ts';

/** Each method gives WGSL; `at` counts numbers of a tile or of results, and must be seen by compilers to stay inside. */
export interface Matrices {
  name: string;
  native: boolean;
  /** Types, tiles of that many numbers, and a function `four(vec4<f32>) -> Four`. */
  declarations(x: number, w: number): string;
  /** Stores a Four at a multiple of four. */
  keep(tile: string, at: string, four: string): string;
  /** A matrix of rows of x_tile, and one of columns of w_tile. */
  left(at: string): string;
  right(at: string): string;
  zeros: string;
  /** Adds the product of both to sums. */
  multiplyAdd(left: string, right: string, sums: string): string;
  /** Stores row by row in an array of f32. */
  store(results: string, at: string, sums: string): string;
  /** Statements for each number below `count`. */
  repeat(counter: string, count: number, body: (i: string) => string): string;
}

/** The matrices of a unit; rows of x_tile and columns of w_tile begin `stride` numbers apart. */
export function matricesOf(unit: MatrixUnit, native: boolean, stride: number): Matrices {
  return native ? nativeMatrices(unit, stride) : emulatedMatrices(unit, stride);
}

/** What a unit is called, in names of shaders and in reports. */
export const unitName = ({ input, m, n, k, lanes }: MatrixUnit): string => `${input} ${m}x${n}x${k} of ${lanes}`;

function nativeMatrices(unit: MatrixUnit, stride: number): Matrices {
  const { input, m, n, k } = unit;
  const halves = input === 'f16';
  return {
    name: `matrix ${unitName(unit)}`,
    native: true,
    // Types count columns before rows.
    declarations: (x, w) => `
alias Left = subgroup_matrix_left<${input}, ${k}, ${m}>;
alias Right = subgroup_matrix_right<${input}, ${n}, ${k}>;
alias Sums = subgroup_matrix_result<f32, ${n}, ${m}>;
alias Four = ${FOUR[input]};
var<workgroup> x_tile: array<${input}, ${x}>;
var<workgroup> w_tile: array<${input}, ${w}>;
fn four(v: vec4<f32>) -> Four { return ${halves ? 'bitcast<vec2<u32>>(vec4<f16>(v))' : 'v'}; }`,
    keep: (tile, at, four) =>
      `{ let h = ${halves ? `bitcast<vec4<f16>>(${four})` : four}; ${each(4, (i) => `${tile}[${at} + ${i}u] = h[${i}];`)} }`,
    left: (at) => `subgroupMatrixLoad<Left, row_major>(&x_tile, ${at}, ${stride}u)`,
    right: (at) => `subgroupMatrixLoad<Right, col_major>(&w_tile, ${at}, ${stride}u)`,
    // Sums() is not zero in an array: Mesa 25.0 compiles it to arbitrary numbers.
    zeros: 'Sums(0.0)',
    multiplyAdd: (left, right, sums) => `${sums} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sums});`,
    store: (results, at, sums) => `subgroupMatrixStore<row_major>(&${results}, ${at}, ${sums}, ${n}u);`,
    // Not a loop: compilers would keep the matrices that it counts through in memory.
    repeat: (_counter, count, body) => each(count, (i) => `{ ${body(`${i}u`)} }`),
  };
}

const FOUR = { f16: 'vec2<u32>', f32: 'vec4<f32>' } as const;

/** A loop whose bound is not a constant: CPU drivers would unroll it, and compile its loads and stores that many times. */
const repeat: Matrices['repeat'] = (i, count, body) =>
  count === 1 ? `{ ${body('0u')} }` : `for (var ${i} = 0u; ${i} < min(${count}u, ${count}u * p.columns); ${i}++) { ${body(i)} }`;

/** A thread has some sums that follow one another in a row; left and right are the places of its row and of its first column. */
function emulatedMatrices(unit: MatrixUnit, stride: number): Matrices {
  const { input, m, n, k, lanes } = unit;
  const each4 = input === 'f16' ? 2 : 1;
  const share = (m * n) / lanes;
  const [row, column] = [`(local % ${lanes}u) * ${share}u / ${n}u`, `(local % ${lanes}u) * ${share}u % ${n}u`];
  const product =
    input === 'f16'
      ? (left: string, right: string, s: string, q: string) =>
          `dot(unpack2x16float(x_tile[${left} / 2u + ${q}]), unpack2x16float(w_tile[${right} / 2u + ${stride / 2}u * ${s} + ${q}]))`
      : (left: string, right: string, s: string, q: string) => `x_tile[${left} + ${q}] * w_tile[${right} + ${stride}u * ${s} + ${q}]`;
  return {
    name: `emulated matrix ${unitName(unit)}`,
    native: false,
    declarations: (x, w) => `
alias Left = u32;
alias Right = u32;
alias Sums = array<f32, ${share}>;
alias Four = ${FOUR[input]};
var<workgroup> x_tile: array<${input === 'f16' ? 'u32' : 'f32'}, ${x / each4}>;
var<workgroup> w_tile: array<${input === 'f16' ? 'u32' : 'f32'}, ${w / each4}>;
fn four(v: vec4<f32>) -> Four { return ${input === 'f16' ? 'vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw))' : 'v'}; }`,
    keep: (tile, at, four) => each(4 / each4, (i) => `${tile}[(${at}) / ${each4}u + ${i}u] = ${four}[${i}];`),
    left: (at) => `${at} + ${stride}u * (${row})`,
    right: (at) => `${at} + ${stride}u * (${column})`,
    zeros: 'Sums()',
    multiplyAdd: (left, right, sums) =>
      repeat('s', share, (s) => repeat('q', k / each4, (q) => `${sums}[${s}] += ${product(left, right, s, q)};`)),
    store: (results, at, sums) => repeat('e', share, (e) => `${results}[${at} + (local % ${lanes}u) * ${share}u + ${e}] = ${sums}[${e}];`),
    repeat,
  };
}
