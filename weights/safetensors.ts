/**
 * safetensors: 8 bytes of header length (little endian), a JSON header of names, dtypes, shapes and byte ranges, then the tensors' bytes.
 * The header is read at once and checked as if it came from an enemy; tensors are read one range at a time, so a file of any size opens
 * in little memory. Format: https://github.com/huggingface/safetensors ("Format"). Bytes are little endian, like every host of WebGPU.
 */
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { BLOCK_ENTRIES, readBlockEntries } from './block-entries.ts';
import type { ByteSource } from './byte-source.ts';
import { DTYPE_BYTES, isDType } from './dtype.ts';
import { IndexedFile } from './indexed-file.ts';
import { beyondBounds } from './json-bounds.ts';
import { duplicateKey } from './json-keys.ts';
import { AXES_LIMIT, checkNames, elementCount, TENSOR_LIMIT, type TensorInfo } from './tensor-file.ts';

/** Bytes of the longest header accepted, as in the reference implementation. */
export const HEADER_LIMIT = 100_000_000;
/** What a header of TENSOR_LIMIT tensors may hold: dtype, shape and range of each, with four sizes; three deep. */
const HEADER_BOUNDS = { values: 10 * TENSOR_LIMIT, depth: 8 };

/**
 * Opens a safetensors file: reads and checks its header, and no tensor.
 * @throws UserError naming the file, the tensor, what is wrong with it and what to do, for anything the format does not allow.
 */
export async function openSafetensors(source: ByteSource): Promise<Safetensors> {
  if (source.size < 8) throw new UserError(`${source.name}: ${source.size} bytes are too few for a safetensors file. ${CURE}`);
  const start = await source.read(0, Math.min(64, source.size));
  const [low, high] = new Uint32Array(start.slice(0, 8).buffer);
  const length = high * 2 ** 32 + low;
  if (length > source.size - 8 || length > HEADER_LIMIT || length < 2) {
    const limit = length > source.size - 8 ? `the file has ${source.size - 8} after it` : `2 to ${HEADER_LIMIT} are allowed`;
    throw new UserError(`${source.name}: it says that its header has ${length} bytes, but ${limit}. ${otherFormat(start) ?? CURE}`);
  }
  return new Safetensors(source, 8 + length, await source.read(8, length));
}

/** A safetensors file whose header has been checked. Made by `openSafetensors`. */
export class Safetensors extends IndexedFile {
  readonly #source: ByteSource;
  readonly #dataStart: number;

  /** `header` is the JSON's bytes; the tensors' bytes begin at `dataStart`. */
  constructor(source: ByteSource, dataStart: number, header: Uint8Array) {
    const entries = parseHeader(source.name, header);
    const metadata = readMetadata(source.name, entries.get('__metadata__'));
    entries.delete('__metadata__');
    const tensors = new Map<string, TensorInfo>();
    for (const [name, entry] of entries) tensors.set(name, readEntry(source.name, name, entry));
    checkCover(source.name, [...tensors.values()], source.size - dataStart);
    const blocks = metadata.get(BLOCK_ENTRIES);
    metadata.delete(BLOCK_ENTRIES);
    if (blocks !== undefined) for (const info of readBlockEntries(source.name, blocks, tensors)) tensors.set(info.name, info);
    super(source.name, tensors, metadata);
    this.#source = source;
    this.#dataStart = dataStart;
  }

  protected read(
    info: TensorInfo,
    byteOffset: number,
    byteLength: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    return this.#source.read(this.#dataStart + info.begin + byteOffset, byteLength, into);
  }

  close(): Promise<void> | undefined {
    return this.#source.close?.();
  }
}

const CURE = 'It is damaged, incomplete or of another format: download it again, and compare its size with the one on the download page.';

/** Tells well-known files apart that end up under the name of a safetensors file. */
function otherFormat(start: Uint8Array): string | undefined {
  const text = String.fromCharCode(...start);
  if (text.startsWith('PK')) return 'This is a zip archive, probably a PyTorch checkpoint (.ckpt, .pt): open it as one.';
  if (start[0] === 0x80 && start[1] < 6)
    return 'This is a pickle and no checkpoint as PyTorch saves them: if it is one, load it with PyTorch and save its state_dict again, best as safetensors.';
  if (text.startsWith('GGUF')) return 'This is a GGUF file: use the safetensors form of the model.';
  if (text.startsWith('version https://git-lfs'))
    return 'This is a Git LFS pointer and not the file itself: run `git lfs pull`, or download the file.';
  if (/^\s*<(!doctype|html|\?xml)/i.test(text))
    return 'This is a web page, probably a login or error page saved under the name of the file: download it again.';
  return undefined;
}

function parseHeader(file: string, header: Uint8Array): Map<string, unknown> {
  const beyond = beyondBounds(header, HEADER_BOUNDS);
  if (beyond) throw new UserError(`${file}: its header ${beyond}, more than any model needs. ${CURE}`);
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
    json = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${file}: its header is not valid UTF-8 JSON. ${CURE}`, { file, cause });
  }
  if (!isObject(json) || text[0] !== '{')
    throw new UserError(`${file}: its header is JSON but not an object that starts with "{". ${CURE}`);
  checkNames(file, Object.keys(json));
  const twice = duplicateKey(text);
  if (twice !== undefined) {
    throw new UserError(`${file}: its header names ${brief(twice)} twice, so it is not certain which tensor is meant. ${CURE}`);
  }
  return new Map(Object.entries(json));
}

function readMetadata(file: string, metadata: unknown): Map<string, string> {
  if (metadata === undefined) return new Map();
  if (!isObject(metadata) || !Object.values(metadata).every((v) => typeof v === 'string')) {
    throw new UserError(`${file}: the header's __metadata__ is not an object of texts, as the format has it. ${CURE}`);
  }
  return new Map(Object.entries(metadata as Record<string, string>));
}

function readEntry(file: string, name: string, entry: unknown): TensorInfo {
  const fail = (why: string): never => {
    throw new UserError(`${file}: tensor ${brief(name)} ${why}. ${CURE}`);
  };
  if (!isObject(entry)) return fail('is not described by an object');
  const { dtype, shape, data_offsets: range } = entry;
  if (!isDType(dtype)) {
    return fail(`has dtype ${brief(dtype)}; known are ${Object.keys(DTYPE_BYTES).join(', ')}`);
  }
  if (!isSizes(shape)) return fail(`has shape ${brief(shape)}, which is not a list of whole numbers from 0 to 2^53`);
  if (!isSizes(range) || range.length !== 2 || range[0] > range[1]) {
    return fail(`has data_offsets ${brief(range)}, which are not a begin and an end`);
  }
  if (shape.length > AXES_LIMIT) return fail(`has ${shape.length} axes, and at most ${AXES_LIMIT} are read`);
  const bytes = elementCount(shape) * DTYPE_BYTES[dtype];
  const [begin, end] = range;
  if (bytes !== end - begin)
    return fail(`is ${dtype} [${shape}] and so takes ${bytes} bytes, but its place in the file has ${end - begin}`);
  return { name, dtype, shape, begin, end };
}

/** The tensors must cover the data from its first byte to its last, without overlap and without holes. */
function checkCover(file: string, tensors: TensorInfo[], size: number): void {
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const { name, begin, end } of tensors) {
    if (end > size) {
      throw new UserError(`${file}: tensor ${brief(name)} ends at byte ${end} of the data, but the file has only ${size}. ${CURE}`);
    }
    if (begin !== at) {
      const what =
        begin < at
          ? `begins at byte ${begin} of the data, inside the tensor before it, which ends at ${at}`
          : `leaves bytes ${at} to ${begin} of the data unused`;
      throw new UserError(`${file}: tensor ${brief(name)} ${what}; the format allows neither overlaps nor holes. ${CURE}`);
    }
    at = end;
  }
  if (at !== size) throw new UserError(`${file}: its tensors end at byte ${at} of the data, but the file goes on to ${size}. ${CURE}`);
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** A value from the header as JSON, cut short: what a damaged header holds may be long. */
const brief = (value: unknown): string => (value === undefined ? 'missing' : shown(JSON.stringify(value)));

const isSizes = (value: unknown): value is number[] => Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
