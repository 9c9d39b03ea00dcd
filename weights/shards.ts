/** Checkpoints cut into shards, with an index that says which tensor is in which (`*.safetensors.index.json`, as Hugging Face saves them). */
import { UserError } from '../core/errors.ts';
import { parseJsonBytes } from '../core/json.ts';
import { plainName } from '../core/plain-name.ts';
import { sentence, shown } from '../core/text.ts';
import type { ByteSource } from './byte-source.ts';
import { beyondBounds } from './json-bounds.ts';
import { duplicateKey } from './json-keys.ts';
import { openAll, openTensorFile } from './open.ts';
import { TENSOR_LIMIT, type TensorFile, type TensorInfo } from './tensor-file.ts';

const INDEX_LIMIT = 64 * 2 ** 20;
/** A file for each tensor, and some numbers of the whole. */
const INDEX_BOUNDS = { values: TENSOR_LIMIT + 1000, depth: 8 };
const SHARD_LIMIT = 1000;

/** True for the name of an index. */
export const isShardIndex = (name: string): boolean => /\.index(\.[\w-]+)?\.json$/.test(name);

/**
 * Opens all shards of an index; `open` opens a file beside the index by name.
 * @throws UserError if the index is damaged, names files that are absent or lie elsewhere, or gives a shard a tensor that it does not hold. What a shard holds beside is passed over.
 */
export async function openShards(index: ByteSource, open: (name: string) => Promise<ByteSource>): Promise<TensorFile> {
  const shardOf = await readIndex(index);
  const names = [...new Set(shardOf.values())];
  const files = await openAll(
    names.map(async (name) => {
      const source = await open(name).catch((cause) => {
        throw new UserError(
          `${index.name} names the shard ${name}, which cannot be opened: ${sentence(cause.message)} Download every file of the model.`,
          { cause },
        );
      });
      return openTensorFile(source);
    }),
  );
  const file = new ShardedFile(index.name, shardOf, new Map(files.map((each, i) => [names[i], each])));
  const lost = [...shardOf].find(([tensor]) => !file.holds(tensor));
  if (!lost) return file;
  await file.close();
  throw new UserError(
    `${index.name} says that tensor "${shown(lost[0])}" is in ${lost[1]}, and it is not: the files are not of one model, or were cut. Download them again.`,
  );
}

async function readIndex(index: ByteSource): Promise<Map<string, string>> {
  const fail = (why: string): never => {
    throw new UserError(`${index.name}: ${why}. It is damaged, or no index of shards: download it again.`);
  };
  if (index.size > INDEX_LIMIT) fail(`${index.size} bytes are too many for an index`);
  const bytes = await index.read(0, index.size);
  await index.close?.();
  const beyond = beyondBounds(bytes, INDEX_BOUNDS);
  if (beyond) fail(`it ${beyond}`);
  const text = new TextDecoder().decode(bytes);
  const json = parseJsonBytes(bytes, index.name);
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) return fail('it has no "weight_map" of tensors to files');
  const twice = duplicateKey(text);
  if (twice !== undefined) fail(`it names "${shown(twice)}" twice`);
  const shardOf = new Map(Object.entries(map));
  for (const [tensor, shard] of shardOf) plainName(shard, `${index.name}: the file of ${shown(tensor)}`);
  if (shardOf.size === 0) fail('it names no tensors');
  if (new Set(shardOf.values()).size > SHARD_LIMIT) fail(`it names more than ${SHARD_LIMIT} shards`);
  return shardOf;
}

class ShardedFile implements TensorFile {
  readonly name: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly #shardOf: ReadonlyMap<string, string>;
  readonly #shards: ReadonlyMap<string, TensorFile>;

  constructor(name: string, shardOf: ReadonlyMap<string, string>, shards: ReadonlyMap<string, TensorFile>) {
    this.name = name;
    this.#shardOf = shardOf;
    this.#shards = shards;
    this.metadata = new Map([...shards.values()].flatMap((shard) => [...shard.metadata]));
  }

  /** Those that the index gives to their shard: of a tensor that lies in two, the copy that counts. */
  names(): string[] {
    return [...this.#shards].flatMap(([file, shard]) => shard.names().filter((name) => this.#shardOf.get(name) === file));
  }

  /** Whether the shard that the index gives a tensor to has it. */
  holds(name: string): boolean {
    return this.#shards.get(this.#shardOf.get(name) ?? '')?.has(name) ?? false;
  }

  has(name: string): boolean {
    return this.#shardOf.has(name);
  }

  info(name: string): TensorInfo {
    return this.#shard(name).info(name);
  }

  bytes(name: string, byteOffset?: number, byteLength?: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#shard(name).bytes(name, byteOffset, byteLength, into);
  }

  f32(name: string): Promise<Float32Array<ArrayBuffer>> {
    return this.#shard(name).f32(name);
  }

  f16bits(name: string): Promise<Uint16Array<ArrayBuffer>> {
    return this.#shard(name).f16bits(name);
  }

  async close(): Promise<void> {
    for (const shard of this.#shards.values()) await shard.close?.();
  }

  #shard(name: string): TensorFile {
    const shard = this.#shards.get(this.#shardOf.get(name) ?? '');
    if (!shard) throw new UserError(`${this.name}: there is no tensor "${name}" among its ${this.#shardOf.size}. Is it the right file?`);
    return shard;
  }
}
