/**
 * Implicit matmul on a GPU's matrix units, for weights in f16 whose channels are in fours: an experiment, chosen only by
 * `openDevice({ schedule: 'matrix' })`. Tiles are those of the tiled schedule; 32 threads compute 32 x 64 of the 128 x 64 results, in matrices.
 *
 * Matrix units multiply halves, and x is f32: it is split into two halves, x = 64 (high + low / 2048), each with sums of its own, scaled so that
 * both keep clear of the ends of a half's range. (Ootomo & Yokota 2022, arXiv 2203.03341) Of x 23 bits remain from 2^-7 in absolute value on, and
 * below it all to 2^-30, if the matrix unit takes subnormal halves as they are; from 65504 * 64 = 4.2e6 on results are not numbers. Products are
 * exact, and sums are f32, rounded as the matrix unit does it.
 */
import { fill } from '../core/fill.ts';
import { each } from '../core/shader.ts';
import { TILE, type TileProduct, tiledMatmul } from './implicit-matmul-tiled.ts';
import type { MatmulVariant } from './matmul-variant.ts';
import { type Matrices, SIDE } from './matrices.ts';

/** Other weights would have to be split as well: three products instead of two. */
export function suitsMatrices({ w, inWidth }: MatmulVariant): boolean {
  return w === 'f16' && inWidth === 4;
}

export function matrixMatmul(matrices: Matrices, variant: MatmulVariant) {
  return tiledMatmul(variant, productOf(matrices));
}

/** Halves of a matrix, and of the tile's high parts, behind which lie the low ones. */
const MATRIX = SIDE * SIDE;
const HIGH = TILE.rows * SIDE;
/** Of x, and of what remains of it. */
const [SCALE, REST] = [2 ** -6, 2 ** 11];

function productOf({ name, native, declarations, group, keep, left, right, zeros, store, repeat }: Matrices): TileProduct {
  /** Where a thread's four elements of a row or column lie. */
  const quad = (row: string) => `16u * (${row}) + 4u * (local % 4u)`;
  // Sums of matrix i of a group's rows and matrix j of the columns are 4 j + i; those of the low parts are two further.
  const share = `(${group}) % 4u`;
  const multiplyBy = (j: string) =>
    repeat('i', 4, (i) => `sums[4u * ${j} + ${i}] = multiply_add(lefts[${i}], right, sums[4u * ${j} + ${i}]);`);
  /** A matrix of sums passes through workgroup memory to be held by rows: a thread takes half a row. */
  const through = (sums: string, held: string) => fill(THROUGH, { keep: store('results', `${share} * ${MATRIX}u`, sums), held });
  return {
    name,
    matrices: native,
    packed: true,
    declarations: fill(DECLARATIONS, { matrices: declarations(2 * HIGH, TILE.columns * SIDE), results: `${4 * MATRIX}` }),
    rows: '(local / 4u) % 32u + vec4<u32>(0u, 32u, 64u, 96u)',
    rowQuad: 'local % 4u',
    columns: '(local / 4u) % 16u + vec4<u32>(0u, 16u, 32u, 48u)',
    columnQuad: 'local % 4u',
    rankQuads: 2,
    up: (loaded) => `part(${loaded}, w_quad >= 2u)`,
    begin: `var sums: array<Sums, 16>;
  ${repeat('i', 16, (i) => `sums[${i}] = ${zeros};`)}`,
    keepX: each(4, (i) => {
      const at = quad(`(local / 4u) % 32u + ${32 * i}u`);
      const places = {
        x: `x${i}`,
        keep_high: keep('x_tile', at, 'high'),
        keep_rest: keep('x_tile', `${HIGH}u + ${at}`, `halves(rest * ${REST}.0)`),
      };
      return fill(SPLIT, { ...places, scale: `${SCALE}` });
    }),
    keepW: each(4, (i) => keep('w_tile', quad(`(local / 4u) % 16u + ${16 * i}u`), `w${i}`)),
    multiply: fill(MULTIPLY, {
      load_lefts: repeat(
        'i',
        4,
        (i) => `lefts[${i}] = ${left(`${i} / 2u * ${HIGH}u + ${share} * ${2 * MATRIX}u + ${i} % 2u * ${MATRIX}u`)};`,
      ),
      multiply_each: repeat(
        'j',
        4,
        (j) => `let right = ${right(`${j} * ${MATRIX}u`)};
      ${multiplyBy(j)}`,
      ),
    }),
    finish: (gated) =>
      repeat('t', gated ? 4 : 8, (t) => {
        const names = gated ? ['value', 'gate'] : ['value'];
        const whole = (name: string, matrix: string) => `${through(`sums[${matrix}]`, `${name}_high`)}
    ${through(`sums[${matrix} + 2u]`, `${name}_low`)}`;
        const sum = (name: string, i: number) => `${name}_high[${i}] * ${1 / SCALE}.0 + ${name}_low[${i}] * ${1 / SCALE / REST}`;
        return fill(FINISH, {
          t,
          sums: names.map((name, n) => whole(name, `${t} / 2u * 4u + ${t} % 2u + ${8 * n}u`)).join('\n'),
          store: each(2, (i) => `finish4(batch, row, column + ${4 * i}u, ${names.map((name) => sum(name, i)).join(', ')});`),
        });
      }),
  };
}

const DECLARATIONS = `$matrices
var<workgroup> results: array<f32, $results>;
// The first eleven bits of an adapter's factors, or the rest. Both are multiplied with the same ranks of t.
fn part(v: vec4<f32>, rest: bool) -> vec2<u32> {
  let first = bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) & vec4<u32>(0xffffe000u));
  return halves(select(first, v - first, rest));
}`;

/** x in two halves. */
const SPLIT = `{
      let scaled = $x * $scale;
      let high = halves(scaled);
      // Compilers take what was packed and is unpacked for the number itself, and the rest for zero, unless something that they cannot know lies between.
      let known = high | vec2<u32>(p.rows >> 31u);
      let rest = scaled - vec4<f32>(unpack2x16float(known.x), unpack2x16float(known.y));
      $keep_high
      $keep_rest
    }`;

const MULTIPLY = `var lefts: array<Left, 4>;
    $load_lefts
    $multiply_each`;

const THROUGH = `$keep
    workgroupBarrier();
    let $held = array<vec4<f32>, 2>(vec4<f32>(results[at + 0u], results[at + 1u], results[at + 2u], results[at + 3u]), vec4<f32>(results[at + 4u], results[at + 5u], results[at + 6u], results[at + 7u]));
    workgroupBarrier();`;

/** Two matrices of sums, high and low, of each of a result's names. */
const FINISH = `let at = 8u * (local % 128u);
    let row = first_row + local / 32u * 32u + $t % 2u * 16u + local % 32u / 2u;
    let column = first_column + $t / 2u * 16u + local % 2u * 8u;
    $sums
    $store`;
