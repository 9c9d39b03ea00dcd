import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';

/** The error that the work ends in. */
export async function refusal(work: Promise<unknown>): Promise<Error> {
  const error = await work.then(
    () => null,
    (reason) => reason,
  );
  assert.instance(error, Error);
  return error;
}

/** Asserts that the work is refused with a UserError whose message matches. */
export async function refused(work: Promise<unknown>, text: RegExp): Promise<void> {
  const error = await refusal(work);
  assert.instance(error, UserError);
  assert.match(error.message, text);
}
