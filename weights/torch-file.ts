/**
 * PyTorch checkpoints (.ckpt, .pt, .pth, .bin since version 1.6; before it torch-legacy.ts): a zip archive with a pickle of the tensors' names, shapes and
 * strides, and one stored entry for every storage. The pickle is read by a table of the few names that tensors need (pickle.ts); storages are read in ranges.
 * Format: https://docs.pytorch.org/docs/stable/notes/serialization.html
 */
import { UserError } from '../core/errors.ts';
import { listed, shown } from '../core/text.ts';
import type { ByteSource } from './byte-source.ts';
import { DTYPE_BYTES, type PlainDType } from './dtype.ts';
import { IndexedFile } from './indexed-file.ts';
import { PickleGlobal, PickleInert, PickleObject, type PickleValue, unpickle } from './pickle.ts';
import { AXES_LIMIT, checkNames, elementCount, type TensorInfo } from './tensor-file.ts';
import { openZip } from './zip.ts';

/** Where the bytes of a storage are. */
export interface Stored {
  /** In messages. */
  readonly name: string;
  /** Where it begins in the file; orders reading. */
  readonly begin: number;
  /** Bytes. */
  readonly size: number;
  read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
}

interface TorchInfo extends TensorInfo {
  readonly dtype: PlainDType;
  readonly stored: Stored;
  /** Where the first element is in the storage, in bytes. */
  readonly offset: number;
  /** Elements from one index to the next, in every dimension; null if the elements lie row by row. */
  readonly strides: readonly number[] | null;
}

/**
 * Opens a checkpoint: reads the archive's directory and the pickle, and no tensor. The dictionary of tensors may be wrapped (`state_dict`).
 * @throws UserError naming what is wrong: a damaged archive, names of Python other than tensors', storages missing or of another size.
 */
export async function openTorch(source: ByteSource): Promise<TorchFile> {
  const zip = await openZip(source);
  const lists = [...zip.entries.values()].filter(({ name }) => /(^|\/)data\.pkl$/.test(name));
  if (lists.length !== 1)
    throw new UserError(`${source.name} is a zip archive with ${lists.length} files data.pkl; a PyTorch checkpoint has one. ${CURE}`);
  const folder = lists[0].name.slice(0, -'data.pkl'.length);
  const order = zip.entries.get(`${folder}byteorder`);
  if (order && new TextDecoder().decode(await zip.readWhole(order)).trim() !== 'little')
    throw new UserError(`${source.name} was saved on a big-endian machine: save it again on another, or as safetensors.`);
  const root = unpickle(source.name, await zip.readWhole(lists[0]), torchNames(source.name));
  return torchFile(source, root, ({ key }) => {
    const entry = zip.entries.get(`${folder}data/${key}`);
    return entry
      ? { name: entry.name, begin: entry.headerOffset, size: entry.size, read: (...range) => zip.read(entry, ...range) }
      : `refers to ${folder}data/${key}, which the archive does not hold`;
  });
}

/** The tensors of an unpickled checkpoint; `find` gives a storage's bytes, or says why there are none. */
export function torchFile(source: ByteSource, root: PickleValue, find: (storage: Storage) => Stored | string): TorchFile {
  const tensors = new Map<string, TorchInfo>();
  for (const [name, tensor] of stateDict(source.name, root)) tensors.set(name, place(source.name, name, tensor, find(tensor.storage)));
  return new TorchFile(source, tensors);
}

export class TorchFile extends IndexedFile<TorchInfo> {
  readonly #source: ByteSource;

  constructor(source: ByteSource, tensors: ReadonlyMap<string, TorchInfo>) {
    super(source.name, tensors);
    this.#source = source;
  }

  protected async read(
    info: TorchInfo,
    byteOffset: number,
    byteLength: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { stored, offset, shape, strides, dtype } = info;
    if (!strides) return stored.read(offset + byteOffset, byteLength, into);
    const width = DTYPE_BYTES[dtype];
    const apart = await stored.read(offset, spanOf(shape, strides) * width);
    return gather(apart, width, shape, strides).slice(byteOffset, byteOffset + byteLength);
  }

  close(): Promise<void> | undefined {
    return this.#source.close?.();
  }
}

export const CURE = 'It is damaged, or no file of weights: download it again, or use the safetensors form of the model.';

export class Storage extends PickleObject {
  readonly key: string;
  /** null: bytes, whose dtype the tensor tells. */
  readonly dtype: PlainDType | null;
  /** Elements, or bytes where dtype is null. */
  readonly size: number;

  constructor(key: string, dtype: PlainDType | null, size: number) {
    super();
    this.key = key;
    this.dtype = dtype;
    this.size = size;
  }

  get bytes(): number {
    return this.size * (this.dtype ? DTYPE_BYTES[this.dtype] : 1);
  }
}

class Tensor extends PickleObject {
  readonly storage: Storage;
  readonly dtype: PlainDType;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(storage: Storage, dtype: PlainDType, offset: number, shape: readonly number[], strides: readonly number[]) {
    super();
    this.storage = storage;
    this.dtype = dtype;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/** Names of PyTorch's storage classes and dtypes. */
const DTYPES: Readonly<Record<string, PlainDType>> = {
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.DoubleStorage': 'F64',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
  'torch.float64': 'F64',
  'torch.int64': 'I64',
  'torch.int32': 'I32',
  'torch.int16': 'I16',
  'torch.int8': 'I8',
  'torch.uint8': 'U8',
  'torch.bool': 'BOOL',
  'torch.float32': 'F32',
  'torch.float16': 'F16',
  'torch.bfloat16': 'BF16',
  'torch.float8_e4m3fn': 'F8_E4M3',
  'torch.float8_e5m2': 'F8_E5M2',
  'torch.uint16': 'U16',
  'torch.uint32': 'U32',
  'torch.uint64': 'U64',
};
/** Other dtypes and storages of PyTorch: known by name, and not read. */
const UNREAD = [
  ...['complex32', 'complex64', 'complex128', 'quint8', 'qint8', 'qint32', 'quint4x2', 'quint2x4', 'bits8', 'bits16', 'float8_e8m0fnu'],
  ...['float8_e4m3fnuz', 'float8_e5m2fnuz', 'per_tensor_affine', 'per_channel_affine', 'per_tensor_symmetric', 'per_channel_symmetric'],
  ...[
    'ComplexFloatStorage',
    'ComplexDoubleStorage',
    'QUInt8Storage',
    'QInt8Storage',
    'QInt32Storage',
    'QUInt4x2Storage',
    'QUInt2x4Storage',
  ],
].map((name) => `torch.${name}`);
/** Functions that make tensors which are not plain arrays of numbers. */
const OTHER_TENSORS = [
  ...['_rebuild_qtensor', '_rebuild_sparse_tensor', '_rebuild_meta_tensor_no_storage', '_rebuild_nested_tensor'],
  ...['_rebuild_wrapper_subclass', '_rebuild_device_tensor_from_numpy', '_rebuild_device_tensor_from_cpu_tensor'],
];
/** Classes and functions whose objects say nothing about weights: PyTorch's own reader of weights takes them for data. */
const INERT = [
  ...['collections.Counter', 'collections.defaultdict', 'torch.device', 'torch.serialization._get_layout', 'torch.Tensor'],
  ...['torch.nn.parameter.Parameter'],
  ...['set', 'frozenset', 'complex', 'bytearray'].flatMap((name) => [`builtins.${name}`, `__builtin__.${name}`]),
];
const UNTYPED = 'torch.storage.UntypedStorage';

export function torchNames(file: string): { globals: Map<string, PickleGlobal>; persistent: (id: PickleValue) => PickleValue } {
  const fail = (what: string): never => {
    throw new UserError(`${file}: its list of tensors ${what}. ${CURE}`);
  };
  const tensor = (storage: PickleValue, offset: PickleValue, shape: PickleValue, strides: PickleValue, dtype: PlainDType | null) => {
    const isWhole = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
    if (!(storage instanceof Storage) || !dtype || !isWhole(offset)) return fail('describes a tensor without its storage');
    if (
      !Array.isArray(shape) ||
      !Array.isArray(strides) ||
      !shape.every(isWhole) ||
      !strides.every(isWhole) ||
      shape.length !== strides.length
    )
      return fail('describes a tensor whose shape and strides are not lists of whole numbers of the same length');
    if (shape.length > AXES_LIMIT) return fail(`describes a tensor of ${shape.length} axes, and at most ${AXES_LIMIT} are read`);
    return new Tensor(storage, dtype, offset, shape, strides);
  };
  const plain = ([storage, offset, shape, strides]: readonly PickleValue[]) =>
    tensor(storage, offset, shape, strides, storage instanceof Storage ? storage.dtype : null);
  const parameter = ([data]: readonly PickleValue[]) => (data instanceof Tensor ? data : fail('has a parameter that is no tensor'));
  const rebuilds: [string, NonNullable<PickleGlobal['call']>][] = [
    ['torch._utils._rebuild_parameter', parameter],
    ['torch._utils._rebuild_parameter_with_state', parameter],
    ['torch._utils._rebuild_tensor', plain],
    ['torch._utils._rebuild_tensor_v2', plain],
    [
      'torch._utils._rebuild_tensor_v3',
      ([storage, offset, shape, strides, , , dtype]) =>
        tensor(storage, offset, shape, strides, dtype instanceof PickleGlobal ? (DTYPES[dtype.name] ?? null) : null),
    ],
  ];
  const calls: [string, PickleGlobal['call']][] = [
    ['collections.OrderedDict', () => new Map()],
    ['_codecs.encode', ([text]) => text ?? null], // how protocol 2 writes bytes
    ['torch.Size', ([sizes]) => (Array.isArray(sizes) ? sizes : fail('has a size that is none'))],
    ...rebuilds,
    [
      'torch._tensor._rebuild_from_type_v2', // of a subclass, or with attributes: the function, the class, what the function takes, and the rest
      ([rebuild, , args]) => {
        const call = rebuild instanceof PickleGlobal ? rebuilds.find(([name]) => name === rebuild.name)?.[1] : undefined;
        return call && Array.isArray(args) ? call(args) : fail('makes a tensor of something that is none');
      },
    ],
    ...OTHER_TENSORS.map((name): [string, PickleGlobal['call']] => [
      `torch._utils.${name}`,
      () => fail(`holds tensors that are not plain arrays of numbers (${name}), which are not read`),
    ]),
    ...INERT.map((name): [string, PickleGlobal['call']] => [name, () => new PickleInert()]),
    ...UNREAD.map((name): [string, null] => [name, null]),
    [UNTYPED, null],
    ...Object.keys(DTYPES).map((name): [string, null] => [name, null]),
  ];
  return {
    globals: new Map(calls.map(([name, call]) => [name, new PickleGlobal(name, call)])),
    persistent(id) {
      const [what, kind, key, , size] = Array.isArray(id) ? id : [];
      const isStorage = what === 'storage' && kind instanceof PickleGlobal && (kind.name === UNTYPED || kind.name.endsWith('Storage'));
      if (!isStorage || typeof key !== 'string' || typeof size !== 'number') return fail('refers to something that is no storage');
      if (UNREAD.includes(kind.name)) return fail(`holds numbers of a kind that is not read (${kind.name})`);
      return new Storage(key, kind.name === UNTYPED ? null : DTYPES[kind.name], size);
    },
  };
}

/** Keys under which training programs wrap the dictionary of tensors, and moving averages of it, the usual ones first. */
const WRAPPERS = [
  ...['state_dict', 'model_state_dict', 'model_state', 'model', 'module', 'net', 'network', 'weights', 'generator', 'unet'],
  ...['params_ema', 'params', 'ema', 'ema_state_dict', 'state_dict_ema', 'ema_model', 'model_ema'],
];
/** How deep wrappers lie within wrappers. */
const WRAPPER_DEPTH = 3;

/** A dictionary of the pickle with its tensors by name. */
interface Candidate {
  map: Map<PickleValue, PickleValue>;
  tensors: [string, Tensor][];
}

/**
 * The model among what lies in a checkpoint: the wrapper that holds the most tensors (of equal ones the usual), else the top. A step or a best loss
 * that lies beside a wrapper as a tensor is none of it.
 */
function stateDict(file: string, root: PickleValue): [string, Tensor][] {
  const top: Candidate[] = root instanceof Map ? [candidate(root)] : [];
  const wrappers: Candidate[] = [];
  const seen = new Set<PickleValue>([root]);
  for (let level = top, depth = 0; depth < WRAPPER_DEPTH; depth++) {
    const maps = level.flatMap(({ map }) => WRAPPERS.map((key) => map.get(key))).filter((inner) => inner instanceof Map);
    level = [];
    for (const map of maps) {
      if (seen.has(map)) continue;
      seen.add(map);
      level.push(candidate(map));
    }
    wrappers.push(...level);
  }
  const most = wrappers.reduce<Candidate | null>((best, each) => (each.tensors.length > (best?.tensors.length ?? 0) ? each : best), null);
  const found = (most ?? top[0])?.tensors ?? [];
  checkNames(
    file,
    found.map(([name]) => name),
  );
  if (found.length > 0) return found;
  const keys = root instanceof Map ? [...root.keys()].filter((key) => typeof key === 'string') : [];
  throw new UserError(
    `${file}: there are no tensors by name in it, neither at the top nor under ${WRAPPERS.slice(0, 5).join(', ')} and the like${keys.length > 0 ? `; at the top are ${listed(keys, 10)}` : ''}. Save the model's state_dict() alone.`,
  );
}

function candidate(map: Map<PickleValue, PickleValue>): Candidate {
  const tensors = [...map].filter((entry): entry is [string, Tensor] => typeof entry[0] === 'string' && entry[1] instanceof Tensor);
  return { map, tensors };
}

/** Finds a tensor's bytes and checks that they are all there. */
function place(file: string, name: string, { storage, dtype, offset, shape, strides }: Tensor, stored: Stored | string): TorchInfo {
  const fail = (why: string): never => {
    throw new UserError(`${file}: tensor "${shown(name)}" ${why}. ${CURE}`);
  };
  if (typeof stored === 'string') return fail(stored);
  const width = DTYPE_BYTES[dtype];
  const { bytes } = storage;
  if (bytes !== stored.size) return fail(`needs a storage of ${bytes} bytes, but ${stored.name} has ${stored.size}`);
  const count = elementCount(shape);
  const span = spanOf(shape, strides);
  if (!((offset + span) * width <= bytes)) return fail(`is [${shape}] with strides [${strides}], which reaches beyond its storage`);
  if (!(count <= span)) return fail(`is [${shape}] with strides [${strides}], which uses elements more than once: save it contiguous`);
  const begin = stored.begin + offset * width;
  const end = begin + count * width;
  return { name, dtype, shape, begin, end, stored, offset: offset * width, strides: isRowMajor(shape, strides) ? null : strides };
}

/** Elements from the first to the last, both included. */
const spanOf = (shape: readonly number[], strides: readonly number[]): number =>
  shape.includes(0) ? 0 : shape.reduce((last, size, i) => last + (size - 1) * strides[i], 1);

function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return shape.includes(0);
    expected *= shape[i];
  }
  return true;
}

/** Elements of `width` bytes that lie apart -> the same, row by row. */
function gather(
  stored: Uint8Array<ArrayBuffer>,
  width: number,
  shape: readonly number[],
  strides: readonly number[],
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(elementCount(shape) * width);
  const index = shape.map(() => 0);
  for (let to = 0, from = 0; to < out.length; to += width) {
    for (let byte = 0; byte < width; byte++) out[to + byte] = stored[from * width + byte];
    for (let i = shape.length - 1; i >= 0; i--) {
      from += strides[i];
      if (++index[i] < shape[i]) break;
      from -= shape[i] * strides[i];
      index[i] = 0;
    }
  }
  return out;
}
