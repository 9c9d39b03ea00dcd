/**
 * PyTorch checkpoints of before version 1.6, as many files of ESRGAN are: pickles one after the other (a magic number, the version, facts of the machine, the
 * tensors, the keys of their storages), and the storages in the order of the keys, each with its number of elements before it. Only what the zip archives of
 * later versions hold too is read (torch-file.ts), and nothing is run.
 */
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import type { ByteSource } from './byte-source.ts';
import { BREAKS_OFF, PickleList, type PickleNames, type PickleValue, unpickleSeveral } from './pickle.ts';
import { CURE, type Storage, type Stored, type TorchFile, torchFile, torchNames } from './torch-file.ts';

const VERSION = 1001;
/** Magic number, version, machine, tensors, keys. */
const PICKLES = 5;
/** Bytes before a storage: its number of elements. */
const COUNT = 8;

/** Bytes of the pickles that are read at first, and at most; those of a checkpoint have some 200 a tensor. */
const [FIRST, MOST] = [2 ** 20, 2 ** 26];

/** Opens a checkpoint: reads the pickles, and no tensor. @throws UserError as `openTorch`, and where storages and file differ in length. */
export async function openLegacyTorch(source: ByteSource): Promise<TorchFile> {
  const fail = (what: string): never => {
    throw new UserError(`${source.name}: ${what}. ${CURE}`);
  };
  const { persistent, globals } = torchNames(source.name);
  const storages = new Map<string, Storage>();
  const names: PickleNames = {
    globals,
    persistent(id) {
      if (Array.isArray(id) && id[5] !== null && id[5] !== undefined) return fail('its storages are parts of others, which are not read');
      const storage = persistent(id) as Storage;
      const { key, bytes } = storages.get(storage.key) ?? storage;
      if (!(Number.isSafeInteger(bytes) && bytes >= 0)) return fail(`its storage ${shown(key)} has the impossible size ${bytes}`);
      if (bytes !== storage.bytes) return fail(`its storage ${shown(key)} has two sizes`);
      storages.set(key, storage);
      return storage;
    },
  };
  const { values, end } = await pickles(source, names, () => storages.clear());
  const [, version, machine, root, keys] = values;
  if (version !== VERSION) fail(`it is of the version ${shown(version)}, and ${VERSION} is read`);
  if (!(machine instanceof Map) || machine.get('little_endian') !== true)
    fail('it was saved on a big-endian machine: save it again on another, or as safetensors');
  const order: PickleValue[] = keys instanceof PickleList ? keys.items : fail('it has no list of storages');

  const places = new Map<string, Stored>();
  let at = end;
  for (const key of order) {
    const storage = typeof key === 'string' && !places.has(key) ? storages.get(key) : undefined;
    if (!storage) return fail('its list of storages is not that of its tensors');
    places.set(storage.key, placed(source, storage, at + COUNT, fail));
    at += COUNT + storage.bytes;
  }
  if (at !== source.size) fail(`its storages end at byte ${at}, and the file at ${source.size}`);
  return torchFile(source, root, ({ key }) => places.get(key) ?? `refers to the storage ${shown(key)}, which the file does not hold`);
}

/** The pickles at the beginning of the file, of which nobody knows the length; `again` is called before they are read anew. */
async function pickles(source: ByteSource, names: PickleNames, again: () => void) {
  for (let length = FIRST; ; length *= 4) {
    again();
    const bytes = await source.read(0, Math.min(length, source.size));
    try {
      return unpickleSeveral(source.name, bytes, names, PICKLES);
    } catch (error) {
      if (!(error instanceof UserError && error.code === BREAKS_OFF) || bytes.length === source.size || length >= MOST) throw error;
    }
  }
}

/** A storage that begins at a byte; its number of elements is compared when it is first read. */
function placed(source: ByteSource, { key, size, bytes }: Storage, begin: number, fail: (what: string) => never): Stored {
  let checked = false;
  return {
    name: `the storage ${key}`,
    begin,
    size: bytes,
    async read(offset, length, into) {
      if (!checked) {
        const before = await source.read(begin - COUNT, COUNT);
        const count = Number(new DataView(before.buffer, before.byteOffset, COUNT).getBigInt64(0, true));
        if (count !== size) fail(`its storage ${shown(key)} has ${count} elements, and its tensors say ${size}`);
        checked = true;
      }
      return source.read(begin + offset, length, into);
    },
  };
}
