/**
 * The restorer as a library user holds it: a device and a model, loaded once, that restore photo after photo. It keeps each run's state, goes on
 * from it, and when the device is lost opens a new one and goes on there, once.
 */

import { DeviceError, MemoryError } from '../core/errors.ts';
import { type Device, type OpenOptions, openDevice } from '../gpu/device.ts';
import type { Host } from '../host/host.ts';
import type { Image } from '../image/image.ts';
import type { SamplerStep } from '../sampler/sampler.ts';
import { type Forecast, forecastRestore, type Speeds } from './forecast.ts';
import { type RestoredPhoto, restorePhoto } from './job.ts';
import type { LoraScaleText } from './lora-scales.ts';
import { type ModelOptions, SupirModel } from './model-folder.ts';
import { chooseOptions, type GivenOptions } from './options.ts';
import type { RestoreEvents } from './pipeline.ts';
import { fingerprint, makeRecipe, type Recipe } from './recipe.ts';
import { RunState, type SamplerState } from './run-state.ts';

export interface RestoreSettings extends RestoreEvents {
  /** The photo's name, for messages and the recipe. */
  name?: string;
  /** Folder that keeps the sampler's last step, to go on from after an interruption. */
  state?: string;
  /** Called with the recipe before the work begins; throwing stops it. */
  recipe?(recipe: Recipe): void | Promise<void>;
}

export interface RestoredWithRecipe extends RestoredPhoto {
  recipe: Recipe;
  /** Steps that an earlier, interrupted run had done. */
  resumedAt: number;
  /** To be called when the result is safe: removes the run's state. */
  finished(): Promise<void>;
}

/** A LoRA file and how strongly it acts, as lora-scales.ts reads it; 1 is as trained, 0 is off. */
export interface LoraChoice {
  path: string;
  scale: LoraScaleText;
  /** Change the weights instead of applying it beside them: quicker, and the scale is fixed. Default false. */
  merge?: boolean;
}

export interface RestorerOptions extends ModelOptions {
  /** How kernels divide their work; default: by the adapter's facts. */
  schedule?: OpenOptions['schedule'];
}

interface Opened {
  device: Device;
  model: SupirModel;
  fingerprint: string;
  /** Of the LoRA files, in order. */
  loraFingerprints: string[];
}

/** What of the memory that was in use when the adapter ran out of it is asked for in a second try. */
const LESS_MEMORY = 0.75;

export class Restorer {
  /** GPU memory that may be used, in bytes; undefined to choose it by the adapter and the machine. Counts from the next photo on. */
  memory: number | undefined;
  private readonly host: Host;
  private folder: string;
  private loras: LoraChoice[];
  private options: RestorerOptions;
  private opened: Opened;

  private constructor(host: Host, folder: string, loras: readonly LoraChoice[], options: RestorerOptions, opened: Opened) {
    this.host = host;
    this.folder = folder;
    this.loras = [...loras];
    this.options = options;
    this.opened = opened;
  }

  /**
   * Opens the preferred adapter and a model folder, with LoRA files and their strengths, and how its weights are to lie in memory. Throws
   * DeviceError without an adapter, UserError for a folder that is no model and for LoRA files that do not fit it.
   */
  static async load(host: Host, folder: string, loras: readonly LoraChoice[] = [], options: RestorerOptions = {}): Promise<Restorer> {
    return new Restorer(host, folder, loras, options, await open(host, folder, loras, options));
  }

  get device(): Device {
    return this.opened.device;
  }

  get model(): SupirModel {
    return this.opened.model;
  }

  /**
   * Another scale for LoRA file number `index`, from the next evaluation of the networks on: nothing is read or compiled again, and a
   * restoration that runs goes on with it. Throws UserError for a scale that is none, or where the file was merged.
   */
  setLoraScale(index: number, scale: LoraScaleText): void {
    this.model.setLoraScale(index, scale);
    this.loras[index] = { ...this.loras[index], scale };
  }

  /** Puts another LoRA file on the model. Throws UserError for one that does not fit it, and changes nothing then. */
  async addLora(choice: LoraChoice): Promise<void> {
    await putOn(this.opened, this.host, choice);
    this.loras.push(choice);
  }

  /**
   * Opens another model folder, or other LoRA files, or keeps weights in another way, on the same device, which keeps what it compiled. What was
   * open stays in force when this cannot be opened; throws as `load`.
   */
  async change(folder: string, loras: readonly LoraChoice[], options: ModelOptions = this.options): Promise<void> {
    const before = this.opened;
    this.opened = await openModel(before.device, this.host, folder, loras, options);
    [this.folder, this.loras, this.options] = [folder, [...loras], { ...this.options, ...options }];
    await before.model.close();
  }

  /**
   * Restores one photo. Throws UserError for impossible options or sizes, DeviceError when the GPU fails twice, the signal's reason when
   * aborted; a state that was asked for is kept in all these cases.
   */
  async restore(photo: Image, given: GivenOptions, settings: RestoreSettings = {}): Promise<RestoredWithRecipe> {
    const { name = 'photo', state: folder } = settings;
    const recipe = await this.recipe(photo, name, given);
    await settings.recipe?.(recipe);
    const state = folder === undefined ? null : await RunState.open(this.host, folder, recipe);
    if (photo.note) await settings.warning?.(`${name}: ${photo.note}`);
    if (state && !state.saved && state.others > 0) {
      await settings.warning?.(
        `${folder} holds ${state.others === 1 ? 'the state of another run' : `states of ${state.others} other runs`}; this one starts anew.`,
      );
    }
    let last: SamplerState | null = state?.saved ?? null;
    const resumedAt = last?.startStep ?? 0;
    const step = async (done: SamplerStep) => {
      last = done.step < done.steps ? { startStep: done.step, latent: done.latent, denoised: done.denoised } : last;
      await state?.save(done);
      await settings.step?.(done);
    };
    const run = () => {
      this.device.residency.budget = this.forecast(photo, given).budget ?? Number.POSITIVE_INFINITY;
      return restorePhoto(this.opened.model, photo, given, { ...settings, step }, last);
    };
    let result: RestoredPhoto;
    try {
      result = await run();
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      await settings.warning?.(
        `${error.message} Trying once more on a new device${last ? `, from step ${(last as SamplerState).startStep}` : ''}.`,
      );
      if (error instanceof MemoryError) this.memory = LESS_MEMORY * this.device.memory.peak;
      await this.reopen();
      result = await run();
    }
    return { ...result, recipe, resumedAt, finished: async () => state?.remove() };
  }

  /**
   * What restoring a photo of this size with these options will take. Throws UserError with the numbers when it does not fit, and for impossible
   * options or sizes.
   */
  forecast(size: { width: number; height: number }, given: GivenOptions, speeds: Speeds | null = null): Forecast {
    const { networks, config } = this.model;
    const settings = { memory: this.memory, freeMemory: this.host.freeMemory(), speeds };
    return forecastRestore(networks, size, chooseOptions(given, config), settings);
  }

  /** The recipe that restoring `photo` with these options would have. */
  recipe(photo: Image, name: string, given: GivenOptions): Promise<Recipe> {
    const { device, model, fingerprint, loraFingerprints } = this.opened;
    const { weights } = this.options;
    const { description, device: chip, vendor } = device.facts;
    return makeRecipe(
      photo,
      name,
      chooseOptions(given, model.config),
      { name: model.config.name, fingerprint, ...(weights ? { weights } : {}) },
      model.loraFiles.map(({ file, scale, merged }, i) => ({
        name: file.name,
        scale,
        fingerprint: loraFingerprints[i],
        ...(merged ? { merged } : {}),
      })),
      description || chip || vendor,
    );
  }

  private async reopen(): Promise<void> {
    this.opened.device.close();
    await this.opened.model.checkpoint.close();
    for (const { file } of this.opened.model.loraFiles) await file.close?.();
    this.opened = await open(this.host, this.folder, this.loras, this.options);
  }

  /** Frees the weights, closes the files and gives the device back. */
  async close(): Promise<void> {
    await this.opened.model.close();
    this.opened.device.close();
  }
}

async function open(host: Host, folder: string, choices: readonly LoraChoice[], options: RestorerOptions): Promise<Opened> {
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle, schedule: options.schedule });
  try {
    return await openModel(device, host, folder, choices, options);
  } catch (error) {
    device.close();
    throw error;
  }
}

async function openModel(
  device: Device,
  host: Host,
  folder: string,
  choices: readonly LoraChoice[],
  options: ModelOptions,
): Promise<Opened> {
  const model = await SupirModel.openFolder(device, host, folder, options);
  try {
    const opened: Opened = { device, model, fingerprint: await fingerprint(model.checkpoint), loraFingerprints: [] };
    for (const choice of choices) await putOn(opened, host, choice);
    return opened;
  } catch (error) {
    await model.close();
    throw error;
  }
}

async function putOn({ model, loraFingerprints }: Opened, host: Host, { path, scale, merge }: LoraChoice): Promise<void> {
  await model.addLora(await host.fileSource(path), scale, merge);
  loraFingerprints.push(await fingerprint(model.loraFiles[model.loraFiles.length - 1].file));
}
