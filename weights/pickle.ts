/**
 * Reads Python pickles (protocols 2 to 5, PEP 307, 3154 and 574) that hold data, without running anything: every name of Python that the pickle
 * refers to must be in a table that the caller passes, whose functions are ours. There are pickle libraries, but they build any object, take
 * BUILD on arrays (whose `length` a file can so set to 2^32) and cut long integers; of a file of weights only the opcodes below are needed.
 */
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';

/** A Python list; tuples are plain arrays, dictionaries are Maps. */
export class PickleList {
  readonly items: PickleValue[] = [];
}

/** A name of Python that the table allows: a class or a function. */
export class PickleGlobal {
  readonly name: string;
  /** What calling it yields, of arguments not yet checked. @throws UserError */
  readonly call: ((args: readonly PickleValue[]) => PickleValue) | null;

  constructor(name: string, call: PickleGlobal['call'] = null) {
    this.name = name;
    this.call = call;
  }
}

/** Base of what a table's functions and persistent ids yield. */
export abstract class PickleObject {}

/** Something that is read past: a set, a counter, a device, and what is put into one. */
export class PickleInert extends PickleObject {}

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PickleValue[]
  | PickleList
  | Map<PickleValue, PickleValue>
  | PickleGlobal
  | PickleObject;

export interface PickleNames {
  /** The allowed names, as "module.name". */
  readonly globals: ReadonlyMap<string, PickleGlobal>;
  /** What a persistent id refers to. @throws UserError */
  readonly persistent: (id: PickleValue) => PickleValue;
}

/** Opcodes of the longest pickle accepted. A checkpoint has about 60 a tensor; each makes at most one object, which bounds memory. */
const OPCODE_LIMIT = 2_000_000;

/**
 * The value of a pickle.
 * @throws UserError naming `file`, for names outside the table, opcodes that data do not need, and pickles that are damaged or too long.
 */
export function unpickle(file: string, bytes: Uint8Array, names: PickleNames): PickleValue {
  return new Unpickler(file, bytes, names).run();
}

/** The values of pickles that lie one after the other, and where they end. @throws UserError as `unpickle`, of the code 'breaks-off' where `bytes` end too early. */
export function unpickleSeveral(
  file: string,
  bytes: Uint8Array,
  names: PickleNames,
  count: number,
): { values: PickleValue[]; end: number } {
  const values: PickleValue[] = [];
  let end = 0;
  for (let i = 0; i < count; i++) {
    const unpickler = new Unpickler(file, bytes, names, end);
    values.push(unpickler.run());
    end = unpickler.at;
  }
  return { values, end };
}

/** Code of the error for bytes that end too early. */
export const BREAKS_OFF = 'breaks-off';

class Unpickler {
  readonly #file: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #names: PickleNames;
  #at = 0;
  #stack: PickleValue[] = [];
  /** Heights of the stack at the open marks. */
  #marks: number[] = [];
  #memo = new Map<number, PickleValue>();

  constructor(file: string, bytes: Uint8Array, names: PickleNames, at = 0) {
    this.#at = at;
    this.#file = file;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#names = names;
  }

  get at(): number {
    return this.#at;
  }

  run(): PickleValue {
    for (let opcodes = 0; opcodes < OPCODE_LIMIT; opcodes++) {
      const opcode = this.#uint(1);
      if (opcode === 0x2e) return this.#pop(); // STOP
      this.#step(opcode);
    }
    return this.#fail(`has more than ${OPCODE_LIMIT} opcodes, more than any list of weights needs`);
  }

  #step(opcode: number): void {
    const stack = this.#stack;
    switch (opcode) {
      case 0x80: // PROTO
        if (this.#uint(1) > 5) this.#fail('is of a protocol after 5');
        return;
      case 0x95: // FRAME: a hint for readers of streams
        this.#take(8);
        return;
      case 0x28: // MARK
        this.#marks.push(stack.length);
        return;
      case 0x30: // POP
        this.#pop();
        return;
      case 0x32: // DUP
        stack.push(this.#top());
        return;

      case 0x71: // BINPUT
        this.#memo.set(this.#uint(1), this.#top());
        return;
      case 0x72: // LONG_BINPUT
        this.#memo.set(this.#uint(4), this.#top());
        return;
      case 0x94: // MEMOIZE
        this.#memo.set(this.#memo.size, this.#top());
        return;
      case 0x68: // BINGET
        stack.push(this.#recall(this.#uint(1)));
        return;
      case 0x6a: // LONG_BINGET
        stack.push(this.#recall(this.#uint(4)));
        return;

      case 0x4e: // NONE
        stack.push(null);
        return;
      case 0x88: // NEWTRUE
      case 0x89: // NEWFALSE
        stack.push(opcode === 0x88);
        return;
      case 0x4a: // BININT
        stack.push(this.#uint(4) | 0);
        return;
      case 0x4b: // BININT1
        stack.push(this.#uint(1));
        return;
      case 0x4d: // BININT2
        stack.push(this.#uint(2));
        return;
      case 0x8a: // LONG1
        stack.push(long(this.#take(this.#uint(1))));
        return;
      case 0x47: // BINFLOAT, big endian
        stack.push(this.#view.getFloat64(this.#skip(8)));
        return;

      case 0x58: // BINUNICODE
      case 0x54: // BINSTRING, of Python 2
        stack.push(this.#text(this.#uint(4)));
        return;
      case 0x8c: // SHORT_BINUNICODE
      case 0x55: // SHORT_BINSTRING, of Python 2
        stack.push(this.#text(this.#uint(1)));
        return;
      case 0x8d: // BINUNICODE8
        stack.push(this.#text(this.#uint(8)));
        return;
      case 0x8b: // LONG4
        stack.push(long(this.#take(this.#short(this.#uint(4)))));
        return;
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        stack.push(this.#take(this.#uint(8)));
        return;
      case 0x42: // BINBYTES
        stack.push(this.#take(this.#uint(4)));
        return;
      case 0x43: // SHORT_BINBYTES
        stack.push(this.#take(this.#uint(1)));
        return;

      case 0x29: // EMPTY_TUPLE
        stack.push([]);
        return;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        stack.push(this.#popMany(opcode - 0x84));
        return;
      case 0x74: // TUPLE
        stack.push(this.#popMark());
        return;
      case 0x5d: // EMPTY_LIST
        stack.push(new PickleList());
        return;
      case 0x61: // APPEND
        this.#append([this.#pop()]);
        return;
      case 0x65: // APPENDS
        this.#append(this.#popMark());
        return;
      case 0x7d: // EMPTY_DICT
        stack.push(new Map());
        return;
      case 0x73: // SETITEM
        this.#setItems([this.#pop(), this.#pop()].reverse());
        return;
      case 0x75: // SETITEMS
        this.#setItems(this.#popMark());
        return;

      case 0x8f: // EMPTY_SET
        stack.push(new PickleInert());
        return;
      case 0x90: // ADDITEMS
        this.#popMark();
        if (!(this.#top() instanceof PickleInert)) this.#fail('adds items to something other than a set');
        return;
      case 0x91: // FROZENSET
        this.#popMark();
        stack.push(new PickleInert());
        return;

      case 0x63: // GLOBAL
        stack.push(this.#global(this.#line(), this.#line()));
        return;
      case 0x93: {
        // STACK_GLOBAL
        const [name, module] = [this.#pop(), this.#pop()];
        if (typeof module !== 'string' || typeof name !== 'string') this.#fail('refers to a name that is not a text');
        stack.push(this.#global(module as string, name as string));
        return;
      }
      case 0x81: // NEWOBJ
      case 0x52: {
        // REDUCE
        const [args, callee] = [this.#pop(), this.#pop()];
        if (!Array.isArray(args) || !(callee instanceof PickleGlobal) || !callee.call) this.#fail('calls something that cannot be called');
        stack.push(callee.call(args));
        return;
      }
      case 0x62: {
        // BUILD: attributes, such as those of an OrderedDict or a parameter, say nothing about the contents
        this.#pop();
        const object = this.#top();
        if (!(object instanceof Map || object instanceof PickleObject)) this.#fail('sets attributes of something that can have none');
        return;
      }
      case 0x51: // BINPERSID
        stack.push(this.#names.persistent(this.#pop()));
        return;
      default:
        this.#fail(`has the opcode 0x${opcode.toString(16)}, which a list of weights has no use for`);
    }
  }

  #global(module: string, name: string): PickleGlobal {
    const full = `${module}.${name}`;
    const global = this.#names.globals.get(full);
    if (global) return global;
    throw new UserError(
      `${this.#file}: it asks for Python's "${shown(full, 100)}", which a list of weights has no use for, and was refused; nothing was run. Unless you know where the file comes from, do not use it anywhere. If you do, save its tensors alone (state_dict) or as safetensors.`,
    );
  }

  #append(values: readonly PickleValue[]): void {
    const list = this.#top();
    if (list instanceof PickleInert) return;
    if (!(list instanceof PickleList)) this.#fail('appends to something other than a list');
    for (const value of values) list.items.push(value);
  }

  #setItems(pairs: readonly PickleValue[]): void {
    const map = this.#top();
    if (map instanceof PickleInert) return;
    if (!(map instanceof Map) || pairs.length % 2 !== 0) this.#fail('sets items of something other than a dictionary');
    for (let i = 0; i < pairs.length; i += 2) map.set(pairs[i], pairs[i + 1]);
  }

  #top(): PickleValue {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.#fail('takes a value where there is none');
    return this.#stack.at(-1)!;
  }

  #pop(): PickleValue {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMany(count: number): PickleValue[] {
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0)) this.#fail('takes a value where there is none');
    return this.#stack.splice(this.#stack.length - count);
  }

  #popMark(): PickleValue[] {
    return this.#stack.splice(this.#marks.pop() ?? this.#fail('closes a mark that was never set'));
  }

  #recall(index: number): PickleValue {
    return this.#memo.get(index) ?? (this.#memo.has(index) ? null : this.#fail('recalls what it never stored'));
  }

  /** An unsigned little-endian integer of 1, 2, 4 or 8 bytes. */
  #uint(bytes: 1 | 2 | 4 | 8): number {
    const at = this.#skip(bytes);
    if (bytes === 1) return this.#view.getUint8(at);
    if (bytes === 2) return this.#view.getUint16(at, true);
    const low = this.#view.getUint32(at, true);
    return bytes === 4 ? low : low + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  /** The length of an integer, which has few digits. */
  #short(length: number): number {
    return length <= 1024 ? length : this.#fail(`holds an integer of ${length} bytes`);
  }

  #text(length: number): string {
    return new TextDecoder().decode(this.#take(length));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) this.#fail('breaks off', BREAKS_OFF);
    const text = this.#text(end - this.#at);
    this.#at++;
    return text;
  }

  #take(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** Moves on; the position before. */
  #skip(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) this.#fail('breaks off', BREAKS_OFF);
    this.#at += length;
    return at;
  }

  #fail(what: string, code?: string): never {
    throw new UserError(
      `${this.#file}: its list of tensors (a Python pickle) ${what} (at byte ${this.#at}). The file is damaged, or no file of weights: download it again.`,
      { code },
    );
  }
}

/** A little-endian integer in two's complement. */
function long(bytes: Uint8Array): number | bigint {
  let value = 0n;
  for (const [i, byte] of bytes.entries()) value |= BigInt(byte) << BigInt(8 * i);
  value = BigInt.asIntN(8 * bytes.length, value);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
