/** An exponential moving average of weights, which samples better than the weights themselves. (Polyak & Juditsky 1992; Karras et al. 2023) */

export class Ema {
  readonly values: Float32Array[];
  readonly decay: number;

  /** Starts at the weights. `decay` is the share of the average that a step keeps, such as 0.999. */
  constructor(weights: readonly Float32Array[], decay: number) {
    this.decay = decay;
    this.values = weights.map((values) => values.slice());
  }

  /** After `step` updates (from 1). Early steps average less, so that the start is forgotten: the decay is at most (1 + step) / (10 + step). */
  update(weights: readonly Float32Array[], step: number): void {
    const decay = Math.min(this.decay, (1 + step) / (10 + step));
    this.values.forEach((values, n) => {
      const now = weights[n];
      for (let i = 0; i < values.length; i++) values[i] += (1 - decay) * (now[i] - values[i]);
    });
  }
}
