/**
 * What a matmul or a convolution ends in: a value for each column is added to the sums, or they are multiplied by it, then come an activation
 * and a residual sum. Which of them is part of the shader, not a uniform: CPU drivers compute every branch, and a load that is not taken costs
 * them nearly as much as one that is.
 */
import type { Operand } from '../core/op.ts';
import { type Binding, elementType } from '../core/shader.ts';
import { type Activation, activationWgsl } from './activation.ts';

export interface EpilogueOperands {
  /** A value for each column: added, or with `scaled` multiplied by. */
  bias: Operand | null;
  scaled?: boolean;
  residual: Operand | null;
  /** Whether the residual is added before the activation instead of after it. */
  residualFirst?: boolean;
  output: Operand;
  activation: Activation;
}

export interface Epilogue {
  column: 'none' | 'add' | 'scale';
  residual: 'none' | 'before' | 'after';
  residualType: 'f32' | 'f16';
  activation: Activation;
  /** Columns that a store moves. */
  width: 1 | 4;
}

export function epilogueOf(m: EpilogueOperands, width: 1 | 4): Epilogue {
  return {
    column: m.bias ? (m.scaled ? 'scale' : 'add') : 'none',
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
export function epilogueBindings({ column, residual, residualType, width }: Epilogue): Binding[] {
  return [
    ...(column === 'none' ? [] : [{ name: 'bias', dtype: 'f32' as const, width }]),
    ...(residual === 'none' ? [] : [{ name: 'residual', dtype: residualType, width }]),
    { name: 'y', dtype: 'f32', width, write: true },
  ];
}

export function epilogueOperands({ bias, residual, output }: EpilogueOperands): Operand[] {
  return [bias, residual, output].filter((operand) => operand !== null);
}

/** WGSL of `finish4(batch, row, column, sums: vec4<f32>)`: the last steps and the store of four columns; what lies outside is dropped. */
export function epilogueWgsl({ column, residual, activation, width }: Epilogue): string {
  const type = elementType({ dtype: 'f32', width }) as 'f32' | 'vec4<f32>';
  return `
${activation === 'none' ? '' : activationWgsl(type)}
fn finish(batch: u32, row: u32, column: u32, sum: ${type}) {
  if (row >= p.rows || column >= p.columns) { return; }
  var v = sum;
  let i = ((batch * p.rows + row) * p.columns + column) / ${width}u;
  ${column === 'none' ? '' : `v ${column === 'add' ? '+' : '*'}= bias_load(column / ${width}u);`}
  ${residual === 'before' ? 'v += residual_load(i);' : ''}
  ${activation === 'none' ? '' : `v = ${activation}(v);`}
  ${residual === 'after' ? 'v += residual_load(i);' : ''}
  y_store(i, v);
}
fn finish4(batch: u32, row: u32, column: u32, sums: vec4<f32>) {
  ${width === 4 ? 'finish(batch, row, column, sums);' : 'for (var j = 0u; j < 4u; j++) { finish(batch, row, column + j, sums[j]); }'}
}`;
}
