/** Some photos of several could not be restored. */
export class PartialFailure extends Error {
  override name = 'PartialFailure';
}
