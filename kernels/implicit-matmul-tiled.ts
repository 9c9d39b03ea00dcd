/**
 * Implicit matmul without subgroup functions. A thread computes ROWS x COLUMNS results from registers, with no workgroup memory: each
 * loaded vec4 of x serves COLUMNS results, each of w ROWS.
 */
import { elementType, type ShaderSpec } from '../core/shader.ts';
import { each, finishWgsl, MATMUL_PARAMS, type MatmulVariant, matmulBindings, type Tile } from './implicit-matmul.ts';

const ROWS = 4;
const COLUMNS = 8;
export const TILE: Tile = { rows: ROWS, columns: COLUMNS };

export function tiledMatmul(variant: MatmulVariant): ShaderSpec {
  const { x, w, inWidth, outWidth, activated } = variant;
  const element = elementType({ dtype: 'f32', width: inWidth });
  const product = (a: string, b: string) => (inWidth === 4 ? `dot(${a}, ${b})` : `${a} * ${b}`);
  const store = (row: number) =>
    each(
      COLUMNS / 4,
      (j) => `finish4(batch, row + ${row}u, column + ${4 * j}u, vec4<f32>(${[0, 1, 2, 3].map((q) => `s${row}_${4 * j + q}`).join(', ')}));`,
    );
  return {
    name: `matmul ${x}x${inWidth} ${w} -> x${outWidth}${activated ? ' activated' : ''}`,
    bindings: matmulBindings(variant),
    params: MATMUL_PARAMS,
    workgroup: 64,
    code: `
${finishWgsl(outWidth, activated)}
fn run(id: u32, group: u32, local: u32) {
  let tiles = p.row_tiles * p.column_tiles;
  if (id >= tiles * p.batch) { return; }
  let batch = id / tiles;
  let tile = id % tiles;
  let row = (tile / p.column_tiles) * ${ROWS}u;
  let column = (tile % p.column_tiles) * ${COLUMNS}u;
  // Rows and columns beyond the edge repeat the last one; finish() drops them.
  ${each(COLUMNS, (j) => `let w${j} = batch * p.w_batch + min(column + ${j}u, p.columns - 1u) * p.k;`)}
  ${each(ROWS, (i) => {
    return `let r${i} = min(row + ${i}u, p.rows - 1u);
  let n${i} = r${i} / (p.oh * p.ow);
  let top${i} = i32(((r${i} / p.ow) % p.oh) * p.stride) - i32(p.top);
  let left${i} = i32((r${i} % p.ow) * p.stride) - i32(p.left);
  ${each(COLUMNS, (j) => `var s${i}_${j} = 0.0;`)}`;
  })}
  var tap = 0u;
  for (var ky = 0u; ky < p.kh; ky++) {
    for (var kx = 0u; kx < p.kw; kx++) {
      ${each(ROWS, (i) => {
        return `let y${i} = top${i} + i32(ky);
      let x${i} = left${i} + i32(kx);
      let inside${i} = y${i} >= 0 && y${i} < i32(p.h) && x${i} >= 0 && x${i} < i32(p.width);
      let a${i} = batch * p.x_batch + select(0u, ((n${i} * p.h + u32(y${i})) * p.width + u32(x${i})) * p.channels, inside${i});`;
      })}
      for (var c = 0u; c < p.channels; c++) {
        ${each(ROWS, (i) => `let v${i} = select(${element}(0.0), x_load(a${i} + c), inside${i});`)}
        ${each(COLUMNS, (j) => `let u${j} = w_load(w${j} + tap + c);`)}
        ${each(ROWS, (i) => each(COLUMNS, (j) => `s${i}_${j} += ${product(`v${i}`, `u${j}`)};`))}
      }
      tap += p.channels;
    }
  }
  ${each(ROWS, store)}
}`,
  };
}
