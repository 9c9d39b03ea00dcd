/**
 * What a matmul or a convolution ends in: a value for each column is added to the sums, or they are multiplied by it, then come an activation
 * and a residual sum. With geglu as the activation a column of the result has two sums, a value and a gate (see geglu.ts).
 *
 * On GPUs the steps that there are are part of the shader, so that loads need not wait for branches. CPU drivers skip what no lane takes, and compile for
 * long: there uniforms tell the steps, and one text has them all (told-epilogue.ts).
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

/** The values of the uniforms that tell the steps are their places in these. */
export const COLUMNS = ['none', 'add', 'scale'] as const;
export const RESIDUALS = ['none', 'before', 'after'] as const;
export const ACTIVATIONS = ['none', 'silu', 'gelu', 'quickGelu'] as const satisfies readonly Activation[];

interface Steps {
  column: (typeof COLUMNS)[number];
  residual: (typeof RESIDUALS)[number];
  activation: LastActivation;
}

export interface Epilogue extends Steps {
  /** Whether the steps are told by uniforms, all but geglu; what is said of them here is then of no account. */
  told: boolean;
  residualType: 'f32' | 'f16';
  /** Columns that a store moves. */
  width: 1 | 4;
}

function stepsOf(m: EpilogueOperands): Steps {
  return {
    column: m.bias ? 'add' : m.scale ? 'scale' : 'none',
    residual: m.residual ? (m.residualFirst ? 'before' : 'after') : 'none',
    activation: m.activation,
  };
}

/** `told`: whether uniforms tell the steps, of which the shader then has all. */
export function epilogueOf(m: EpilogueOperands, width: 1 | 4, told = false): Epilogue {
  const steps = stepsOf(m);
  const all: Steps = { column: 'add', residual: 'after', activation: steps.activation === 'geglu' ? 'geglu' : 'none' };
  return { ...(told ? all : steps), told, residualType: (m.residual?.dtype ?? 'f32') as 'f32' | 'f16', width };
}

/** For a shader's name: the steps in their order. */
export function epilogueName({ told, column, residual, residualType, activation, width }: Epilogue): string {
  const gated = activation === 'geglu' ? ' geglu' : '';
  if (told) return `any${gated}${residualType === 'f16' ? ' f16' : ''} -> x${width}`;
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

/** `read`, where uniforms tell the steps: another operand that the dispatch reads, which is bound for those that are left out. */
export function epilogueOperands({ bias, scale, residual, output }: EpilogueOperands, read: Operand | null = null) {
  if (!read) return { bias, scale, residual, y: output };
  return { bias: bias ?? scale ?? read, residual: residual ?? read, y: output };
}

/** Uniform parameters of every epilogue, and their values for `rows` rows of the result. */
export const EPILOGUE_PARAMS = {
  image_share: 'f32',
  bias_step: 'u32',
  column_step: 'u32',
  residual_step: 'u32',
  activation_step: 'u32',
} as const;

/** Images that have values of their own in the bias; else 1. */
export const imagesOf = ({ bias }: EpilogueOperands) => (bias?.shape.length === 2 ? bias.shape[0] : 1);

export function epilogueParams(m: EpilogueOperands, rows: number) {
  const images = imagesOf(m);
  const { column, residual, activation } = stepsOf(m);
  return {
    image_share: images / rows,
    bias_step: images > 1 ? m.bias!.shape[1] : 0,
    column_step: COLUMNS.indexOf(column),
    residual_step: RESIDUALS.indexOf(residual),
    activation_step: activation === 'geglu' ? 0 : ACTIVATIONS.indexOf(activation),
  };
}

/** Rows for which `image_share` tells the image of a row without a division, which is dear: f32 is exact enough up to here. */
export const MOST_ROWS_OF_IMAGES = 2 ** 20;

/** WGSL of where the values of `row`'s image begin in a bias. */
export const IMAGE_OF_ROW = 'u32((f32(row) + 0.5) * p.image_share) * p.bias_step';

/**
 * WGSL of `finish4(batch, row, column, sums: vec4<f32>)`, of steps that are part of the shader: they and the store of four columns; what lies outside is
 * dropped. With geglu both it and `finish`, for `width` columns, take values and gates.
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
  ${column === 'add' ? `let of_image = ${IMAGE_OF_ROW};` : ''}
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
