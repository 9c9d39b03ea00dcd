/**
 * Synthetic weights: deterministic pseudo-random values for every tensor of a manifest, so that networks can be tested against recorded results
 * without any file of weights. Element i of a tensor depends on its name, i and a salt only:
 *   seed = fnv1a32(utf8(name)) xor salt * 0x9E3779B1
 *   x    = mix(i * 0x9E3779B1 + seed)                       mix: the finaliser of MurmurHash3
 *   s    = sum of the four bytes of x                       0..1020, mean 510, variance 21845: nearly normal
 *   v    = base + (s - 510) * std / sqrt(21845)             rounded to f16
 */
import { UserError } from '../core/errors.ts';
import { decodeF16, toF16 } from '../core/half.ts';
import { Checkpoint } from './checkpoint.ts';
import { DTYPE_BYTES } from './dtype.ts';
import { IndexedFile } from './indexed-file.ts';
import { elementCount, type TensorInfo } from './tensor-file.ts';

/** How a tensor's values are spread; the names say what the tensor is in its network. */
export interface SyntheticSpec {
  shape: readonly number[];
  kind:
    | 'matrix' // std gain / sqrt(fan in), fan in = product of all dimensions but the first
    | 'matrix_in_first' // std gain / sqrt(first dimension)
    | 'embedding' // std gain / 4
    | 'bias' // std gain / 20
    | 'norm_bias' // std gain / 20
    | 'norm_weight' // mean 1, std gain / 10
    | 'normal' // mean `base`, std `std`
    | 'scalar' // 4.6052
    | 'constant' // `value`
    | 'position_ids'; // 0, 1, 2 ... as I64
  gain?: number;
  base?: number;
  std?: number;
  value?: number;
}

/** Factors by kind, applied on top of each tensor's own gain. */
export type SyntheticGains = Readonly<Record<string, number>>;

/** Parts of a manifest by name, e.g. `sdxl` and `supir`: tensor name -> spec; with the salt and gains of its values. */
export interface SyntheticManifest {
  readonly salt?: number;
  readonly gains?: SyntheticGains;
  readonly [part: string]: unknown;
}

/** One tensor, row-major; every value fits f16 exactly. @throws UserError for an unknown kind. */
export function syntheticTensor(name: string, spec: SyntheticSpec, salt = 0, gains: SyntheticGains = {}): Float32Array<ArrayBuffer> {
  const count = elementCount(spec.shape);
  if (spec.kind === 'position_ids') return Float32Array.from({ length: count }, (_, i) => i);
  return decodeF16(syntheticBits(name, spec, salt, gains, 0, count));
}

/**
 * The named parts of a manifest as a checkpoint, one file a part; values are computed when they are asked for.
 * @throws UserError if the manifest has no such part.
 */
export function syntheticCheckpoint(manifest: SyntheticManifest, parts: readonly string[]): Checkpoint {
  return new Checkpoint(parts.map((part) => new SyntheticFile(manifest, part)));
}

class SyntheticFile extends IndexedFile<SyntheticInfo> {
  readonly #salt: number;
  readonly #gains: SyntheticGains;

  constructor(manifest: SyntheticManifest, part: string) {
    const specs = manifest[part];
    if (typeof specs !== 'object' || specs === null)
      throw new UserError(`The manifest has no part "${part}". It has: ${Object.keys(manifest).join(', ')}.`);
    const infos = new Map<string, SyntheticInfo>();
    let begin = 0;
    for (const [name, spec] of Object.entries(specs as Record<string, SyntheticSpec>)) {
      const dtype = spec.kind === 'position_ids' ? 'I64' : 'F16';
      const end = begin + elementCount(spec.shape) * DTYPE_BYTES[dtype];
      infos.set(name, { name, dtype, shape: spec.shape, begin, end, spec });
      begin = end;
    }
    super(`synthetic ${part}`, infos);
    this.#salt = manifest.salt ?? 0;
    this.#gains = manifest.gains ?? {};
  }

  protected async read({ name, spec }: SyntheticInfo, byteOffset: number, byteLength: number): Promise<Uint8Array<ArrayBuffer>> {
    const width = DTYPE_BYTES[spec.kind === 'position_ids' ? 'I64' : 'F16'];
    const first = Math.floor(byteOffset / width);
    const count = Math.ceil((byteOffset + byteLength) / width) - first;
    const values =
      spec.kind === 'position_ids'
        ? BigInt64Array.from({ length: count }, (_, i) => BigInt(first + i))
        : syntheticBits(name, spec, this.#salt, this.#gains, first, count);
    return new Uint8Array(values.buffer).subarray(byteOffset - first * width, byteOffset - first * width + byteLength);
  }
}

interface SyntheticInfo extends TensorInfo {
  readonly spec: SyntheticSpec;
}

const GOLDEN_RATIO = 0x9e3779b1; // 2^32 over the golden ratio
const MIDDLE = 510;
const SPREAD = Math.sqrt(21845);

/** `count` elements from number `first` on. */
function syntheticBits(
  name: string,
  spec: SyntheticSpec,
  salt: number,
  gains: SyntheticGains,
  first: number,
  count: number,
): Uint16Array<ArrayBuffer> {
  const { base, std } = distribution(name, spec, gains);
  const unit = std / SPREAD;
  const values = Uint16Array.from({ length: 2 * MIDDLE + 1 }, (_, s) => toF16(base + (s - MIDDLE) * unit));
  const bits = new Uint16Array(count);
  let counter = ((fnv1a32(name) ^ Math.imul(salt, GOLDEN_RATIO)) + Math.imul(first, GOLDEN_RATIO)) | 0;
  for (let i = 0; i < bits.length; i++) {
    let x = counter;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    x ^= x >>> 16;
    bits[i] = values[(x & 255) + ((x >>> 8) & 255) + ((x >>> 16) & 255) + (x >>> 24)];
    counter = (counter + GOLDEN_RATIO) | 0;
  }
  return bits;
}

function distribution(name: string, spec: SyntheticSpec, gains: SyntheticGains): { base: number; std: number } {
  const gain = (spec.gain ?? 1) * (gains[spec.kind] ?? 1);
  switch (spec.kind) {
    case 'matrix':
      return { base: 0, std: gain / Math.sqrt(elementCount(spec.shape) / spec.shape[0]) };
    case 'matrix_in_first':
      return { base: 0, std: gain / Math.sqrt(spec.shape[0]) };
    case 'embedding':
      return { base: 0, std: gain * 0.25 };
    case 'bias':
    case 'norm_bias':
      return { base: 0, std: gain * 0.05 };
    case 'norm_weight':
      return { base: 1, std: gain * 0.1 };
    case 'normal':
      return { base: spec.base ?? 0, std: spec.std ?? 1 };
    case 'scalar':
      return { base: 4.6052, std: 0 };
    case 'constant':
      return { base: spec.value ?? 0, std: 0 };
    default:
      throw new UserError(`Tensor "${name}" of the manifest has the unknown kind "${spec.kind}".`);
  }
}

/** Fowler, Noll & Vo's hash 1a of a text's UTF-8 bytes. */
function fnv1a32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash;
}
