/**
 * AdamW: Adam with weight decay apart from the gradient (Loshchilov & Hutter 2017, arXiv 1711.05101), with PyTorch's order of operations.
 * Weights, moments and results are f32 on the host; each update is computed in f64 and rounded once, so that it is the same everywhere.
 */
import { UserError } from '../core/errors.ts';

export interface AdamWOptions {
  /** Decay of the moments. Default [0.9, 0.999]. */
  betas?: readonly number[];
  /** Added to the root of the second moment. Default 1e-8. */
  epsilon?: number;
  /** Share of a weight, times the learning rate, that is taken off at each step. Default 0.01. */
  weightDecay?: number;
}

/** First and second moment of one weight's gradient. */
export interface AdamMoments {
  first: Float32Array;
  second: Float32Array;
}

export class AdamW {
  readonly moments: AdamMoments[];
  /** Updates made. */
  step = 0;
  private readonly options: Required<AdamWOptions>;

  /** One entry of `sizes` a weight: its number of elements. Throws UserError for options out of range. */
  constructor(sizes: readonly number[], { betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0.01 }: AdamWOptions = {}) {
    if (!(betas.every((beta) => beta >= 0 && beta < 1) && epsilon > 0 && weightDecay >= 0))
      throw new UserError(
        `AdamW: betas ${betas} must be from 0 to below 1, epsilon ${epsilon} above 0 and weight decay ${weightDecay} not negative.`,
      );
    this.options = { betas, epsilon, weightDecay };
    this.moments = sizes.map((size) => ({ first: new Float32Array(size), second: new Float32Array(size) }));
  }

  /** Changes the weights in place, in the order of `sizes`. */
  update(weights: readonly Float32Array[], gradients: readonly ArrayLike<number>[], learningRate: number): void {
    const [beta1, beta2] = this.options.betas;
    const { epsilon, weightDecay } = this.options;
    this.step++;
    const rate = learningRate / (1 - beta1 ** this.step);
    const root = Math.sqrt(1 - beta2 ** this.step);
    const kept = 1 - learningRate * weightDecay;
    weights.forEach((values, n) => {
      const { first, second } = this.moments[n];
      const gradient = gradients[n];
      for (let i = 0; i < values.length; i++) {
        const g = gradient[i];
        first[i] = beta1 * first[i] + (1 - beta1) * g;
        second[i] = beta2 * second[i] + (1 - beta2) * g * g;
        values[i] = kept * values[i] - (rate * first[i]) / (Math.sqrt(second[i]) / root + epsilon);
      }
    });
  }
}
