/** Fuzzing of the safetensors reader: valid files, damaged at random but repeatably, must open and then read whole, or be refused with a UserError. */
import { UserError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { byteLength } from '../../weights/dtype.ts';
import { openSafetensors, type Safetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { elementCount } from '../../weights/tensor-file.ts';

/** Longest message accepted: one paragraph, whatever the file holds. */
const MESSAGE_LIMIT = 1000;

/**
 * Tries `count` damaged files; `seed` decides them all.
 * @throws Error with the seed and number of the first file that neither opens nor is refused as it should be.
 */
export async function fuzzSafetensors(count: number, seed: number): Promise<{ opened: number; refused: number }> {
  let opened = 0;
  let refused = 0;
  for (let i = 0; i < count; i++) {
    const file = damaged(new TorchRandom(BigInt(seed) * 1_000_003n + BigInt(i)));
    const fail = (why: unknown): never => {
      throw new Error(`File ${i} of seed ${seed}: ${why instanceof Error ? why.stack : why}`, { cause: why });
    };
    let tensors: Safetensors;
    try {
      tensors = await openSafetensors(bytesSource('fuzz.safetensors', file));
    } catch (error) {
      if (!(error instanceof UserError && error.message.startsWith('fuzz.safetensors') && error.message.length <= MESSAGE_LIMIT))
        fail(error);
      refused++;
      continue;
    }
    opened++;
    for (const name of tensors.names()) {
      const values = await tensors.f32(name).catch(fail);
      const elements = elementCount(tensors.info(name).shape);
      if (values.length !== elements) fail(`"${name}" has ${values.length} values instead of ${elements}`);
    }
  }
  return { opened, refused };
}

const DTYPES = ['F16', 'F32', 'I64', 'U8', 'BF16', 'F8_E4M3', 'Q8', 'Q4'] as const;

function damaged(random: TorchRandom): Uint8Array<ArrayBuffer> {
  const below = (n: number) => random.uint32() % n;
  const names = ['a', 'b.weight', '__proto__', 'größe', 'constructor'].slice(0, 1 + below(5));
  let file = encodeSafetensors(
    names.map((name) => {
      const dtype = DTYPES[below(DTYPES.length)];
      const isBlocks = dtype === 'Q8' || dtype === 'Q4';
      const shape = isBlocks
        ? [
            [32, 32],
            [32, 64, 1, 1],
          ][below(2)]
        : Array.from({ length: below(4) }, () => below(5));
      return [name, { dtype, shape, data: new Uint8Array(byteLength(dtype, elementCount(shape))) }];
    }),
    below(2) ? { format: 'pt' } : {},
  );
  for (let n = 1 + below(3); n > 0; n--) file = MUTATIONS[below(MUTATIONS.length)](file, below);
  return file;
}

type Mutation = (file: Uint8Array<ArrayBuffer>, below: (n: number) => number) => Uint8Array<ArrayBuffer>;

const headerLength = (file: Uint8Array<ArrayBuffer>) => Math.min(new DataView(file.buffer).getUint32(0, true), file.length - 8);

/** A position within the header's text. */
const inHeader = (file: Uint8Array<ArrayBuffer>, below: (n: number) => number) => 8 + below(Math.max(headerLength(file), 1));

/** Edits the header as text and writes the new length before it. */
function withHeader(file: Uint8Array<ArrayBuffer>, edit: (text: string) => string): Uint8Array<ArrayBuffer> {
  const end = 8 + headerLength(file);
  const text = new TextEncoder().encode(edit(new TextDecoder().decode(file.slice(8, end))));
  const out = new Uint8Array(8 + text.length + file.length - end);
  new DataView(out.buffer).setUint32(0, text.length, true);
  out.set(text, 8);
  out.set(file.slice(end), 8 + text.length);
  return out;
}

const NUMBERS = ['-1', '1.5', '1e400', '9007199254740993', '4294967296', 'null', '"1"', '[]', '{}', 'true'];
const WORDS = [
  '"F16"',
  '"F31"',
  '"__proto__"',
  '"toString"',
  '"a"',
  '"dtype"',
  '"shape"',
  '"data_offsets"',
  '"__metadata__"',
  '"supir_blocks"',
  '\\"q4\\"',
  '\\"q8\\"',
  '\\"a\\"',
  '\\"b.weight\\"',
  '[32,32]',
  '"\\ud800"',
  '""',
];

const MUTATIONS: Mutation[] = [
  // A byte of the header becomes another.
  (file, below) => {
    if (file.length > 8) file[inHeader(file, below)] = below(256);
    return file;
  },
  // Some bytes of the data become others.
  (file, below) => {
    if (file.length < 8) return file;
    const data = file.length - 8 - headerLength(file);
    if (data > 0) for (let n = 0; n < 16; n++) file[file.length - 1 - below(data)] = below(256);
    return file;
  },
  // The header's length is off by a little or by a lot.
  (file, below) => {
    if (file.length < 8) return file;
    const view = new DataView(file.buffer);
    if (below(2)) view.setUint32(0, view.getUint32(0, true) + below(17) - 8, true);
    else file[below(8)] = below(256);
    return file;
  },
  // The file ends early, or goes on.
  (file, below) => file.slice(0, below(file.length + 1)),
  (file, below) => {
    const longer = new Uint8Array(file.length + 1 + below(9));
    longer.set(file);
    return longer;
  },
  // One number of the header becomes a near, far or foolish one.
  (file, below) =>
    file.length < 8
      ? file
      : withHeader(file, (text) => {
          const numbers = [...text.matchAll(/\d+/g)];
          if (numbers.length === 0) return text;
          const { 0: old, index } = numbers[below(numbers.length)];
          const value = below(2) ? String(Number(old) + below(9) - 4) : NUMBERS[below(NUMBERS.length)];
          return text.slice(0, index) + value + text.slice(index + old.length);
        }),
  // One text of the header becomes another: names, keys and dtypes change places.
  (file, below) =>
    file.length < 8
      ? file
      : withHeader(file, (text) => {
          const words = [...text.matchAll(/\\?"[^"]*"/g)];
          if (words.length === 0) return text;
          const { 0: old, index } = words[below(words.length)];
          return text.slice(0, index) + WORDS[below(WORDS.length)] + text.slice(index + old.length);
        }),
  // A piece of the header is doubled or lost.
  (file, below) =>
    file.length < 8
      ? file
      : withHeader(file, (text) => {
          const from = below(text.length + 1);
          const to = Math.min(from + below(40), text.length);
          return below(2) ? text.slice(0, to) + text.slice(from) : text.slice(0, from) + text.slice(to);
        }),
];
