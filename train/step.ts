/**
 * One training step as a program: a loss and its derivatives by chosen weights. The weights' values live on the host in f32 and are uploaded
 * after each update. With checkpointing only sums around residual branches, the trunk of every network here, stay from the forward pass until
 * the backward pass; all else is computed a second time.
 */

import type { Parameter } from '../core/module.ts';
import { isOp } from '../core/op.ts';
import { checkpointOrder } from '../core/stored-order.ts';
import { sameShape, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type Program, type RunInputs } from '../gpu/program.ts';
import { binaryOp } from '../kernels/binary.ts';
import { gradient } from '../kernels/gradient.ts';

export interface TrainingStepOptions {
  /** Compute activations a second time instead of keeping them. Default true. */
  checkpointing?: boolean;
}

export interface StepResult {
  loss: number;
  /** Further outputs by name. */
  outputs: Record<string, Float32Array>;
  /** One a weight, in the checkpoint's order. */
  gradients: Float32Array[];
}

export class TrainingStep {
  readonly program: Program<string>;
  private readonly weights: readonly Parameter[];

  private constructor(program: Program<string>, weights: readonly Parameter[]) {
    this.program = program;
    this.weights = weights;
  }

  /** `outputs.loss` has one element. Throws UserError when the loss does not depend on one of the weights, DeviceError when memory does not suffice. */
  static async compile(
    device: Device,
    outputs: Record<string, Tensor> & { loss: Tensor },
    weights: readonly Parameter[],
    { checkpointing = true }: TrainingStepOptions = {},
  ): Promise<TrainingStep> {
    const graph = trainingGraph(outputs, weights, checkpointing);
    return new TrainingStep(await compile(device, graph), weights);
  }

  async run(inputs: RunInputs): Promise<StepResult> {
    const results = await this.program.run(inputs);
    const gradients = this.weights.map((weight, i) => checkpointOrder(results[gradientName(i)], weight));
    const outputs = Object.fromEntries(Object.entries(results).filter(([name]) => !name.startsWith(gradientName(''))));
    return { loss: results.loss[0], outputs, gradients };
  }

  dispose(): void {
    this.program.dispose();
  }
}

const gradientName = (i: number | '') => `gradient ${i}`;

/** The outputs, and the derivative of the loss by every weight. */
export function trainingGraph(
  outputs: Record<string, Tensor> & { loss: Tensor },
  weights: readonly Parameter[],
  checkpointing: boolean,
): Record<string, Tensor> {
  const tensors = weights.map(({ tensor }) => tensor);
  const derivatives = gradient(outputs.loss, tensors, checkpointing ? { keep: isResidualSum } : {});
  return { ...outputs, ...Object.fromEntries(derivatives.map((each, i) => [gradientName(i), each])) };
}

/** Sums of two tensors of one shape. */
function isResidualSum(tensor: Tensor): boolean {
  if (!isOp(tensor, binaryOp) || tensor.source.attrs.fn !== 'add') return false;
  const { a, b } = tensor.source.inputs;
  return sameShape(a.shape, b.shape);
}
