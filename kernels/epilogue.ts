/**
 * What a matmul or a convolution ends in: a value for each column is added to the sums, or they are multiplied by it, then come an activation
 * and a residual sum. With geglu as the activation a column of the result has two sums, a value and a gate (see geglu.ts). Which of them there
 * are is part of the shader, not a uniform: CPU drivers compute every branch, and a load that is not taken costs them nearly as much as one that is.
 */
import type { Operand } from '../core/op.ts';
import { elementType, when } from '../core/shader.ts';
import { type Activation, activationWgsl } from './activation.ts';

export type LastActivation = Activation | 'geglu';

export interface EpilogueOperands {
  /** (columns) a value that is added to each column, or (images, columns) for those of each image. */
  bias: Operand | null;
  /** (columns) a factor on each column; not beside a bias. */
  scale?: Operand | null;
  residual: Operand | null;
  /** Whether the residual is added before the activation instead of after it. */
  residualFirst?: boolean;
  output: Operand;
  activation: LastActivation;
}

export interface Epilogue {
  column: 'none' | 'add' | 'scale';
  residual: 'none' | 'before' | 'after';
  residualType: 'f32' | 'f16';
  activation: LastActivation;
  /** Columns that a store moves. */
  width: 1 | 4;
}

export function epilogueOf(m: EpilogueOperands, width: 1 | 4): Epilogue {
  return {
    column: m.bias ? 'add' : m.scale ? 'scale' : 'none',
    residual: m.residual ? (m.residualFirst ? 'before' : 'after') : 'none',
    residualType: (m.residual?.dtype ?? 'f32') as 'f32' | 'f16',
    activation: m.activation,
    width,
  };
}

/** For a shader's name: the steps in their order. */
export function epilogueName({ column, residual, residualType, activation, width }: Epilogue): string {
  const steps = [
    column === 'add' ? '+ bias' : column === 'scale' ? '* scale' : '',
    residual === 'before' ? `+ ${residualType}` : '',
    activation === 'none' ? '' : activation,
    residual === 'after' ? `+ ${residualType}` : '',
  ];
  return [...steps, `-> x${width}`].filter(Boolean).join(' ');
}

/** What the epilogue binds, behind a kernel's own bindings, and the operands in the same order. */
export function epilogueBindings({ column, residual, residualType, width }: Epilogue) {
  return {
    ...when(column === 'add', { bias: { dtype: 'f32', width } }),
    ...when(column === 'scale', { scale: { dtype: 'f32', width } }),
    ...when(residual !== 'none', { residual: { dtype: residualType, width } }),
    y: { dtype: 'f32', width, write: true } as const,
  };
}

export function epilogueOperands({ bias, scale, residual, output }: EpilogueOperands) {
  return { bias, scale, residual, y: output };
}

/** Uniform parameters of every epilogue, and their values for `rows` rows of the result. */
export const EPILOGUE_PARAMS = { image_share: 'f32', bias_step: 'u32' } as const;

export function epilogueParams({ bias }: EpilogueOperands, rows: number) {
  const [images, columns] = bias?.shape.length === 2 ? bias.shape : [1, 0];
  return { image_share: images / rows, bias_step: columns };
}

/** Rows for which `image_share` tells the image of a row without a division, which is dear: f32 is exact enough up to here. */
export const MOST_ROWS_OF_IMAGES = 2 ** 20;

/**
 * WGSL of `finish4(batch, row, column, sums: vec4<f32>)`: the last steps and the store of four columns; what lies outside is dropped.
 * With geglu both it and `finish`, for `width` columns, take values and gates.
 */
export function epilogueWgsl({ column, residual, activation, width }: Epilogue): string {
  const type = elementType({ dtype: 'f32', width }) as 'f32' | 'vec4<f32>';
  const gated = activation === 'geglu';
  const parts = gated ? ['value', 'gate'] : ['value'];
  const parameters = (of: string) => parts.map((part) => `${part}: ${of}`).join(', ');
  const bias = (at: string) =>
    ({ none: '', add: ` + bias_load((of_image + ${at}) / ${width}u)`, scale: ` * scale_load((${at}) / ${width}u)` })[column];
  return `
${activation === 'none' ? '' : activationWgsl(type)}
fn finish(batch: u32, row: u32, column: u32, ${parameters(type)}) {
  if (row >= p.rows || column >= p.columns) { return; }
  let i = ((batch * p.rows + row) * p.columns + column) / ${width}u;
  ${column !== 'add' ? '' : 'let of_image = u32((f32(row) + 0.5) * p.image_share) * p.bias_step;'}
  var v = value${bias('column')};
  ${residual === 'before' ? 'v += residual_load(i);' : ''}
  ${gated ? `v *= gelu(gate${bias('p.columns + column')});` : activation === 'none' ? '' : `v = ${activation}(v);`}
  ${residual === 'after' ? 'v += residual_load(i);' : ''}
  y_store(i, v);
}
fn finish4(batch: u32, row: u32, column: u32, ${parameters('vec4<f32>')}) {
  ${
    width === 4
      ? `finish(batch, row, column, ${parts.join(', ')});`
      : `for (var j = 0u; j < 4u; j++) { finish(batch, row, column + j, ${parts.map((part) => `${part}[j]`).join(', ')}); }`
  }
}`;
}
