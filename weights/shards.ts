/** Checkpoints cut into shards, with an index that says which tensor is in which (`*.safetensors.index.json`, as Hugging Face saves them). */
import { UserError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { duplicateKey } from './json-keys.ts';
import { openTensorFile } from './open.ts';
import type { TensorFile, TensorInfo } from './tensor-file.ts';

const INDEX_LIMIT = 64 * 2 ** 20;
const SHARD_LIMIT = 1000;

/** True for the name of an index. */
export const isShardIndex = (name: string): boolean => /\.index(\.[\w-]+)?\.json$/.test(name);

/**
 * Opens all shards of an index; `open` opens a file beside the index by name.
 * @throws UserError if the index is damaged, names files that are absent or lie elsewhere, or does not agree with what the shards hold.
 */
export async function openShards(index: ByteSource, open: (name: string) => Promise<ByteSource>): Promise<TensorFile> {
  const shardOf = await readIndex(index);
  const shards = new Map<string, TensorFile>();
  for (const name of new Set(shardOf.values())) {
    const source = await open(name).catch((cause) => {
      throw new UserError(
        `${index.name} names the shard ${name}, which cannot be opened: ${cause.message} Download every file of the model.`,
        {
          cause,
        },
      );
    });
    shards.set(name, await openTensorFile(source));
  }
  for (const [tensor, shard] of shardOf) {
    if (!shards.get(shard)!.has(tensor))
      throw new UserError(
        `${index.name} says that tensor "${tensor}" is in ${shard}, and it is not: the files are not of one model, or were cut. Download them again.`,
      );
  }
  for (const [name, shard] of shards) {
    const stray = shard.names().find((tensor) => shardOf.get(tensor) !== name);
    if (stray !== undefined)
      throw new UserError(
        `${name} holds tensor "${stray}", which ${index.name} does not say: the files are not of one model. Download them again.`,
      );
  }
  return new ShardedFile(index.name, shardOf, shards);
}

async function readIndex(index: ByteSource): Promise<Map<string, string>> {
  const fail = (why: string): never => {
    throw new UserError(`${index.name}: ${why}. It is damaged, or no index of shards: download it again.`);
  };
  if (index.size > INDEX_LIMIT) fail(`${index.size} bytes are too many for an index`);
  const bytes = await index.read(0, index.size);
  await index.close?.();
  let text = '';
  let json: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (error) {
    return fail(`it is not valid UTF-8 JSON (${(error as Error).message})`);
  }
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) return fail('it has no "weight_map" of tensors to files');
  const twice = duplicateKey(text);
  if (twice !== undefined) fail(`it names "${twice.slice(0, 160)}" twice`);
  const shardOf = new Map(Object.entries(map));
  for (const [tensor, shard] of shardOf) {
    if (typeof shard !== 'string' || !/^[^/\\:]+$/.test(shard) || /^\.+$/.test(shard))
      fail(
        `"${tensor.slice(0, 160)}" is to be in ${String(JSON.stringify(shard)).slice(0, 160)}, which is not the name of a file beside it`,
      );
  }
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

  names(): string[] {
    return [...this.#shards.values()].flatMap((shard) => shard.names());
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
