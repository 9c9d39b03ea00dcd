/**
 * Half precision on the host: IEEE 754 binary16 (f16), bfloat16, and the two 8-bit floats of OCP MX (E4M3 without infinities, E5M2), as
 * bit patterns in integer arrays. Narrowing rounds to nearest, ties to even; widening is exact.
 */

const word = new Uint32Array(1);
const real = new Float32Array(word.buffer);

/** The bits of `value` (rounded to f32 first) as an f16; 65520 and above become infinity, NaN stays NaN. */
export function toF16(value: number): number {
  real[0] = value;
  const sign = (word[0] >>> 16) & 0x8000;
  const bits = word[0] & 0x7fffffff;
  if (bits > 0x7f800000) return sign | 0x7e00;
  if (bits >= 0x477ff000) return sign | 0x7c00;
  if (bits < 0x38800000) {
    // Below 2^-14 an f16 counts units of 2^-24, which is what the last place of 0.5 is worth in f32: the addition does the rounding.
    word[0] = bits;
    real[0] += 0.5;
    return sign | (word[0] - 0x3f000000);
  }
  return sign | ((bits - 0x38000000 + 0xfff + ((bits >>> 13) & 1)) >>> 13);
}

/** The value of f16 bits. */
export function fromF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

/** The value of E4M3 bits: exponent bias 7, no infinities, 0x7f and 0xff are NaN. */
export function fromF8E4M3(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >>> 3) & 15;
  const mantissa = bits & 7;
  if (exponent === 0) return sign * mantissa * 2 ** -9;
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  return sign * (8 + mantissa) * 2 ** (exponent - 10);
}

/** The value of E5M2 bits: the upper byte of an f16. */
export function fromF8E5M2(bits: number): number {
  return fromF16(bits << 8);
}

let f16Values: Float32Array | undefined;

/** f16 bits -> f32 values, by a table of all 65536. */
export function decodeF16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  f16Values ??= Float32Array.from({ length: 65536 }, (_, i) => fromF16(i));
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = f16Values[bits[i]];
  return values;
}

/** bfloat16 bits (the upper half of an f32) -> f32 values. */
export function decodeBF16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return new Float32Array(words.buffer);
}

/** f32 values -> f16 bits, to nearest even; what overflows becomes infinity (the caller decides whether that is an error). */
export function encodeF16(values: ArrayLike<number>): Uint16Array<ArrayBuffer> {
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = toF16(values[i]);
  return bits;
}
