/**
 * Matrices of 16 x 16 numbers that 32 threads hold and multiply together. `NATIVE` are WGSL's subgroup matrices, an experiment of Chromium's
 * that uses a GPU's matrix units (gpuweb proposal subgroup-matrix). `EMULATED` are the same operations in plain WGSL, slow but without any
 * feature, so that a schedule made of them can be checked on adapters that have none.
 *
 * Both name their types Left, Right (of halves) and Sums (of f32), and read x_tile and w_tile, halves in workgroup memory. In registers halves are
 * packed in pairs, as in storage.
 */

import { each } from '../core/shader.ts';

/** Rows and columns of a matrix. */
export const SIDE = 16;

/** Each method gives WGSL; `at` counts halves or f32 in an array, and must be seen by compilers to stay inside it. */
export interface Matrices {
  name: string;
  native: boolean;
  /** Types, arrays of that many halves, and functions `halves(vec4<f32>) -> vec2<u32>` and `multiply_add(Left, Right, Sums) -> Sums`. */
  declarations(x: number, w: number): string;
  /** The number among the workgroup's groups of 32 threads. */
  group: string;
  /** Stores four halves at a multiple of four. */
  keep(tile: string, at: string, halves: string): string;
  /** Matrices of x_tile and of w_tile, of rows and of columns that lie one after the other. */
  left(at: string): string;
  right(at: string): string;
  zeros: string;
  /** Stores row by row in an array of f32. */
  store(results: string, at: string, sums: string): string;
  /** Statements for each number below `count`. */
  repeat(counter: string, count: number, body: (i: string) => string): string;
}

export const NATIVE: Matrices = {
  name: 'matrix',
  native: true,
  declarations: (x, w) => `
alias Left = subgroup_matrix_left<f16, ${SIDE}, ${SIDE}>;
alias Right = subgroup_matrix_right<f16, ${SIDE}, ${SIDE}>;
alias Sums = subgroup_matrix_result<f32, ${SIDE}, ${SIDE}>;
var<workgroup> x_tile: array<f16, ${x}>;
var<workgroup> w_tile: array<f16, ${w}>;
fn halves(v: vec4<f32>) -> vec2<u32> { return bitcast<vec2<u32>>(vec4<f16>(v)); }
fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums { return subgroupMatrixMultiplyAccumulate(left, right, sums); }`,
  group: 'subgroup',
  keep: (tile, at, halves) => `{ let h = bitcast<vec4<f16>>(${halves}); ${each(4, (i) => `${tile}[${at} + ${i}u] = h[${i}];`)} }`,
  left: (at) => `subgroupMatrixLoad<Left, row_major>(&x_tile, ${at}, ${SIDE}u)`,
  right: (at) => `subgroupMatrixLoad<Right, col_major>(&w_tile, ${at}, ${SIDE}u)`,
  // Sums() is not zero in an array: Mesa 25.0 compiles it to arbitrary numbers.
  zeros: 'Sums(0.0)',
  store: (results, at, sums) => `subgroupMatrixStore<row_major>(&${results}, ${at}, ${sums}, ${SIDE}u);`,
  // Not a loop: compilers would keep the matrices that it counts through in memory.
  repeat: (_counter, count, body) => each(count, (i) => `{ ${body(`${i}u`)} }`),
};

/** A loop whose bound is not a constant: CPU drivers would unroll it, and compile its loads and stores that many times. */
const repeat: Matrices['repeat'] = (i, count, body) =>
  `for (var ${i} = 0u; ${i} < min(${count}u, ${count}u * p.columns); ${i}++) { ${body(i)} }`;

/** Half a row of sums in each thread; left and right are the places of a thread's row and of its first column. */
export const EMULATED: Matrices = {
  name: 'emulated matrix',
  native: false,
  declarations: (x, w) => `
alias Left = u32;
alias Right = u32;
alias Sums = array<f32, 8>;
var<workgroup> x_tile: array<u32, ${x / 2}>;
var<workgroup> w_tile: array<u32, ${w / 2}>;
fn halves(v: vec4<f32>) -> vec2<u32> { return vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw)); }
fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums {
  var s = sums;
  ${repeat('j', 8, (j) => repeat('k', 8, (k) => `s[${j}] += dot(unpack2x16float(x_tile[left / 2u + ${k}]), unpack2x16float(w_tile[right / 2u + 8u * ${j} + ${k}]));`))}
  return s;
}`,
  group: 'local / 32u',
  keep: (tile, at, halves) => `${tile}[(${at}) / 2u] = ${halves}.x; ${tile}[(${at}) / 2u + 1u] = ${halves}.y;`,
  left: (at) => `${at} + ${SIDE}u * (local % 16u)`,
  right: (at) => `${at} + ${8 * SIDE}u * (local % 32u / 16u)`,
  zeros: 'Sums()',
  store: (results, at, sums) =>
    repeat('e', 8, (e) => `${results}[${at} + ${SIDE}u * (local % 16u) + 8u * (local % 32u / 16u) + ${e}] = ${sums}[${e}];`),
  repeat,
};
