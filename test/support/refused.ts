import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';

/** Asserts that the work is refused with a UserError whose message matches. */
export async function refused(work: Promise<unknown>, text: RegExp): Promise<void> {
  const error = await work.then(
    () => null,
    (reason: Error) => reason,
  );
  assert.instance(error, UserError);
  assert.match(error!.message, text);
}
