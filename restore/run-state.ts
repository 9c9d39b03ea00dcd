/**
 * The state of a sampling run on disk: after every step its latent replaces the one before, so that a run which was stopped, crashed or lost
 * its device goes on from there, to the same bits. Everything before sampling is computed again; it is deterministic. A state is named for its run's
 * recipe, the weights' fingerprints in it, and sealed: neither another run's nor a damaged one is gone on with.
 */
import { UserError } from '../core/errors.ts';
import type { Files } from '../host/host.ts';
import type { SamplerStep } from '../sampler/sampler.ts';
import { bytesSource } from '../weights/byte-source.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { checkSeal, encodeSealed } from '../weights/seal.ts';
import { identity, type Recipe } from './recipe.ts';

/** Where a sampler goes on. */
export interface SamplerState {
  /** Steps already done. */
  startStep: number;
  latent: Float32Array;
  denoised: Float32Array;
  /** What else a multistep sampler needs. */
  history?: readonly Float32Array[];
}

/** Where a run goes on after a step; null after the last, and where the next one takes over what this one computed. */
export function stateAfter({ step, steps, latent, denoised, history, leadsOn = false }: SamplerStep): SamplerState | null {
  return step < steps && !leadsOn ? { startStep: step, latent, denoised, ...(history ? { history } : {}) } : null;
}

type Entry = Parameters<typeof encodeSealed>[0] extends Iterable<infer Each> ? Each : never;

export class RunState {
  private readonly files: Files;
  private readonly path: string;
  private readonly recipe: Recipe<unknown>;
  /** What was saved last time; null for a new run. */
  readonly saved: SamplerState | null;
  /** How many states of other runs lie in the folder. */
  readonly others: number;

  private constructor(files: Files, path: string, recipe: Recipe<unknown>, saved: SamplerState | null, others: number) {
    this.files = files;
    this.path = path;
    this.recipe = recipe;
    this.saved = saved;
    this.others = others;
  }

  /** Opens a folder for the run, or a later piece of it, that `recipe` identifies. Throws UserError when a state is damaged or the folder cannot be read. */
  static async open(files: Files, folder: string, recipe: Recipe<unknown>, piece = 0): Promise<RunState> {
    const run = await identity(recipe);
    const name = `${run}${piece > 0 ? `-${piece}` : ''}.state.safetensors`;
    const path = `${folder}/${name}`;
    const names = (await files.exists(folder)) ? (await files.list(folder)).filter((each) => each.endsWith('.state.safetensors')) : [];
    const others = names.filter((each) => !each.startsWith(run)).length;
    if (!names.includes(name)) return new RunState(files, path, recipe, null, others);
    return new RunState(files, path, recipe, await readState(path, await files.readFile(path), recipe), others);
  }

  /** A warning that states of other runs lie there, and what to do about them. */
  othersInWords(): string {
    const folder = this.path.slice(0, this.path.lastIndexOf('/'));
    const [states, them] = this.others === 1 ? ['the state of another run', 'it'] : [`states of ${this.others} other runs`, 'them'];
    return `${folder} holds ${states}: of another photo, other options or another model. This run starts again and leaves ${them} alone; the command that began ${them} goes on from ${them}. To be rid of ${them}, remove ${folder}/*.state.safetensors.`;
  }

  /** Keeps a step, if a run can go on from it; the file is replaced whole. */
  async save(done: SamplerStep): Promise<void> {
    const state = stateAfter(done);
    if (!state) return;
    const { startStep, latent, denoised, history = [] } = state;
    const tensors: Entry[] = [
      ['latent', { dtype: 'F32', shape: [latent.length], data: latent }],
      ['denoised', { dtype: 'F32', shape: [denoised.length], data: denoised }],
      ['step', { dtype: 'I32', shape: [1], data: Int32Array.of(startStep) }],
      ...history.map((data, i): Entry => [`history.${i}`, { dtype: 'F32', shape: [data.length], data }]),
    ];
    await this.files.writeFileAtomic(this.path, await encodeSealed(tensors, { recipe: JSON.stringify(this.recipe) }));
  }

  /** Removes the state: the run's result is written. */
  async remove(): Promise<void> {
    await this.files.remove(this.path);
  }
}

async function readState(path: string, bytes: Uint8Array<ArrayBuffer>, recipe: Recipe<unknown>): Promise<SamplerState> {
  try {
    const file = await openSafetensors(bytesSource(path, bytes));
    await checkSeal(file);
    const [latent, denoised, [startStep]] = [await file.f32('latent'), await file.f32('denoised'), await file.ints('step')];
    if ((await identity(JSON.parse(file.metadata.get('recipe')!))) !== (await identity(recipe))) throw new Error('of another run');
    if (latent.length !== denoised.length || !(startStep > 0)) throw new Error('of other sizes');
    const history: Float32Array[] = [];
    while (file.has(`history.${history.length}`)) history.push(await file.f32(`history.${history.length}`));
    return { startStep, latent, denoised, ...(history.length > 0 ? { history } : {}) };
  } catch (cause) {
    throw new UserError(`The state ${path} is damaged. Remove it, and the run starts again.`, {
      cause,
      code: 'damaged-state',
      file: path,
    });
  }
}
