/**
 * How far f32 results may be from the f64 reference. A result that n terms are summed into carries n roundings, each of relative size up to
 * u = 2^-24 of the partial sum and of either sign, so its error grows as u sqrt(n) (Higham & Mary 2019), and `functions` that are only
 * accurate to some ulps (exp, division, sqrt) add theirs.
 *
 * Two gates: the error's 2-norm stays below u (sqrt(n) + ulps) of the reference's, and no element is off by more than four times that,
 * relative to its own size plus the root mean square, the scale of the terms it was summed from.
 */
import type { Values } from './sample.ts';

const U = 2 ** -24;

export interface Accuracy {
  /** Terms summed into one result, in the longest chain. Default 1. */
  terms?: number;
  /** Accuracy of the functions applied, in units of 2^-24. Default 1. */
  ulps?: number;
}

export interface Measured {
  /** Largest difference. */
  abs: number;
  /** 2-norm of the difference over that of the reference. */
  rel: number;
  /** The larger of both, as a share of what is allowed: above 1 the check fails. */
  share: number;
}

/** The worst of every kind of check so far, for reports. */
export const measured = new Map<string, Measured>();

/** How far `actual` is from `expected`, and its worst element in words. Throws where sizes differ or a value is no number. */
export function measure(
  actual: ArrayLike<number>,
  { data: reference }: Values,
  { terms = 1, ulps = 1 }: Accuracy = {},
): Measured & { worst: string; allowed: number; elementShare: number } {
  if (actual.length !== reference.length) throw new Error(`${actual.length} values, expected ${reference.length}`);
  const allowed = U * (Math.sqrt(terms) + ulps);
  const square = reference.reduce((sum, value) => sum + value * value, 0);
  const rms = Math.sqrt(square / reference.length);
  let [abs, share, worst, errorSquare] = [0, 0, 0, 0];
  for (let i = 0; i < reference.length; i++) {
    const error = Math.abs(actual[i] - reference[i]);
    if (Number.isNaN(error)) throw new Error(`element ${i} is ${actual[i]}, expected ${reference[i]}`);
    errorSquare += error * error;
    abs = Math.max(abs, error);
    const used = error === 0 ? 0 : error / (4 * allowed * (rms + Math.abs(reference[i])));
    if (used > share) [share, worst] = [used, i];
  }
  const rel = errorSquare === 0 ? 0 : Math.sqrt(errorSquare / square);
  const inWords = `element ${worst} is ${actual[worst]}, expected ${reference[worst]}`;
  return { abs, rel, share: Math.max(share, rel / allowed), worst: inWords, allowed, elementShare: share };
}

/** Throws with the worst element unless `actual` is `expected` within the accuracy. `what` names the kind of check, then after a comma the case. */
export function assertClose(what: string, actual: ArrayLike<number>, expected: Values, accuracy: Accuracy = {}): void {
  const found = refusedAs(what, () => measure(actual, expected, accuracy));
  const { abs, rel, share, worst, allowed, elementShare } = found;
  const kind = what.split(',')[0];
  if (share >= (measured.get(kind)?.share ?? 0)) measured.set(kind, { abs, rel, share });
  if (!(elementShare <= 1)) throw new Error(`${what}: ${worst}: ${elementShare.toFixed(2)} times the allowed error`);
  if (!(rel <= allowed))
    throw new Error(`${what}: relative error ${rel.toExponential(2)} of the whole, allowed ${allowed.toExponential(2)}; ${worst}`);
}

function refusedAs<T>(what: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw new Error(`${what}: ${(error as Error).message}`);
  }
}
