/**
 * The state of a sampling run on disk: after every step its latent replaces the one before, so that a run which was stopped, crashed or lost
 * its device goes on from there, to the same bits. Everything before sampling is computed anew; it is deterministic.
 */
import { UserError } from '../core/errors.ts';
import type { Files } from '../host/host.ts';
import type { SamplerStep } from '../sampler/sampler.ts';
import { bytesSource } from '../weights/byte-source.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { encodeSafetensors } from '../weights/safetensors-writer.ts';
import { identity, type Recipe } from './recipe.ts';

/** Where a sampler goes on. */
export interface SamplerState {
  /** Steps already done. */
  startStep: number;
  latent: Float32Array;
  denoised: Float32Array;
}

export class RunState {
  private readonly files: Files;
  private readonly path: string;
  private readonly recipe: Recipe;
  /** What was saved last time; null for a new run. */
  readonly saved: SamplerState | null;
  /** How many states of other runs lie in the folder. */
  readonly others: number;

  private constructor(files: Files, path: string, recipe: Recipe, saved: SamplerState | null, others: number) {
    this.files = files;
    this.path = path;
    this.recipe = recipe;
    this.saved = saved;
    this.others = others;
  }

  /** Opens a folder for the run that `recipe` identifies. Throws UserError when a state is damaged or the folder cannot be read. */
  static async open(files: Files, folder: string, recipe: Recipe): Promise<RunState> {
    const name = `${await identity(recipe)}.state.safetensors`;
    const path = `${folder}/${name}`;
    const names = (await files.exists(folder)) ? (await files.list(folder)).filter((each) => each.endsWith('.state.safetensors')) : [];
    const others = names.filter((each) => each !== name).length;
    if (!names.includes(name)) return new RunState(files, path, recipe, null, others);
    return new RunState(files, path, recipe, await readState(path, await files.readFile(path)), others);
  }

  /** Keeps a step; the file is replaced whole. */
  async save({ step, steps, latent, denoised }: SamplerStep): Promise<void> {
    if (step === steps) return; // nothing is left to go on with
    const tensors: Parameters<typeof encodeSafetensors>[0] = [
      ['latent', { dtype: 'F32', shape: [latent.length], data: latent }],
      ['denoised', { dtype: 'F32', shape: [denoised.length], data: denoised }],
      ['step', { dtype: 'I32', shape: [1], data: Int32Array.of(step) }],
    ];
    await this.files.writeFileAtomic(this.path, encodeSafetensors(tensors, { recipe: JSON.stringify(this.recipe) }));
  }

  /** Removes the state: the run's result is written. */
  async remove(): Promise<void> {
    await this.files.remove(this.path);
  }
}

async function readState(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<SamplerState> {
  try {
    const file = await openSafetensors(bytesSource(path, bytes));
    const [latent, denoised, [startStep]] = [await file.f32('latent'), await file.f32('denoised'), await file.ints('step')];
    return { startStep, latent, denoised };
  } catch (cause) {
    throw new UserError(`The state ${path} is damaged. Remove it, and the run starts anew.`, { cause });
  }
}
