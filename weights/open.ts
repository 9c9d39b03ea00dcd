/** Opens a file of weights, whatever its format: by its first bytes, not by its name. */
import type { ByteSource } from './byte-source.ts';
import { openSafetensors } from './safetensors.ts';
import type { TensorFile } from './tensor-file.ts';
import { isZip, openTorch } from './torch-file.ts';
import { isLegacyTorch, openLegacyTorch, START_LENGTH } from './torch-legacy.ts';

/** Reads the index of a safetensors file or PyTorch checkpoint. @throws UserError if it is neither, or damaged; the source is closed then. */
export async function openTensorFile(source: ByteSource): Promise<TensorFile> {
  try {
    const start = await source.read(0, Math.min(START_LENGTH, source.size));
    if (isZip(start)) return await openTorch(source);
    return await (isLegacyTorch(start) ? openLegacyTorch(source) : openSafetensors(source));
  } catch (error) {
    await source.close?.();
    throw error;
  }
}

/** Opens several, all or none. */
export async function openAll(openings: readonly Promise<TensorFile>[]): Promise<TensorFile[]> {
  const results = await Promise.allSettled(openings);
  const failed = results.find((result) => result.status === 'rejected');
  if (!failed) return results.map((result) => (result as PromiseFulfilledResult<TensorFile>).value);
  for (const result of results) if (result.status === 'fulfilled') await result.value.close?.();
  throw failed.reason;
}
