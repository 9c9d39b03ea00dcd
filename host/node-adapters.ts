/** Which of several GPUs Dawn's Node binding opens: it lists them when it is asked for one that there is not. */
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';

export interface ListedAdapter {
  /** Counted from 0, in the binding's order. */
  number: number;
  name: string;
  backend: string;
}

/** A name that no adapter has. */
const NOBODY = 'no adapter is called this';

type Create = (flags: string[]) => GPU;

/** All adapters that the binding finds. */
export async function listAdapters(create: Create): Promise<ListedAdapter[]> {
  try {
    await create([`adapter=${NOBODY}`]).requestAdapter();
    return [];
  } catch (error) {
    const lines = [...(error as Error).message.matchAll(/backend: '([^']*)', name: '([^\n]*)'/g)];
    return lines.map(([, backend, name], number) => ({ number, name, backend }));
  }
}

/**
 * The binding's flags for the adapter that a person means: its number, or a part of its name in any case. Throws UserError where that is none of them, or
 * several, with the list.
 */
export function flagsFor(which: string, adapters: readonly ListedAdapter[]): string[] {
  // "4060" is a part of a name, unless there are so many GPUs.
  const part = which.trim().toLowerCase();
  const found =
    /^\d+$/.test(which) && Number(which) < adapters.length
      ? adapters.filter(({ number }) => number === Number(which))
      : adapters.filter(({ name }) => part !== '' && name.toLowerCase().includes(part));
  const names = [...new Set(found.map(({ name }) => name))];
  const list = adapters.map(({ number, name, backend }) => `${number}: ${shown(name)} (${backend})`).join('; ') || 'none';
  const facts = { code: found.length === 0 ? 'unknown-gpu' : 'several-gpus', option: 'gpu', values: { given: which } };
  if (found.length === 0) throw new UserError(`No GPU has the number or the name '${shown(which)}'. There are: ${list}.`, facts);
  if (names.length > 1)
    throw new UserError(`'${shown(which)}' means several GPUs: give a number or more of the name. There are: ${list}.`, facts);
  const [{ name, backend }] = found;
  if (adapters.filter((each) => each.name === name && each.backend === backend).length > 1)
    throw new UserError(
      `Several GPUs are called ${shown(name)}, and this host can only tell them apart by name. Hide the others with the driver's own variable, such as CUDA_VISIBLE_DEVICES or MESA_VK_DEVICE_SELECT.`,
      facts,
    );
  return [`adapter=${name}`, `backend=${backend}`];
}
