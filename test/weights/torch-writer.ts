/** Writes PyTorch checkpoints for tests, as torch.save does: a zip archive of stored entries with a pickle of protocol 2. */
import { DTYPE_BYTES, type PlainDType, type StoredDType } from '../../weights/dtype.ts';
import { elementCount } from '../../weights/tensor-file.ts';

export interface TorchTensor {
  dtype: StoredDType;
  shape: readonly number[];
  data: Uint8Array;
  /** Elements between neighbours along each dimension; default row by row. */
  strides?: readonly number[];
  /** Elements before the first. */
  offset?: number;
}

const STORAGES: Partial<Record<StoredDType, string>> = {
  F32: 'FloatStorage',
  F16: 'HalfStorage',
  BF16: 'BFloat16Storage',
  F64: 'DoubleStorage',
  I64: 'LongStorage',
  I32: 'IntStorage',
  U8: 'ByteStorage',
};

const text = new TextEncoder();
const bytesOf = (...values: number[]) => Uint8Array.from(values);
const uint32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);

/** Opcodes of pickles, for tests that write them by hand. */
export const pickle = {
  start: bytesOf(0x80, 2),
  stop: bytesOf(0x2e),
  mark: bytesOf(0x28),
  tuple: bytesOf(0x74),
  dict: bytesOf(0x7d),
  setItems: bytesOf(0x75),
  reduce: bytesOf(0x52),
  persistentId: bytesOf(0x51),
  int: (value: number) => join([bytesOf(0x4a), uint32(value)]),
  long: (value: number) => join([bytesOf(0x8a, 8), new Uint8Array(BigInt64Array.of(BigInt(value)).buffer)]),
  text: (value: string) => join([bytesOf(0x58), uint32(text.encode(value).length), text.encode(value)]),
  global: (module: string, name: string) => text.encode(`c${module}\n${name}\n`),
  tupleOf: (values: Uint8Array[]) => join([bytesOf(0x28), ...values, bytesOf(0x74)]),
};

export function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The pickle of a dictionary of tensors; storage i is the data of tensor i. */
export function pickleTensors(tensors: readonly (readonly [string, TorchTensor])[], wrapper?: string): Uint8Array<ArrayBuffer> {
  const { global, text, int, long, tupleOf, mark, setItems, dict } = pickle;
  const items = tensors.flatMap(([name, { dtype, shape, data, strides, offset = 0 }], i) => {
    const rowMajor = shape.map((_, at) => elementCount(shape.slice(at + 1)));
    const id = [
      text('storage'),
      global('torch', STORAGES[dtype]!),
      text(String(i)),
      text('cpu'),
      long(data.length / DTYPE_BYTES[dtype as PlainDType]),
    ];
    const args = [
      join([tupleOf(id), pickle.persistentId]),
      int(offset),
      tupleOf(shape.map(int)),
      tupleOf((strides ?? rowMajor).map(int)),
      bytesOf(0x89),
      join([global('collections', 'OrderedDict'), bytesOf(0x29), pickle.reduce]),
    ];
    return [text(name), global('torch._utils', '_rebuild_tensor_v2'), tupleOf(args), pickle.reduce];
  });
  const root = join([dict, mark, ...items, setItems]);
  const wrapped = wrapper ? join([dict, mark, text(wrapper), root, setItems]) : root;
  return join([pickle.start, wrapped, pickle.stop]);
}

/** A whole checkpoint. `zip64` writes every size and offset in the 64-bit fields, as archives beyond 4 GB have them. */
export function encodeTorch(
  tensors: readonly (readonly [string, TorchTensor])[],
  { wrapper, zip64 = false }: { wrapper?: string; zip64?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  return encodeZip(
    [
      ['model/data.pkl', pickleTensors(tensors, wrapper)],
      ['model/byteorder', text.encode('little')],
      ...tensors.map(([, { data }], i): [string, Uint8Array] => [`model/data/${i}`, data]),
      ['model/version', text.encode('3\n')],
    ],
    zip64,
  );
}

/** A whole checkpoint as versions before 1.6 wrote it. */
export function encodeLegacyTorch(tensors: readonly (readonly [string, TorchTensor])[], wrapper?: string): Uint8Array<ArrayBuffer> {
  const { start, stop, dict, mark, setItems, int, text: textOf } = pickle;
  const small = (body: Uint8Array) => join([start, body, stop]);
  const count = ({ dtype, data }: TorchTensor) => data.length / DTYPE_BYTES[dtype as PlainDType];
  return join([
    small(bytesOf(0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19)),
    small(int(1001)),
    small(join([dict, mark, textOf('little_endian'), bytesOf(0x88), setItems])),
    pickleTensors(tensors, wrapper),
    small(join([bytesOf(0x5d), mark, ...tensors.map((_, i) => textOf(String(i))), bytesOf(0x65)])),
    ...tensors.flatMap(([, tensor]) => [new Uint8Array(BigInt64Array.of(BigInt(count(tensor))).buffer), tensor.data]),
  ]);
}

/** A zip archive of stored entries, each aligned to 64 bytes by an extra field as PyTorch does it. Checksums are left out. */
export function encodeZip(entries: readonly (readonly [string, Uint8Array])[], zip64 = false): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  const add = (part: Uint8Array) => {
    parts.push(part);
    at += part.length;
  };
  for (const [name, data] of entries) {
    const nameBytes = text.encode(name);
    const padding = 64 - ((at + 30 + nameBytes.length + 4) % 64);
    const offset = at;
    add(
      record(
        30,
        [
          [0, 0x04034b50],
          [18, data.length],
          [22, data.length],
        ],
        [
          [4, 45],
          [26, nameBytes.length],
          [28, padding + 4],
        ],
      ),
    );
    add(nameBytes);
    add(join([bytesOf(0x46, 0x42, padding, 0), new Uint8Array(padding).fill(0x5a)]));
    add(data);
    const wide = new BigUint64Array([data.length, data.length, offset].map(BigInt));
    const extra = zip64 ? join([bytesOf(1, 0, 24, 0), new Uint8Array(wide.buffer)]) : new Uint8Array(0);
    const [size, place] = zip64 ? [0xffffffff, 0xffffffff] : [data.length, offset];
    directory.push(
      record(
        46,
        [
          [0, 0x02014b50],
          [20, size],
          [24, size],
          [42, place],
        ],
        [
          [6, 45],
          [28, nameBytes.length],
          [30, extra.length],
        ],
      ),
      nameBytes,
      extra,
    );
  }
  const begin = at;
  const bytes = join(directory);
  add(bytes);
  const end64 = at;
  if (zip64) {
    const record64 = record(
      56,
      [
        [0, 0x06064b50],
        [4, 44],
      ],
      [],
    );
    new BigUint64Array(record64.buffer, 24, 4).set([entries.length, entries.length, bytes.length, begin].map(BigInt));
    add(record64);
    const locator = record(
      20,
      [
        [0, 0x07064b50],
        [16, 1],
      ],
      [],
    );
    new DataView(locator.buffer).setBigUint64(8, BigInt(end64), true);
    add(locator);
  }
  const count = zip64 ? 0xffff : entries.length;
  add(
    record(
      22,
      [
        [0, 0x06054b50],
        [12, zip64 ? 0xffffffff : bytes.length],
        [16, zip64 ? 0xffffffff : begin],
      ],
      [
        [8, count],
        [10, count],
      ],
    ),
  );
  return join(parts);
}

function record(size: number, words: [number, number][], halves: [number, number][]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(size));
  for (const [at, value] of words) view.setUint32(at, value, true);
  for (const [at, value] of halves) view.setUint16(at, value, true);
  return new Uint8Array(view.buffer);
}
