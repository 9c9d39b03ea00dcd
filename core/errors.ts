/**
 * Errors that a person can act on. Every message says what is wrong, where, and what to do next; front ends print the message alone and
 * keep the stack for `--debug`.
 */

/** A cause the caller can mend: a bad file, option, shape or size. Front ends exit with code 2. */
export class UserError extends Error {
  override name = 'UserError';
}

/** Shapes that do not fit an operation. The message names the operation, the shapes and, where there is one, the weight. */
export class ShapeError extends UserError {
  override name = 'ShapeError';
}

/** The adapter went away, ran out of memory, or refused a command. Front ends exit with code 3. */
export class DeviceError extends Error {
  override name = 'DeviceError';
}

/** The adapter has less memory than was asked of it. */
export class MemoryError extends DeviceError {
  override name = 'MemoryError';
}
