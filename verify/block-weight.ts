/** Weights in blocks for kernel tests: the graph's tensor, and what its records stand for, read in f64 as core/blocks.ts describes the format. */
import { type BlockDType, quantise } from '../core/blocks.ts';
import { fromF16 } from '../core/half.ts';
import { Parameter } from '../core/module.ts';
import type { ParameterKind } from '../core/parameter-source.ts';
import type { Sample, Values } from './sample.ts';

/** Records -> values, one after the other. */
export function recorded(dtype: BlockDType, bytes: Uint8Array, count: number): Float64Array {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const perRecord = dtype === 'q8' ? 17 : 9;
  return Float64Array.from({ length: count }, (_, i) => {
    const record = Math.floor(i / 64) * perRecord;
    const scale = fromF16(i % 64 < 32 ? words[record] & 0xffff : words[record] >>> 16);
    const at = i % 64;
    if (dtype === 'q8') return (((words[record + 1 + Math.floor(at / 4)] >>> (8 * (at % 4))) & 255) / 128 - 1) * scale;
    const byte = (words[record + 1 + Math.floor(at / 8)] >>> (8 * (at % 4))) & 255;
    return ((at % 8 < 4 ? byte & 15 : byte >>> 4) / 8 - 1) * scale;
  });
}

/** A weight of these values, in stored order: (out, in) or (out, kh, kw, in). */
export function blockWeight({ shape, data }: Values, dtype: BlockDType): Sample {
  const [out, kh, kw, inner] = shape.length === 4 ? shape : [shape[0], 1, 1, shape[1]];
  const kind: ParameterKind = shape.length === 4 ? 'conv' : 'matrix';
  const parameter = new Parameter(kind === 'conv' ? [out, inner, kh, kw] : [out, inner], kind);
  parameter.name = `a weight in ${dtype}`;
  parameter.dtype = dtype;
  const bytes = quantise(dtype, Float32Array.from(data));
  parameter.source = {
    read: () => Promise.reject(new Error('its records are to be read')),
    readRows: () => Promise.reject(new Error('it is not read by rows')),
    pieces: () => [{ offset: 0, bytes: bytes.length, read: async () => bytes }],
  };
  return { tensor: parameter.tensor, shape, data: recorded(dtype, bytes, data.length) };
}
