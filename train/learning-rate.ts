/** The learning rate over a training: linear warm-up, then constant or half a cosine down to a share of it. (Loshchilov & Hutter 2016, SGDR) */
import { UserError } from '../core/errors.ts';

export interface LearningRateOptions {
  /** Highest rate. Default 1e-4. */
  rate?: number;
  /** Steps from 0 up to it. Default 0. */
  warmup?: number;
  decay?: 'constant' | 'cosine';
  /** What the cosine ends at, as a share of the rate. Default 0. */
  floor?: number;
}

/** The rate of a step (0, 1, ...) of `steps`. */
export function learningRate(step: number, steps: number, options: LearningRateOptions = {}): number {
  const { rate = 1e-4, warmup = 0, decay = 'constant', floor = 0 } = options;
  if (!(rate > 0) || !(warmup >= 0) || !(floor >= 0 && floor <= 1))
    throw new UserError(
      `The learning rate ${rate} must be above 0, its warm-up ${warmup} not negative, and its floor ${floor} from 0 to 1.`,
    );
  if (step < warmup) return (rate * (step + 1)) / warmup;
  if (decay === 'constant') return rate;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  return rate * (floor + ((1 - floor) * (1 + Math.cos(Math.PI * progress))) / 2);
}
