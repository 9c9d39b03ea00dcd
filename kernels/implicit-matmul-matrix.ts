/**
 * Implicit matmul on a GPU's matrix units, for weights in f16 whose channels are in fours: an experiment, chosen only by
 * `openDevice({ schedule: 'matrix' })`. Tiles are those of the tiled schedule; 32 threads compute 32 x 64 of the 128 x 64 results, in matrices.
 *
 * Matrix units multiply halves, and x is f32: it is split into two halves, x = 64 (high + low / 2048), each with sums of its own, scaled so that
 * both keep clear of the ends of a half's range. (Ootomo & Yokota 2022, arXiv 2203.03341) Of x 23 bits remain from 2^-7 in absolute value on, and
 * below it all to 2^-30, if the matrix unit takes subnormal halves as they are; from 65504 * 64 = 4.2e6 on results are not numbers. Products are
 * exact, and sums are f32, rounded as the matrix unit does it.
 */
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
  const quad = (row: string, quad: string) => `${SIDE}u * (${row}) + 4u * ${quad}`;
  // Sums of matrix i of a group's rows and matrix j of the columns are 4 j + i; those of the low parts are two further.
  const share = `(${group}) % 4u`;
  const loaded = [0, 4].map((from) => `vec4<f32>(${[0, 1, 2, 3].map((i) => `results[at + ${from + i}u]`).join(', ')})`).join(', ');
  return {
    name,
    matrices: native,
    packed: true,
    declarations: `${declarations(2 * HIGH, TILE.columns * SIDE)}
var<workgroup> results: array<f32, ${4 * MATRIX}>;
// The first eleven bits of an adapter's factors, or the rest. Both are multiplied with the same ranks of t.
fn part(v: vec4<f32>, rest: bool) -> vec2<u32> {
  let first = bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) & vec4<u32>(0xffffe000u));
  return halves(select(first, v - first, rest));
}`,
    rows: '(local / 4u) % 32u + vec4<u32>(0u, 32u, 64u, 96u)',
    rowQuad: 'local % 4u',
    columns: '(local / 4u) % 16u + vec4<u32>(0u, 16u, 32u, 48u)',
    columnQuad: 'local % 4u',
    rankQuads: 2,
    up: (loaded) => `part(${loaded}, w_quad >= 2u)`,
    begin: `var sums: array<Sums, 16>;
  ${repeat('i', 16, (i) => `sums[${i}] = ${zeros};`)}`,
    keepX: each(4, (i) => {
      const at = quad(`(local / 4u) % 32u + ${32 * i}u`, '(local % 4u)');
      return `{
      let scaled = x${i} * ${SCALE};
      let high = halves(scaled);
      // Compilers take what was packed and is unpacked for the number itself, and the rest for zero, unless something that they cannot know lies between.
      let known = high | vec2<u32>(p.rows >> 31u);
      let rest = scaled - vec4<f32>(unpack2x16float(known.x), unpack2x16float(known.y));
      ${keep('x_tile', at, 'high')}
      ${keep('x_tile', `${HIGH}u + ${at}`, `halves(rest * ${REST}.0)`)}
    }`;
    }),
    keepW: each(4, (i) => keep('w_tile', quad(`(local / 4u) % 16u + ${16 * i}u`, '(local % 4u)'), `w${i}`)),
    multiply: `var lefts: array<Left, 4>;
    ${repeat('i', 4, (i) => `lefts[${i}] = ${left(`${i} / 2u * ${HIGH}u + ${share} * ${2 * MATRIX}u + ${i} % 2u * ${MATRIX}u`)};`)}
    ${repeat(
      'j',
      4,
      (j) => `let right = ${right(`${j} * ${MATRIX}u`)};
      ${repeat('i', 4, (i) => `sums[4u * ${j} + ${i}] = multiply_add(lefts[${i}], right, sums[4u * ${j} + ${i}]);`)}`,
    )}`,
    finish: (gated) =>
      repeat('t', gated ? 4 : 8, (t) => {
        // A group's sums pass through workgroup memory, a matrix at a time; a thread takes half a row.
        const through = (sums: string, name: string) => `${store('results', `${share} * ${MATRIX}u`, sums)}
    workgroupBarrier();
    let ${name} = array<vec4<f32>, 2>(${loaded});
    workgroupBarrier();`;
        const whole = (name: string, matrix: string) => `${through(`sums[${matrix}]`, `${name}_high`)}
    ${through(`sums[${matrix} + 2u]`, `${name}_low`)}`;
        const sum = (name: string, i: number) => `${name}_high[${i}] * ${1 / SCALE}.0 + ${name}_low[${i}] * ${1 / SCALE / REST}`;
        const names = gated ? ['value', 'gate'] : ['value'];
        return `let at = 8u * (local % 128u);
    let row = first_row + local / 32u * 32u + ${t} % 2u * 16u + local % 32u / 2u;
    let column = first_column + ${t} / 2u * 16u + local % 2u * 8u;
    ${names.map((name, n) => whole(name, `${t} / 2u * 4u + ${t} % 2u + ${8 * n}u`)).join('\n')}
    ${each(2, (i) => `finish4(batch, row, column + ${4 * i}u, ${names.map((name) => sum(name, i)).join(', ')});`)}`;
      }),
  };
}
