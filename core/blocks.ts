/**
 * Weights in blocks of 8 or 4 bits: 32 values along a row share one f16 scale. (After Dettmers et al. 2022, arXiv 2110.02861, and the Q8_0 and
 * Q4_0 formats of ggml.)
 *
 * Two blocks, 64 values, make a record of u32 words: one word with both scales (the first in the lower half), then the codes. q8 has 16 words of
 * codes, four to a word, and q4 has 8: byte b of word w holds the values 8 w + b (lower half) and 8 w + 4 + b. With n = 8 or 4 bits and half = 2^(n - 1),
 *   value = (code / half - 1) * scale        code 0 .. 2^n - 1
 * so that a scale has the magnitude of the block's largest value and an f16 never loses a block of small ones. In f32 every value is exact.
 */
import { ShapeError } from './errors.ts';
import { fromF16, toF16 } from './half.ts';
import type { Shape } from './shape.ts';

export type BlockDType = 'q8' | 'q4';

/** Values that share a scale. */
export const BLOCK = 32;
const RECORD = 2 * BLOCK;
/** Words of a record. */
const WORDS = { q8: 17, q4: 9 };
/** Bytes of a record, which holds 64 values. */
export const RECORD_BYTES = { q8: 4 * WORDS.q8, q4: 4 * WORDS.q4 };

export const isBlocks = (dtype: string): dtype is BlockDType => dtype === 'q8' || dtype === 'q4';

/** Whether a matrix (out, in) or convolution (out, in, kh, kw) may be in blocks: each then lies within a row and a tap, and records end with rows. */
export const suitsBlocks = ([out, inner]: Shape): boolean => out % BLOCK === 0 && inner % BLOCK === 0;

/** Bytes of `count` values, in whole records. */
export const blockBytes = (dtype: BlockDType, count: number): number => Math.ceil(count / RECORD) * RECORD_BYTES[dtype];

/**
 * What q4's scales are tried at, times the block's largest value: above 1 the largest is rounded, below 1 it is cut off, and the sum of squared errors
 * tells which is better. On normally distributed weights the error is 8.14 % so, 8.46 % with 1 alone, and 8.05 % with twice as many.
 */
const TRIED = [1.03, 0.97, 0.91, 0.85];

/** Values in stored order, in whole blocks -> records. Throws ShapeError for other counts. Values beyond f16's range are the caller's to refuse. */
export function quantise(dtype: BlockDType, values: Float32Array): Uint8Array<ArrayBuffer> {
  if (values.length % BLOCK) throw new ShapeError(`${values.length} values are not in blocks of ${BLOCK}: this tensor cannot be ${dtype}.`);
  const bytes = new Uint8Array(blockBytes(dtype, values.length));
  const scales = new Uint16Array(bytes.buffer);
  for (let from = 0; from < values.length; from += BLOCK) {
    const record = Math.floor(from / RECORD) * RECORD_BYTES[dtype];
    const second = (from / BLOCK) % 2;
    const codes = record + 4 + second * (dtype === 'q8' ? BLOCK : BLOCK / 2);
    const bits = dtype === 'q8' ? quantise8(values, from, bytes, codes) : quantise4(values, from, bytes, codes);
    scales[record / 2 + second] = bits;
  }
  return bytes;
}

/** The value of the largest magnitude in a block, with its sign. */
function largest(values: Float32Array, from: number): number {
  let found = 0;
  for (let i = from; i < from + BLOCK; i++) if (Math.abs(values[i]) > Math.abs(found)) found = values[i];
  return found;
}

const LARGEST_F16 = 0x7bff;

/** Bits of a finite f16 near `value`. */
const scaleBits = (value: number): number => {
  const bits = toF16(value);
  return (bits & 0x7fff) > LARGEST_F16 ? (bits & 0x8000) | LARGEST_F16 : bits;
};

/** Writes a block's codes and returns its scale: the largest value becomes 1 or 255, so that zero has a code of its own. */
function quantise8(values: Float32Array, from: number, bytes: Uint8Array, codes: number): number {
  const bits = scaleBits((Math.abs(largest(values, from)) * 128) / 127);
  const scale = fromF16(bits);
  const inverse = scale === 0 ? 0 : 128 / scale;
  for (let i = 0; i < BLOCK; i++) bytes[codes + i] = Math.max(0, Math.min(255, Math.floor(values[from + i] * inverse + 128.5)));
  return bits;
}

/** As quantise8, with the scale of the least squared error among those tried. The largest value takes code 0, of which there is one more below zero. */
function quantise4(values: Float32Array, from: number, bytes: Uint8Array, codes: number): number {
  const peak = -largest(values, from);
  let least = Number.POSITIVE_INFINITY;
  let chosen = 0;
  for (const factor of TRIED) {
    const step = (peak * factor) / 8;
    const error = step === 0 ? 0 : squaredError(values, from, 1 / step) * step * step;
    if (error < least) {
      least = error;
      chosen = peak * factor;
    }
  }
  const bits = scaleBits(chosen);
  const scale = fromF16(bits);
  const inverse = scale === 0 ? 0 : 8 / scale;
  for (let i = 0; i < BLOCK; i += 8) {
    for (let b = 0; b < 4; b++) {
      const at = from + i + b;
      bytes[codes + i / 2 + b] = code4(values[at] * inverse) | (code4(values[at + 4] * inverse) << 4);
    }
  }
  return bits;
}

/** The code of a value in steps of its block. Written without calls, which a loop over billions feels. */
function code4(steps: number): number {
  const code = (steps + 8.5) | 0;
  return code > 15 ? 15 : Math.max(code, 0);
}

/** Squared error of a block in steps. */
function squaredError(values: Float32Array, from: number, inverse: number): number {
  let error = 0;
  for (let i = from; i < from + BLOCK; i++) {
    const steps = values[i] * inverse;
    const off = steps - (code4(steps) - 8);
    error += off * off;
  }
  return error;
}

/** Records -> the `count` values they stand for, exactly. */
export function dequantise(dtype: BlockDType, bytes: Uint8Array, count: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  for (let from = 0; from < count; from += BLOCK) {
    const record = Math.floor(from / RECORD) * RECORD_BYTES[dtype];
    const second = (from / BLOCK) % 2;
    const scale = fromF16(bytes[record + 2 * second] | (bytes[record + 2 * second + 1] << 8));
    if (dtype === 'q8') {
      const codes = record + 4 + second * BLOCK;
      for (let i = 0; i < BLOCK; i++) values[from + i] = (bytes[codes + i] / 128 - 1) * scale;
    } else {
      const codes = record + 4 + (second * BLOCK) / 2;
      for (let i = 0; i < BLOCK; i++) {
        const byte = bytes[codes + (i >> 3) * 4 + (i & 3)];
        values[from + i] = ((i & 4 ? byte >> 4 : byte & 15) / 8 - 1) * scale;
      }
    }
  }
  return values;
}

/** Number of the first value in a block whose scale is infinite or no number; -1 if there is none. */
export function firstBadBlock(dtype: BlockDType, bytes: Uint8Array): number {
  for (let at = 0; at < bytes.length; at += RECORD_BYTES[dtype]) {
    if ((bytes[at + 1] & 0x7c) === 0x7c || (bytes[at + 3] & 0x7c) === 0x7c)
      return (at / RECORD_BYTES[dtype]) * RECORD + ((bytes[at + 1] & 0x7c) === 0x7c ? 0 : BLOCK);
  }
  return -1;
}

/** Body of the WGSL function that loads element i, or elements 4 i to 4 i + 3, of a binding in blocks. */
export function loadBlocks(name: string, dtype: BlockDType, width: 1 | 4): string {
  const perWord = dtype === 'q8' ? 4 : 8;
  const half = dtype === 'q8' ? 128 : 8;
  // v: the number of the four values that hold element i.
  const word = `${name}[at + 1u + (v & 15u) / ${perWord / 4}u]`;
  const codes = dtype === 'q8' ? word : `(${word} >> (4u * (v & 1u)))`;
  const mask = dtype === 'q8' ? 255 : 15;
  const code =
    width === 4 ? `(vec4<u32>(${codes}) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(${mask}u)` : `(${codes} >> (8u * (i & 3u))) & ${mask}u`;
  const type = width === 4 ? 'vec4<f32>' : 'f32';
  return `let v = ${width === 4 ? 'i' : 'i / 4u'};
  let at = (v >> 4u) * ${WORDS[dtype]}u;
  let scales = unpack2x16float(${name}[at]);
  let scale = select(scales.x, scales.y, (v & 8u) != 0u);
  return ${type}(${code}) * (scale * ${1 / half}) - scale;`;
}
