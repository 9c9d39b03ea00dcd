/**
 * Weights in blocks of 8 or 4 bits (core/blocks.ts) inside a safetensors file. Such a weight is a U8 tensor of its records' bytes under its own name, in
 * the order in which the GPU has it: (out, in), or (out, kh, kw, in) for a convolution. Dtype and shape, which is the checkpoint's, are in the file's
 * metadata under "supir_blocks": a JSON object such as {"a.weight": ["q4", [640, 320, 3, 3]]}. So every reader of safetensors opens the file, and this
 * one copies the bytes to the GPU as they are.
 */
import { BLOCK, type BlockDType, isBlocks, suitsBlocks } from '../core/blocks.ts';
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { blocksOf, byteLength, isStoredBlocks, type StoredDType } from './dtype.ts';
import { beyondBounds } from './json-bounds.ts';
import { duplicateKey } from './json-keys.ts';
import { elementCount, TENSOR_LIMIT, type TensorInfo } from './tensor-file.ts';

/** Key of the metadata. */
export const BLOCK_ENTRIES = 'supir_blocks';

/** What kind of parameter (core/module.ts) a weight in blocks is, by its shape: only two kinds are stored so. */
export const blockKind = (shape: readonly number[]): 'matrix' | 'conv' => (shape.length === 4 ? 'conv' : 'matrix');

/**
 * The rule which weights are stored in blocks when a model is to be in 8 or 4 bits: matrices and convolutions whose sizes are multiples of 32, which the
 * first and last convolutions, from and to a few channels, are not. All others are f16, and these by name:
 * - embeddings: tables, and the layers that embed timestep and sizes, whose error every block would share;
 * - CLIP's projection, which lies the other way around;
 * - the autoencoder, 3 % of all weights: it runs once, and its error is in the pixels.
 */
export function storedInBlocks(name: string, shape: readonly number[]): boolean {
  if (shape.length !== 2 && shape.length !== 4) return false;
  return !/embedding|(^|\.)(time_embed|label_emb)\.|text_projection|^first_stage_model\./.test(name) && suitsBlocks(shape);
}

/** The metadata's text for those of the tensors that are in blocks; undefined if none is. */
export function encodeBlockEntries(tensors: readonly { name: string; dtype: StoredDType; shape: readonly number[] }[]): string | undefined {
  const items = tensors.flatMap(({ name, dtype, shape }) =>
    isStoredBlocks(dtype) ? [`${JSON.stringify(name)}:${JSON.stringify([blocksOf(dtype), shape])}`] : [],
  );
  return items.length > 0 ? `{${items.join(',')}}` : undefined;
}

/** The tensors in blocks, from the metadata's text and the tensors of the header. @throws UserError for entries that do not fit their tensors. */
export function* readBlockEntries(file: string, text: string, tensors: ReadonlyMap<string, TensorInfo>): Generator<TensorInfo> {
  const fail = (why: string): never => {
    throw new UserError(
      `${file}: its metadata "${BLOCK_ENTRIES}", which tells the weights of 8 and 4 bits, ${why}. Convert the model again.`,
    );
  };
  // Each entry is a dtype and a list of sizes.
  const beyond = beyondBounds(new TextEncoder().encode(text), { values: 8 * TENSOR_LIMIT, depth: 4 });
  if (beyond) return fail(beyond);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return fail('is not JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return fail('is not an object');
  if (duplicateKey(text) !== undefined) fail('names a tensor twice');
  for (const [name, entry] of Object.entries(json)) {
    const quoted = shown(JSON.stringify(name));
    const [dtype, shape] = Array.isArray(entry) && entry.length === 2 ? entry : [];
    if (typeof dtype !== 'string' || !isBlocks(dtype)) return fail(`gives ${quoted} no dtype q8 or q4`);
    const sizes = Array.isArray(shape) && [2, 4].includes(shape.length) && shape.every((n) => Number.isSafeInteger(n) && n > 0);
    if (!sizes || !storedInBlocks(name, shape))
      return fail(`gives ${quoted} the shape ${shown(shape, 80)}, which is not in blocks of ${BLOCK}`);
    const stored = (dtype as BlockDType) === 'q8' ? 'Q8' : 'Q4';
    const info = tensors.get(name);
    if (!info) return fail(`names ${quoted}, which is not in the file`);
    const bytes = byteLength(stored, elementCount(shape));
    if (info.dtype !== 'U8' || info.end - info.begin !== bytes)
      return fail(
        `makes ${quoted} ${dtype} [${shape}], which takes ${bytes} bytes of U8, but it is ${info.dtype} of ${info.end - info.begin}`,
      );
    yield { ...info, dtype: stored, shape: shape as number[] };
  }
}
