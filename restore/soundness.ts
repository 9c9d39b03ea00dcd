/**
 * No wrong picture in silence. Drivers drop work that takes too long, or that memory does not suffice for, and some raise no error: what was to be
 * computed is then zero, or what it was before. So whatever networks give is looked at before it is used.
 */
import { DeviceError } from '../core/errors.ts';
import { firstNotFinite } from '../core/finite.ts';

/** What cannot be right: not numbers, the same number everywhere, or to the bit what another input had given. */
export type Fault = 'not-finite' | 'constant' | 'unchanged';

/** Why, most probably. */
const CAUSES: Record<Fault, string> = {
  'not-finite': 'a number outgrew its type, in the driver or by a LoRA that is too strong',
  constant: 'the driver dropped the work, because it took too long or memory did not suffice',
  unchanged: 'the driver dropped the work, because it took too long or memory did not suffice',
};

function wrong(stage: string, fault: Fault, what: string, at: number, value: number): DeviceError {
  return new DeviceError(`The stage '${stage}' gave what cannot be right: ${what}. Probably ${CAUSES[fault]}.`, {
    code: 'wrong-values',
    values: { stage, fault, at, value: String(value) },
  });
}

/** Whether all values are one. A single value is not. */
export function isConstant(values: ArrayLike<number>): boolean {
  for (let i = 1; i < values.length; i++) if (values[i] !== values[0]) return false;
  return values.length > 1;
}

/** Throws DeviceError (wrong-values) unless all values are finite. `name` is what they are, for the message. */
export function checkFinite(stage: string, name: string, values: Float32Array): void {
  const at = firstNotFinite(values);
  if (at >= 0) throw wrong(stage, 'not-finite', `value ${at + 1} of ${values.length} in ${name} is ${values[at]}`, at, values[at]);
}

/** As checkFinite, and throws where all values are the same, as no network's are: even of a photo of one colour, borders and channels differ. */
export function checkValues(stage: string, name: string, values: Float32Array): void {
  checkFinite(stage, name, values);
  if (isConstant(values)) throw wrong(stage, 'constant', `all ${values.length} values in ${name} are ${values[0]}`, 0, values[0]);
}

/** Checks every array of what a stage has made, to any depth. Throws as checkValues. */
export function checkMade(stage: string, made: object): void {
  for (const [name, value] of Object.entries(made)) {
    if (value instanceof Float32Array) checkValues(stage, name === 'data' ? 'its result' : name, value);
    else if (typeof value === 'object' && value !== null) checkMade(stage, value);
  }
}

/** Looks at every answer of a denoising network. */
export class AnswerCheck {
  private last: { x: Float32Array; timestep: number; eps: Float32Array } | null = null;

  /** Throws as checkValues, and where another input gave the same to the bit: what was there before the work was dropped. */
  check(x: Float32Array, timestep: number, eps: Float32Array): void {
    const { last } = this;
    checkValues('sample', 'the noise that it predicts', eps);
    if (last && same(last.eps, eps) && !(last.timestep === timestep && same(last.x, x)))
      throw wrong('sample', 'unchanged', 'the noise that it predicts is to the bit that of the evaluation before', 0, eps[0]);
    this.last = { x, timestep, eps };
  }
}

function same(a: Float32Array, b: Float32Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}
