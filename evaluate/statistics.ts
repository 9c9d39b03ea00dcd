/** Means with confidence intervals, by Student's t: right for normal values, and close for a dozen of others. (Student 1908) */

export interface Estimate {
  mean: number;
  /** Half the width of the 95% confidence interval of the mean; null for fewer than two values, and infinite ones. */
  margin: number | null;
  count: number;
}

/** The mean of `values` and how far it may be off. For paired differences: of a new photo of the same kind, not of these photos. */
export function estimate(values: readonly number[]): Estimate {
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  if (count < 2 || !Number.isFinite(mean)) return { mean, margin: null, count };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  return { mean, margin: studentT95(count - 1) * Math.sqrt(variance / count), count };
}

/**
 * The t within which 95% of Student's distribution lies to both sides of 0. With t = sqrt(df) tan(angle) the density becomes
 * cos(angle)^(df - 1), which is summed up to where 95% of it lie.
 */
export function studentT95(degreesOfFreedom: number): number {
  const steps = 100_000;
  const width = Math.PI / 2 / steps;
  // Midpoints of small intervals; beyond a few hundred degrees nearly all of it lies near 0.
  const density = Float64Array.from({ length: steps }, (_, i) => Math.cos((i + 0.5) * width) ** (degreesOfFreedom - 1));
  const target = 0.95 * density.reduce((sum, value) => sum + value, 0);
  let [sum, i] = [0, 0];
  while (sum + density[i] < target) sum += density[i++];
  const angle = (i + (target - sum) / density[i]) * width;
  return Math.sqrt(degreesOfFreedom) * Math.tan(angle);
}
