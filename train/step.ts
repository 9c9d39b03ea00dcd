/**
 * One pass of a training step as a program: a loss, and its derivatives by the weights, which are added to the step's gradients where those lie
 * (adamw.ts). With checkpointing only sums around residual branches, the trunk of every network here, stay from the forward pass until the backward
 * pass; all else is computed a second time.
 */

import type { Parameter } from '../core/module.ts';
import { isOp } from '../core/op.ts';
import { sameShape, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type Program, type RunInputs } from '../gpu/program.ts';
import { binaryOp } from '../kernels/binary.ts';
import { beforeGradient } from '../kernels/fusion.ts';
import { gradient } from '../kernels/gradient.ts';
import type { AdamW } from './adamw.ts';

export interface TrainingStepOptions {
  /** Compute activations a second time instead of keeping them. Default true. */
  checkpointing?: boolean;
}

/** Of a step's passes: how much one counts, and whether it is the first. */
export interface Pass {
  share: number;
  first: boolean;
}

export interface StepResult {
  loss: number;
  /** Further outputs by name. */
  outputs: Record<string, Float32Array>;
  /** Sums of squares over all weights: of the pass's derivatives, of the step's gradients so far (those of the regulariser included), and where there is one of the weights. */
  squares: { derivatives: number; gradients: number; weights: number };
}

export class TrainingStep {
  readonly program: Program<string>;

  private constructor(program: Program<string>) {
    this.program = program;
  }

  /** `outputs.loss` has one element. Throws UserError when the loss does not depend on one of the weights, DeviceError when memory does not suffice. */
  static async compile(
    device: Device,
    outputs: Record<string, Tensor> & { loss: Tensor },
    adam: AdamW,
    { checkpointing = true }: TrainingStepOptions = {},
  ): Promise<TrainingStep> {
    await adam.place();
    const graph = beforeGradient(outputs, adam.wholes);
    const squares = adam.collect(derivatives(graph.loss, adam.wholes, checkpointing));
    return new TrainingStep(await compile(device, { ...graph, squares }));
  }

  async run(inputs: RunInputs, { share, first }: Pass): Promise<StepResult> {
    const { loss, squares, ...outputs } = await this.program.run({ ...inputs, share, before: first ? 0 : 1 });
    const [ofDerivatives, ofGradients, ofWeights] = squares;
    return { loss: loss[0], outputs, squares: { derivatives: ofDerivatives, gradients: ofGradients, weights: ofWeights } };
  }

  dispose(): void {
    this.program.dispose();
  }
}

/** The derivative of a loss by every weight. */
export function derivatives(loss: Tensor, weights: readonly Parameter[], checkpointing: boolean): Tensor[] {
  return gradient(
    loss,
    weights.map(({ tensor }) => tensor),
    checkpointing ? { keep: isResidualSum } : {},
  );
}

/** Sums of two tensors of one shape. */
function isResidualSum(tensor: Tensor): boolean {
  if (!isOp(tensor, binaryOp) || tensor.source.attrs.fn !== 'add') return false;
  const { a, b } = tensor.source.inputs;
  return sameShape(a.shape, b.shape);
}
