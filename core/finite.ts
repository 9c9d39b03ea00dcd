/** Finding what is infinite or no number. */

/** Index of the first NaN or infinity, or -1; Uint16Array holds f16 bit patterns. A plain loop: checkpoints have billions of elements, and the GPU waits for a sampler's. */
export function firstNotFinite(values: Float32Array | Float64Array | Uint16Array): number {
  if (values instanceof Uint16Array) {
    if (pairsAreFinite(values)) return -1;
    for (let i = 0; i < values.length; i++) if ((values[i] & 0x7c00) === 0x7c00) return i;
  } else {
    for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i]) < Number.POSITIVE_INFINITY)) return i;
  }
  return -1;
}

/** Whether all f16 values are finite, two at a time: adding to an exponent of all ones overflows into the bit above it, and to no other. */
function pairsAreFinite(values: Uint16Array): boolean {
  if (values.byteOffset % 4 || values.length % 2) return false;
  const pairs = new Uint32Array(values.buffer, values.byteOffset, values.length / 2);
  let overflow = 0;
  for (let i = 0; i < pairs.length; i++) overflow |= (pairs[i] & 0x7c007c00) + 0x04000400;
  return (overflow & 0x80008000) === 0;
}
