/**
 * Implicit matmul on a GPU's matrix units, where channels are in fours. A workgroup of 256 threads computes 64 x 128 results; each of its subgroups
 * has some matrices of them, as many as its unit's size makes. While one tile is multiplied, the next one is fetched into registers.
 *
 * Where the units multiply halves, what is f32 is split into two of them: v = (high + low / 2048) / scale, with sums of their own for products of
 * high parts and for those of a high and a low one, so that both keep clear of the ends of a half's range. (Ootomo & Yokota 2022, arXiv 2203.03341)
 * Of x, whose scale is 1/64, 23 bits remain from 2^-7 in absolute value on, and below it all to 2^-30, if the matrix unit takes subnormal halves as
 * they are; from 65504 * 64 = 4.2e6 on results are not numbers. Weights have the scale 1. The product of two low parts, 2^-22 of the whole, is left
 * out. Products are exact, and sums are f32, rounded as the matrix unit does it.
 */
import { MATRIX_FEATURE, type MatrixUnit } from '../core/adapter.ts';
import { fill } from '../core/fill.ts';
import { shader } from '../core/shader.ts';
import { epilogueWgsl } from './epilogue.ts';
import { MATMUL_PARAMS, type MatmulVariant, matmulBindings, matmulName, type Tile } from './matmul-variant.ts';
import { matricesOf } from './matrices.ts';

export const MATRIX_THREADS = 256;
const TILE: Tile = { rows: 64, columns: 128 };

/** What one workgroup computes: with geglu half as many columns, each from a value and a gate. */
export const matrixTile = (gated: boolean): Tile => ({ ...TILE, columns: gated ? TILE.columns / 2 : TILE.columns });

/** Of halves of x, of what remains of anything, and of both together. */
const SCALE = 2 ** -6;
const REST = 2 ** 11;

/** How the subgroups of a workgroup share its tile: so many down and across, with so many matrices each. */
function shares({ m, n, lanes }: MatrixUnit) {
  const groups = MATRIX_THREADS / lanes;
  const down = groups >= 16 ? 4 : 2;
  const across = groups / down;
  const width = TILE.columns / across;
  return { groups, down, across, width, rows: TILE.rows / down / m, columns: width / n };
}

/** Whether the schedule can be made of a unit: its matrices must fill the tile, in pairs of columns for values and gates. */
export function suitsUnit(unit: MatrixUnit): boolean {
  const { rows, columns } = shares(unit);
  const { m, n, k, lanes } = unit;
  return [rows, columns / 2, 16 / k, (m * n) / lanes / 2, (n * lanes) / (m * n), n / 4].every(
    (size) => size >= 1 && Number.isInteger(size),
  );
}

/** Numbers may not be read one by one. The second factor is split as a weight: among activations are larger numbers than a half holds. */
export function suitsMatrices({ w, inWidth, turned }: MatmulVariant, activations: boolean): boolean {
  return inWidth === 4 && !turned && (w === 'f16' || !activations);
}

/** On an adapter without subgroup matrices among its features they are emulated. */
export function matrixMatmul(variant: MatmulVariant, unit: MatrixUnit, features: ReadonlySet<string>) {
  const native = features.has(MATRIX_FEATURE);
  const { lowRank, epilogue, windowed } = variant;
  const { m, n, k, lanes } = unit;
  const halves = unit.input === 'f16';
  // How many halves x and w are split into.
  const ofX = halves && (variant.x !== 'f16' || lowRank) ? 2 : 1;
  const ofW = halves && variant.w !== 'f16' ? 2 : 1;
  const kinds = Math.min(2, ofX * ofW);
  const scale = ofX === 2 ? SCALE : 1;
  /** Numbers of the window in a tile, and where a row of it begins: padding spreads rows over the banks of workgroup memory. */
  const depth = halves && ofW === 1 ? 32 : 16;
  const stride = depth + (halves ? 8 : 4);
  const quads = depth / 4;
  const fetched = MATRIX_THREADS / quads;
  const low = { x: TILE.rows * stride, w: TILE.columns * stride };
  const share = shares(unit);
  const { rows, columns, width } = share;
  const gated = epilogue.activation === 'geglu';
  const packed = halves && ofW === 1;
  // An adapter's ranks stand in a tile once, or twice where w is not split: with the high halves of up, and with what remains of it.
  const twice = lowRank && packed;
  const ranks = twice ? quads / 2 : quads;
  const matrices = matricesOf(unit, native, stride);
  const { repeat, keep } = matrices;
  const [rowsFetched, columnsFetched] = [TILE.rows / fetched, TILE.columns / fetched];
  const eachRow = (line: (i: string) => string) => repeat('i', rowsFetched, line);
  const eachColumn = (line: (i: string) => string) => repeat('i', columnsFetched, line);

  const keepX = (i: string) => {
    const at = `keep_at + ${i} * ${fetched * stride}u`;
    const v = `select(vec4<f32>(0.0), xs[${i}], inside[${i}])`;
    if (ofX === 1) return keep('x_tile', at, `four(${v})`);
    const [high, rest] = twice ? ['select(high, vec2<u32>(0u), resting)', 'select(low, high, resting)'] : ['high', 'low'];
    return fill(SPLIT, {
      v,
      scale: `${scale}`,
      keep_high: keep('x_tile', at, high),
      keep_low: keep('x_tile', `${low.x}u + ${at}`, rest),
    });
  };
  const keepW = (i: string) => {
    const at = `keep_at + ${i} * ${fetched * stride}u`;
    if (ofW === 1) return keep('w_tile', at, packed ? `ws[${i}]` : `four(ws[${i}])`);
    return fill(SPLIT, {
      v: `ws[${i}]`,
      scale: '1.0',
      keep_high: keep('w_tile', at, 'high'),
      keep_low: keep('w_tile', `${low.w}u + ${at}`, 'low'),
    });
  };
  /** Which column of w is a tile's i-th that a thread fetches: each subgroup's are values, then with geglu their gates. */
  const columnOf = (i: string) => {
    const column = `(my_row + ${i} * ${fetched}u)`;
    return gated
      ? `min(first_column + ${column} / ${width}u * ${width / 2}u + ${column} % ${width / 2}u, p.columns - 1u) + ${column} % ${width}u / ${width / 2}u * p.columns`
      : `min(first_column + ${column}, p.columns - 1u)`;
  };
  /** Products of a matrix of x with those of w; sums of kind 1 are of a high and a low half, and two low ones are left out. */
  const multiply = (i: string, step: string) =>
    repeat('half', ofX, (half) =>
      fill('let left = $left; $products', {
        left: matrices.left(`left_at + ${half} * ${low.x}u + ${i} * ${m * stride}u + ${step} * ${k}u`),
        products: repeat('j', columns, (j) =>
          repeat('other', ofW, (other) => {
            const product = matrices.multiplyAdd(
              'left',
              `rights[${j} * ${ofW}u + ${other}]`,
              `sums[(${i} * ${columns}u + ${j}) * ${kinds}u + (${half} + ${other}) % ${kinds}u]`,
            );
            return ofX * ofW === 4 ? `if (${half} + ${other} < 2u) { ${product} }` : product;
          }),
        ),
      }),
    );
  /** How many fours of a matrix of sums a thread takes when they pass through workgroup memory, and which matrices pass together. */
  const held = Math.max(1, (m * n) / 4 / lanes);
  const names = gated ? ['value', 'gate'] : ['value'];
  const pass = (i: string, j: string) => {
    const sum = (of: number, h: string) => {
      const [high, rest] = [0, 1].map((kind) => `held[${(of * kinds + kind) * held}u + ${h}]`);
      return `${high}${scale === 1 ? '' : ` * ${1 / scale}.0`}${kinds === 2 ? ` + ${rest} * ${1 / scale / REST}` : ''}`;
    };
    const store = repeat(
      'h',
      held,
      (h) => `finish4(batch, row + ${h} * ${(4 * lanes) / n}u, column, ${names.map((_, of) => sum(of, h)).join(', ')});`,
    );
    return fill(PASS, {
      ...{ row: `${i} * ${m}u`, column: `${j} * ${n}u`, quads_across: n / 4 },
      ...{ my_rows: rows * m, my_columns: gated ? width / 2 : width, held: `${names.length * kinds * held}` },
      through: repeat('t', names.length * kinds, (t) =>
        fill(THROUGH, {
          keep: matrices.store(
            'results',
            'results_at',
            `sums[(${i} * ${columns}u + ${j} + ${t} / ${kinds}u * ${columns / 2}u) * ${kinds}u + ${t} % ${kinds}u]`,
          ),
          hold: repeat(
            'h',
            held,
            (h) => `held[${t} * ${held}u + ${h}] = result(results_at + 4u * (lane % ${(m * n) / 4}u) + ${h} * ${4 * lanes}u);`,
          ),
        }),
      ),
      store: lanes > (m * n) / 4 ? `if (lane < ${(m * n) / 4}u) { ${store} }` : store,
    });
  };
  return shader({
    name: `${matmulName(variant)} ${matrices.name}`,
    bindings: matmulBindings(variant),
    params: MATMUL_PARAMS,
    workgroup: MATRIX_THREADS,
    matrices: native ? { input: unit.input, lanes: features.has('subgroup-size-control') ? lanes : null } : undefined,
    code: fill(TEXT, {
      ...{ quads, to_quads: quads - 1, ranks, to_ranks: ranks - 1, lanes, fetched, stride, tile_rows: TILE.rows },
      ...{ groups: share.groups, last_group: share.groups - 1, across: share.across, last_across: share.across - 1 },
      ...{ last_down: share.down - 1, last_fetched: fetched - 1, results: m * n },
      columns: matrixTile(gated).columns,
      left_share: rows * m * stride,
      right_share: width * stride,
      finish: epilogueWgsl(epilogue),
      declarations: matrices.declarations(low.x * ofX, low.w * ofW),
      results_size: `${share.groups * m * n}`,
      part: twice ? PART : '',
      ...{ rows_fetched: `${rowsFetched}`, columns_fetched: `${columnsFetched}` },
      rows_of_x: eachRow((i) => `rows[${i}] = min(first_row + my_row + ${i} * ${fetched}u, p.rows - 1u);`),
      columns_of_w: eachColumn((i) => `columns[${i}] = ${columnOf(i)};`),
      places_of_x: windowed
        ? fill(WINDOW, { rows_fetched: `${rowsFetched}`, each_row: eachRow((i) => fill(WINDOW_ROW, { i })) })
        : eachRow((i) => `x_at[${i}] = rows[${i}] * p.k;`),
      places_of_w: eachColumn((i) => `w_at[${i}] = columns[${i}] * p.k;`),
      no_sums: repeat('i', rows * columns * kinds, (i) => `sums[${i}] = ${matrices.zeros};`),
      sums: `${rows * columns * kinds}`,
      windows_end: lowRank ? 'let windows_end = (p.k + $to_quads) / $quads * $quads;' : '',
      end: lowRank ? 'windows_end + (p.rank + $to_ranks) / $ranks * $quads' : 'p.k',
      of_w: packed ? 'vec2<u32>' : 'vec4<f32>',
      resting: twice ? 'var resting = false;' : '',
      unless_adapters: lowRank
        ? fill(ADAPTERS, {
            ...{ quads, ranks },
            resting: twice ? `resting = quad >= ${ranks}u;` : '',
            load_t: eachRow((i) => `xs[${i}] = t_load(rows[${i}] * p.rank + last); inside[${i}] = rank < p.rank;`),
            load_up: eachColumn((i) => {
              const up = `up_load(columns[${i}] * p.rank + last)`;
              return `ws[${i}] = ${twice ? `part(${up}, resting)` : up};`;
            }),
          })
        : '{',
      load_x: windowed
        ? fill(LOAD_WINDOW, {
            quads,
            next_place: eachRow((i) => fill(NEXT_PLACE, { i })),
            load: eachRow((i) => `inside[${i}] = within[${i}]; xs[${i}] = x_load(select(0u, place[${i}] + c, within[${i}]));`),
          })
        : `let at = batch * p.x_batch + last; ${eachRow((i) => `xs[${i}] = x_load(x_at[${i}] + at); inside[${i}] = done + quad < p.k;`)}`,
      load_w: eachColumn((i) => `ws[${i}] = ${packed ? `w[w_at[${i}] + w_last]` : `w_load(w_at[${i}] + w_last)`};`),
      keep_x: eachRow(keepX),
      keep_w: eachColumn(keepW),
      fetch: FETCH,
      keep: '$keep_x $keep_w',
      // Matrices that are emulated multiply a tile of zeros first, for their text is dear to compile.
      first_tile: native ? '{ $fetch $keep workgroupBarrier(); } done += $quads;' : '',
      multiply: repeat('step', depth / k, (step) =>
        fill(MULTIPLY, {
          rights: `${columns * ofW}`,
          load_rights: repeat('j', columns, (j) =>
            repeat('half', ofW, (half) => {
              const at = `right_at + ${half} * ${low.w}u + ${j} * ${n * stride}u + ${step} * ${k}u`;
              return `rights[${j} * ${ofW}u + ${half}] = ${matrices.right(at)};`;
            }),
          ),
          products: repeat('i', rows, (i) => multiply(i, step)),
        }),
      ),
      passes: repeat('i', rows, (i) => repeat('j', gated ? columns / 2 : columns, (j) => pass(i, j))),
    }),
  });
}

/** The kernel, with places for what varies. */
const TEXT = `
$finish
$declarations
var<workgroup> results: array<f32, $results_size>;
fn result(at: u32) -> vec4<f32> { return vec4<f32>(results[at], results[at + 1u], results[at + 2u], results[at + 3u]); }
$part
fn run(id: u32, group: u32, local: u32) {
  let tiles = p.row_tiles * p.column_tiles;
  if (group >= tiles * p.batch) { return; }
  let batch = group / tiles;
  let first_row = ((group % tiles) / p.column_tiles) * $tile_rows;
  let first_column = (group % p.column_tiles) * $columns;
  // A quotient's remainder and its upper bound: one compiler sees by the first that indices stay inside the tiles, the other by the second.
  let quad = min(local % $quads, $to_quads);
  let my_row = min((local / $quads) % $fetched, $last_fetched);
  let lane = local % $lanes;
  let subgroup = min((local / $lanes) % $groups, $last_group);
  let down = min(subgroup / $across, $last_down);
  let across = min(subgroup % $across, $last_across);
  let keep_at = my_row * $stride + 4u * quad;
  let left_at = down * $left_share;
  let right_at = across * $right_share;
  let results_at = subgroup * $results;
  // Rows of x and columns of w to fetch; those beyond the edge repeat the last one, and finish drops them.
  var rows: array<u32, $rows_fetched>;
  $rows_of_x
  var columns: array<u32, $columns_fetched>;
  $columns_of_w
  var x_at: array<u32, $rows_fetched>;
  $places_of_x
  var w_at: array<u32, $columns_fetched>;
  $places_of_w
  var sums: array<Sums, $sums>;
  $no_sums
  $windows_end
  let end = $end + $quads;
  var done = 0u;
  $first_tile
  // A tile is fetched, the one before it multiplied, then what was fetched is kept. Nothing lies between that a compiler could divide, or move loads
  // behind: so they arrive while the products are made. The last tile that is fetched lies beyond the end and counts for nothing.
  for (; done < end; done += $quads) {
    $fetch
    $multiply
    workgroupBarrier();
    $keep
    workgroupBarrier();
  }
  $passes
}`;

/** $fetch: what x holds beyond its end is not used, and w repeats its last numbers. */
const FETCH = `var xs: array<vec4<f32>, $rows_fetched>;
    var inside: array<bool, $rows_fetched>;
    var ws: array<$of_w, $columns_fetched>;
    $resting
    $unless_adapters
      let last = min(done + quad, p.k - 1u);
      let w_last = batch * p.w_batch + last;
      $load_x
      $load_w
    }`;

/** $places_of_x of a window: its place (ky, kx), which the next load is c behind; the first place is a step away. */
const WINDOW = `var c = p.channels + quad;
  var kx = 0xffffffffu;
  var ky = 0u;
  var top: array<i32, $rows_fetched>;
  var left: array<i32, $rows_fetched>;
  var place: array<u32, $rows_fetched>;
  var within: array<bool, $rows_fetched>;
  $each_row`;
/** Where a row's image begins in x, and its window in the image; then where the place is in x, and whether inside. */
const WINDOW_ROW = `x_at[$i] = batch * p.x_batch + rows[$i] / (p.oh * p.ow) * ((p.h >> p.zoom) * (p.width >> p.zoom) * p.channels);
  top[$i] = i32(((rows[$i] / p.ow) % p.oh) * p.stride) - i32(p.top);
  left[$i] = i32((rows[$i] % p.ow) * p.stride) - i32(p.left);`;

/** $load_x of a window. */
const LOAD_WINDOW = `while (c >= p.channels) {
          c -= p.channels;
          kx++;
          if (kx == p.kw) {
            kx = 0u;
            ky++;
          }
          $next_place
        }
        $load
        c += $quads;`;
const NEXT_PLACE = `let y = top[$i] + i32(ky);
            let x = left[$i] + i32(kx);
            within[$i] = y >= 0 && y < i32(p.h) && x >= 0 && x < i32(p.width) && ky < p.kh;
            place[$i] = x_at[$i] + ((u32(y) >> p.zoom) * (p.width >> p.zoom) + (u32(x) >> p.zoom)) * p.channels;`;

/** $unless_adapters: behind the window, adapters' factors are fetched in its place. */
const ADAPTERS = `if (done >= windows_end) {
        let rank = (done - windows_end) / $quads * $ranks + quad % $ranks;
        let last = min(rank, p.rank - 1u);
        $resting
        $load_t
        $load_up
      } else {`;

/** High halves of an adapter's factors, or what remains of them. */
const PART = `fn part(v: vec4<f32>, low: bool) -> Four {
  let high = four(v) | vec2<u32>(p.rows >> 31u);
  return select(high, four((v - vec4<f32>(unpack2x16float(high.x), unpack2x16float(high.y))) * ${REST}.0), low);
}`;

/** A number in two halves. Compilers take what was packed and is unpacked for the number itself, unless something that they cannot know lies between. */
const SPLIT = `{
      let high = four($v * $scale) | vec2<u32>(p.rows >> 31u);
      let rest = fma($v, vec4<f32>($scale), -vec4<f32>(unpack2x16float(high.x), unpack2x16float(high.y)));
      let low = four(rest * ${REST}.0);
      $keep_high
      $keep_low
    }`;

const MULTIPLY = `{
        var rights: array<Right, $rights>;
        $load_rights
        $products
      }`;

const THROUGH = `$keep
      workgroupBarrier();
      $hold
      workgroupBarrier();`;

/** The finishing steps of a subgroup's matrix, and of that of gates. */
const PASS = `{
    let row = first_row + down * $my_rows + $row + lane / $quads_across;
    let column = first_column + across * $my_columns + $column + 4u * (lane % $quads_across);
    var held: array<vec4<f32>, $held>;
    $through
    $store
  }`;
