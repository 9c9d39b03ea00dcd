/**
 * What a matmul or a convolution ends in where uniforms tell the steps (epilogue.ts), for threads of CPU drivers, which end many rows of the same columns.
 *
 * There a load costs as much as 25 multiply-adds and a branch that no lane takes costs little: the factors on the columns are loaded once for all rows
 * of an image, and residual and activation, which many results lack, lie behind one branch.
 */
import { fill } from '../core/fill.ts';
import { each } from '../core/shader.ts';
import { activationWgsl } from './activation.ts';
import { ACTIVATIONS, COLUMNS, type Epilogue, IMAGE_OF_ROW, RESIDUALS } from './epilogue.ts';

/** A step's number among `steps`. */
const numberOf = <S extends string>(steps: readonly S[], step: S) => `${steps.indexOf(step)}u`;

/**
 * WGSL of `finish4(batch, row, column, sums: vec4<f32>)`: the steps that uniforms tell and the store of four columns, or with geglu of two, whose values
 * and gates are the sums. Columns outside are dropped, and rows are inside. A thread calls it for one `column` alone.
 */
export function toldEpilogueWgsl({ activation, width }: Epilogue): string {
  const gated = activation === 'geglu';
  const columns = gated ? 2 : 4;
  const type = `vec${columns}<f32>`;
  const numbers = (count: number, value: (j: number) => string) => Array.from({ length: count }, (_, j) => value(j)).join(', ');
  const ofColumn = (j: number) => (gated && j > 1 ? `p.columns + ${j - 2}u` : `${j}u`);
  const activations = each(
    ACTIVATIONS.length - 1,
    (j) => `if (p.activation_step == ${j + 1}u) { result = ${ACTIVATIONS[j + 1]}(result); }`,
  );
  return fill(TEXT, {
    activations: activationWgsl(gated ? 'vec2<f32>' : 'vec4<f32>'),
    image_of_row: IMAGE_OF_ROW,
    factors:
      width === 4
        ? 'bias_load((of_image + column) / 4u)'
        : `vec4<f32>(${numbers(4, (j) => `bias_load(of_image + column + ${ofColumn(j)})`)})`,
    add: numberOf(COLUMNS, 'add'),
    scale: numberOf(COLUMNS, 'scale'),
    result: gated ? 'v.xy * gelu(v.zw)' : 'v',
    residual: width === 4 ? 'residual_load(i / 4u)' : `${type}(${numbers(columns, (j) => `residual_load(i + ${j}u)`)})`,
    type,
    before: numberOf(RESIDUALS, 'before'),
    after: numberOf(RESIDUALS, 'after'),
    activation: gated ? '' : `if (p.activation_step != 0u) { ${activations} }`,
    store:
      width === 4
        ? 'if (column < p.columns) { y_store(i / 4u, result); }'
        : each(columns, (j) => `if (column + ${j}u < p.columns) { y_store(i + ${j}u, result[${j}]); }`),
  });
}

const TEXT = `
$activations
// The image that the last row lies in, and the factors on its columns.
var<private> image_before: u32 = 0xffffffffu;
var<private> added: vec4<f32>;
var<private> scaled: vec4<f32>;
fn finish4(batch: u32, row: u32, column: u32, sums: vec4<f32>) {
  let of_image = $image_of_row;
  if (of_image != image_before) {
    image_before = of_image;
    let factors = $factors;
    added = select(vec4<f32>(0.0), factors, p.column_step == $add);
    scaled = select(vec4<f32>(1.0), factors, p.column_step == $scale);
  }
  let v = sums * scaled + added;
  var result = $result;
  let i = (batch * p.rows + row) * p.columns + column;
  if (p.residual_step + p.activation_step != 0u) {
    var residual = $type(0.0);
    if (p.residual_step != 0u) { residual = $residual; }
    result += select($type(0.0), residual, p.residual_step == $before);
    $activation
    result += select($type(0.0), residual, p.residual_step == $after);
  }
  $store
}`;
