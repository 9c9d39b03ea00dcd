/**
 * What a matmul or a convolution ends in where uniforms tell the steps (epilogue.ts), for threads of CPU drivers, which end many rows of the same columns.
 *
 * There a load costs as much as 25 multiply-adds and a branch as much as some, also where no lane takes it: the factors on the columns are loaded once for
 * all rows of an image, and results that have neither residual nor activation go by a text without branches.
 */
import { fill } from '../core/fill.ts';
import { each } from '../core/shader.ts';
import { activationWgsl } from './activation.ts';
import { ACTIVATIONS, COLUMNS, type Epilogue, RESIDUALS } from './epilogue.ts';

/** A step's number among `steps`. */
const numberOf = <S extends string>(steps: readonly S[], step: S) => `${steps.indexOf(step)}u`;

/**
 * WGSL of the steps that uniforms tell and the store of four columns, or with geglu of two, whose values and gates are the sums; columns outside are dropped:
 * `take_factors(of_image, column)`, before the first and where `of_image`, an image's place in the bias, changes; then `finish4(column, i, sums: vec4<f32>)`, or
 * `finish_plain4` where `is_plain()` says that neither residual nor activation follow. `i` is the place of the first column, which is inside, in stores.
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
    factors:
      width === 4
        ? 'bias_load((of_image + column) / 4u)'
        : `vec4<f32>(${numbers(4, (j) => `bias_load(of_image + column + ${ofColumn(j)})`)})`,
    add: numberOf(COLUMNS, 'add'),
    scale: numberOf(COLUMNS, 'scale'),
    result: gated ? 'v.xy * gelu(v.zw)' : 'v',
    residual: width === 4 ? 'residual_load(i)' : `${type}(${numbers(columns, (j) => `residual_load(i + ${j}u)`)})`,
    type,
    before: numberOf(RESIDUALS, 'before'),
    after: numberOf(RESIDUALS, 'after'),
    activation: gated ? '' : `if (p.activation_step != 0u) { ${activations} }`,
    store:
      width === 4
        ? 'y_store(i, result);'
        : each(columns, (j) => `${j > 0 ? `if (column + ${j}u < p.columns) ` : ''}{ y_store(i + ${j}u, result[${j}]); }`),
  });
}

const TEXT = `
$activations
var<private> added: vec4<f32>;
var<private> scaled: vec4<f32>;
fn take_factors(of_image: u32, column: u32) {
  let factors = $factors;
  added = select(vec4<f32>(0.0), factors, p.column_step == $add);
  scaled = select(vec4<f32>(1.0), factors, p.column_step == $scale);
}
fn is_plain() -> bool {
  return p.residual_step + p.activation_step == 0u;
}
fn finish_plain4(column: u32, i: u32, sums: vec4<f32>) {
  let v = sums * scaled + added;
  let result = $result;
  $store
}
fn finish4(column: u32, i: u32, sums: vec4<f32>) {
  let v = sums * scaled + added;
  var result = $result;
  var residual = $type(0.0);
  if (p.residual_step != 0u) { residual = $residual; }
  result += select($type(0.0), residual, p.residual_step == $before);
  $activation
  result += select($type(0.0), residual, p.residual_step == $after);
  $store
}`;
