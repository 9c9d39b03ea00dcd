/**
 * Fuzzing of the PyTorch reader: valid checkpoints, damaged at random but repeatably, in the pickle or in the archive, must open and then read whole,
 * or be refused with a UserError, at once and without asking for more bytes than the file has.
 */
import { UserError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import { type ByteSource, bytesSource } from '../../weights/byte-source.ts';
import { byteLength, DTYPE_BYTES } from '../../weights/dtype.ts';
import { isLegacyTorch, LEGACY } from '../../weights/open.ts';
import { elementCount } from '../../weights/tensor-file.ts';
import { openTorch } from '../../weights/torch-file.ts';
import { openLegacyTorch } from '../../weights/torch-legacy.ts';
import { encodeLegacyTorch, encodeTorch, encodeZip, pickleTensors, type TorchTensor } from '../weights/torch-writer.ts';

/** Longest message accepted: one paragraph, whatever the file holds. */
const MESSAGE_LIMIT = 1500;
/** Milliseconds that one file may take; generous, for machines that are busy. */
const TIME_LIMIT = 5000;

export interface FuzzCounts {
  opened: number;
  refused: number;
  /** Files that opened, and of which a tensor was then refused. */
  partly: number;
  slowest: number;
}

/**
 * Tries `count` damaged files; `seed` decides them all.
 * @throws Error with the seed and number of the first file that neither opens nor is refused as it should be.
 */
export async function fuzzTorch(count: number, seed: number): Promise<FuzzCounts> {
  const counts: FuzzCounts = { opened: 0, refused: 0, partly: 0, slowest: 0 };
  for (let i = 0; i < count; i++) {
    const begun = performance.now();
    const outcome = await tryFile(damaged(new TorchRandom(BigInt(seed) * 1_000_003n + BigInt(i)))).catch((why) => {
      throw new Error(`File ${i} of seed ${seed}: ${why instanceof Error ? why.stack : why}`, { cause: why });
    });
    counts[outcome]++;
    counts.slowest = Math.max(counts.slowest, performance.now() - begun);
    if (counts.slowest > TIME_LIMIT) throw new Error(`File ${i} of seed ${seed} took ${counts.slowest} ms.`);
  }
  return counts;
}

async function tryFile(bytes: Uint8Array<ArrayBuffer>): Promise<'opened' | 'refused' | 'partly'> {
  const memory = bytesSource('fuzz.ckpt', bytes);
  const source: ByteSource = {
    ...memory,
    read(offset, length) {
      if (!(length <= bytes.length + 65_557)) throw new Error(`${length} bytes were asked for of a file of ${bytes.length}`);
      return memory.read(offset, length);
    },
  };
  let outcome: 'opened' | 'partly' = 'opened';
  try {
    const tensors = await (isLegacyTorch(bytes) ? openLegacyTorch(source) : openTorch(source));
    for (const name of tensors.names()) {
      const { shape, begin, end, dtype } = tensors.info(name);
      if (end - begin > bytes.length || byteLength(dtype, elementCount(shape)) !== end - begin)
        throw new Error(`"${name}" is ${dtype} [${shape}] from ${begin} to ${end}, in a file of ${bytes.length} bytes`);
      try {
        const values = await tensors.f32(name);
        if (values.length !== elementCount(shape))
          throw new Error(`"${name}" has ${values.length} values instead of ${elementCount(shape)}`);
      } catch (error) {
        check(error);
        outcome = 'partly';
      }
    }
  } catch (error) {
    check(error);
    return 'refused';
  }
  return outcome;
}

function check(error: unknown): void {
  if (!(error instanceof UserError && error.message.startsWith('fuzz.ckpt') && error.message.length <= MESSAGE_LIMIT)) throw error;
}

const DTYPES = ['F16', 'F32', 'I64', 'U8', 'BF16'] as const;

type Below = (n: number) => number;

function damaged(random: TorchRandom): Uint8Array<ArrayBuffer> {
  const below = (n: number) => random.uint32() % n;
  const names = ['a', 'b.weight', '__proto__', 'größe', 'constructor'].slice(0, 1 + below(5));
  const tensors = names.map((name): [string, TorchTensor] => {
    const dtype = DTYPES[below(DTYPES.length)];
    const shape = Array.from({ length: below(4) }, () => below(5));
    const strides = below(3) === 0 && shape.length > 1 ? [...shape.keys()].map((i) => elementCount(shape.slice(0, i))) : undefined;
    return [name, { dtype, shape, strides, data: new Uint8Array(elementCount(shape) * DTYPE_BYTES[dtype]) }];
  });
  const wrapper = below(2) ? 'state_dict' : undefined;
  if (below(4) === 0) {
    const file = encodeLegacyTorch(tensors, wrapper);
    const rest = times(1 + below(2), file.slice(LEGACY.length), PICKLE_MUTATIONS, below);
    return splice(file, LEGACY.length, file.length, rest);
  }
  if (below(3) > 0) {
    const list = times(1 + below(3), pickleTensors(tensors, wrapper), PICKLE_MUTATIONS, below);
    return encodeZip(
      [['m/data.pkl', list], ...tensors.map(([, { data }], i): [string, Uint8Array] => [`m/data/${i}`, data])],
      below(2) === 1,
    );
  }
  return times(1 + below(3), encodeTorch(tensors, { wrapper, zip64: below(2) === 1 }), ZIP_MUTATIONS, below);
}

type Mutation = (bytes: Uint8Array<ArrayBuffer>, below: Below) => Uint8Array<ArrayBuffer>;

function times(count: number, bytes: Uint8Array<ArrayBuffer>, mutations: readonly Mutation[], below: Below): Uint8Array<ArrayBuffer> {
  let mutated = bytes;
  for (let i = 0; i < count; i++) mutated = mutations[below(mutations.length)](mutated, below);
  return mutated;
}

function splice(bytes: Uint8Array, from: number, remove: number, insert: readonly number[] | Uint8Array): Uint8Array<ArrayBuffer> {
  const end = Math.min(from + remove, bytes.length);
  const out = new Uint8Array(bytes.length - (end - from) + insert.length);
  out.set(bytes.subarray(0, from));
  out.set(insert, from);
  out.set(bytes.subarray(end), from + insert.length);
  return out;
}

const somewhere = (bytes: Uint8Array, below: Below) => below(bytes.length + 1);

/** Opcodes of every protocol, those that are refused too. */
const OPCODES = [...'(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu}])GBC']
  .map((c) => c.charCodeAt(0))
  .concat(Array.from({ length: 25 }, (_, i) => 0x80 + i));

const SNIPPETS = [
  'cos\nsystem\n(X\x04\0\0\0echotR',
  'c__builtin__\neval\n',
  'cbuiltins\ngetattr\n',
  'ctorch._utils\n_rebuild_tensor_v3\n',
  'ctorch.storage\nUntypedStorage\n',
  'ccollections\nOrderedDict\n)R',
  'ctorch._utils\n_rebuild_parameter\n',
  'c__main__\n__proto__\n',
  'X\xff\xff\xff\xff',
  '\x8a\xff',
  '(((((((((((((',
  'tttt',
  '2222222e',
].map((text) => Uint8Array.from(text, (c) => c.charCodeAt(0)));

const flip: Mutation = (bytes, below) => {
  if (bytes.length > 0) bytes[below(bytes.length)] = below(256);
  return bytes;
};
const cut: Mutation = (bytes, below) => bytes.slice(0, somewhere(bytes, below));
const lose: Mutation = (bytes, below) => splice(bytes, somewhere(bytes, below), 1 + below(20), []);
const double: Mutation = (bytes, below) => {
  const from = somewhere(bytes, below);
  return splice(bytes, somewhere(bytes, below), 0, bytes.slice(from, from + 1 + below(60)));
};

const PICKLE_MUTATIONS: Mutation[] = [
  flip,
  cut,
  lose,
  double,
  (bytes, below) => splice(bytes, somewhere(bytes, below), below(2), [OPCODES[below(OPCODES.length)]]),
  (bytes, below) => splice(bytes, somewhere(bytes, below), 0, SNIPPETS[below(SNIPPETS.length)]),
  // One of the integers becomes another: sizes, strides, offsets.
  (bytes, below) => {
    const places = [...bytes.keys()].filter((at) => bytes[at] === 0x4a);
    if (places.length === 0) return bytes;
    const value = below(2) ? below(9) : [0x7fffffff, 0x80000000, 0xffffffff, 65536][below(4)];
    return splice(bytes, places[below(places.length)] + 1, 4, new Uint8Array(Uint32Array.of(value).buffer));
  },
];

const ZIP_MUTATIONS: Mutation[] = [
  flip,
  cut,
  lose,
  double,
  // A byte of the directory or of the end of the archive.
  (bytes, below) => {
    if (bytes.length > 0) bytes[bytes.length - 1 - below(Math.min(bytes.length, 400))] = below(256);
    return bytes;
  },
  // A field of 2, 4 or 8 bytes becomes an extreme.
  (bytes, below) => {
    const width = [2, 4, 8][below(3)];
    const value = below(2) ? 0xff : 0;
    const at = bytes.length - 1 - below(Math.min(bytes.length, 800) || 1);
    return at < 0 ? bytes : splice(bytes, at, width, new Uint8Array(width).fill(value));
  },
];
