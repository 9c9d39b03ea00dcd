/** What `convert` writes, as a file in memory. */
import * as assert from 'uvu/assert';
import { bytesSource } from '../../weights/byte-source.ts';
import { type ConvertedDType, convert } from '../../weights/convert.ts';
import { openTensorFile } from '../../weights/open.ts';
import type { TensorFile } from '../../weights/tensor-file.ts';

/** Its bytes. */
export async function convertedBytes(file: TensorFile, dtype: ConvertedDType): Promise<Uint8Array<ArrayBuffer>> {
  const { plan, tensor } = await convert(file, dtype);
  const parts: Uint8Array<ArrayBuffer>[] = [plan.header];
  for (const index of plan.tensors.keys()) for await (const part of tensor(index)) parts.push(part);
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  assert.is(bytes.length, plan.size);
  return bytes;
}

export async function converted(file: TensorFile, dtype: ConvertedDType): Promise<TensorFile> {
  return openTensorFile(bytesSource('converted.safetensors', await convertedBytes(file, dtype)));
}
