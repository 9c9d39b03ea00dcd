/** Opens a file of weights, whatever its format: by its first bytes, not by its name. */
import { inBlocks } from './block-source.ts';
import type { ByteSource } from './byte-source.ts';
import { openSafetensors } from './safetensors.ts';
import type { TensorFile } from './tensor-file.ts';

/** How files of PyTorch begin: zip archives, and before version 1.6 a pickle of protocol 2 with the magic number as an integer of 10 bytes. */
const ZIP = [0x50, 0x4b];
export const LEGACY: readonly number[] = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];
const beginsWith = (start: Uint8Array, signature: readonly number[]): boolean => signature.every((byte, i) => start[i] === byte);

/** True if a file that begins with these bytes is PyTorch's of before version 1.6. */
export const isLegacyTorch = (start: Uint8Array): boolean => beginsWith(start, LEGACY);

/** Reads the index of a safetensors file or PyTorch checkpoint. @throws UserError if it is neither, or damaged; the source is closed then. */
export async function openTensorFile(source: ByteSource): Promise<TensorFile> {
  try {
    const start = await source.read(0, Math.min(LEGACY.length, source.size));
    if (beginsWith(start, ZIP)) return await (await import('./torch-file.ts')).openTorch(source);
    if (isLegacyTorch(start)) return await (await import('./torch-legacy.ts')).openLegacyTorch(source);
    return await openSafetensors(inBlocks(source));
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
