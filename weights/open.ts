/** Opens a file of weights, whatever its format: by its first bytes, not by its name. */
import type { ByteSource } from './byte-source.ts';
import { openSafetensors } from './safetensors.ts';
import type { TensorFile } from './tensor-file.ts';
import { isZip, openTorch } from './torch-file.ts';

/** Reads the index of a safetensors file or PyTorch checkpoint. @throws UserError if it is neither, or damaged. */
export async function openTensorFile(source: ByteSource): Promise<TensorFile> {
  const start = await source.read(0, Math.min(2, source.size));
  return isZip(start) ? openTorch(source) : openSafetensors(source);
}
