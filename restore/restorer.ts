/**
 * The restorer as a library user holds it: a device and a model, loaded once, that restore photo after photo. It keeps each run's state, goes on
 * from it, and when the device is lost opens a new one and goes on there, until that is no use (gpu/recovery.ts).
 */
import { DeviceError, factsOf, MemoryError } from '../core/errors.ts';
import { parameters } from '../core/module.ts';
import { type Device, type OpenOptions, openDevice } from '../gpu/device.ts';
import { Profile } from '../gpu/profiler.ts';
import { deviceAfterLoss, Losses } from '../gpu/recovery.ts';
import type { Host } from '../host/host.ts';
import type { Image } from '../image/image.ts';
import type { LoraScaleText } from '../models/lora-scale.ts';
import type { LoraHandle } from '../models/lora-set.ts';
import type { SamplerStep } from '../sampler/sampler.ts';
import { fingerprint } from '../weights/fingerprint.ts';
import { readJson } from '../weights/json-bounds.ts';
import { ADAPTER_CONFIG, ADAPTER_LIMITS } from '../weights/lora-alpha.ts';
import { type Forecast, forecastRestore } from './forecast.ts';
import { type RestoredPhoto, restorePhoto } from './job.ts';
import type { Model } from './model.ts';
import { Results } from './pipeline.ts';
import { ProgressMeter } from './progress.ts';
import { makeRecipe, type Recipe } from './recipe.ts';
import { RunState, type SamplerState, stateAfter } from './run-state.ts';
import type { Speeds } from './speed.ts';
import type { Given, Kind, Method, ModelOptions, NamedSize, RestoreEvents } from './stage.ts';
import { SUPIR, type SupirKind } from './supir.ts';

export interface RestoreSettings<K extends Kind = SupirKind> extends RestoreEvents {
  /** The photo's name, for messages and the recipe. */
  name?: string;
  /** Folder that keeps the sampler's last step, to go on from after an interruption. */
  state?: string;
  /** Keeps what no seed changes from one restoration of a photo to the next, of which only the seed may differ; else it is not used. */
  samples?: Samples<K>;
  /** Called with the recipe before the work begins; throwing stops it. */
  recipe?(recipe: Recipe<K['options']>): void | Promise<void>;
}

export interface RestoredWithRecipe<K extends Kind = SupirKind> extends RestoredPhoto<K['options']> {
  recipe: Recipe<K['options']>;
  /** Steps that an earlier, interrupted run had done. */
  resumedAt: number;
  /** To be called when the result is safe: removes the run's state. */
  finished(): Promise<void>;
}

/** What restorations of one photo with several seeds share: all that is made before noise is drawn. */
export class Samples<K extends Kind = SupirKind> {
  private key = '';
  private results = new Results<K['made']>();

  /** What was made for the same but another seed, or nothing. */
  from(
    { model, loras, photo, options: { seed: _, ...options } }: Recipe<K['options']>,
    stages: Parameters<Results<K['made']>['forAnotherSeed']>[0],
  ) {
    const key = JSON.stringify({ model, loras, photo, options });
    this.results = key === this.key ? this.results.forAnotherSeed(stages) : new Results();
    this.key = key;
    return this.results;
  }
}

/** A LoRA file and how strongly it acts, as lora-scale.ts reads it; 1 is as trained, 0 is off. */
export interface LoraChoice {
  path: string;
  scale: LoraScaleText;
  /** Change the weights instead of applying it beside them: quicker, and the scale is fixed. Default false. */
  merge?: boolean;
}

export interface RestorerOptions extends ModelOptions {
  /** How kernels divide their work; default: by the adapter's facts. */
  schedule?: OpenOptions['schedule'];
  /** Which of several GPUs is asked for; default: the fast one. */
  powerPreference?: OpenOptions['powerPreference'];
  /** Seconds before each attempt to get an adapter again after a loss. Default: WAITS of gpu/recovery.ts. */
  waits?: readonly number[];
}

/** Methods whose models may be opened: a folder is of the first that recognises it. */
export interface ChosenMethods<K extends Kind> {
  methods: readonly Method<K>[];
}

interface Opened<K extends Kind> {
  method: Method<K>;
  model: K['model'];
  fingerprint: string;
}

/** What of the memory that was in use when the adapter ran out of it is asked for in a second try. */
const LESS_MEMORY = 0.75;
/** Bytes that activations need at most, whatever the photo: what is larger is done in tiles. */
const BESIDE_WEIGHTS = 3 * 2 ** 30;
/** Bytes that no GPU lacks: a loss with less in use was not one of memory. */
const NO_GPU_LACKS = 2 ** 28;

export class Restorer<K extends Kind = SupirKind> {
  /** GPU memory that may be used, in bytes; undefined to choose it by the adapter and the machine. Counts from the next photo on. */
  memory: number | undefined;
  /** How fast the device was, learnt from what it has restored; may be given from elsewhere. */
  speeds: Speeds | null = null;
  /** Folders of states of other runs, of which a person was told. */
  private readonly toldOfStates = new Set<string>();
  /** Of all photos, so that a batch on a GPU that is lost again and again ends. */
  private readonly losses = new Losses();
  private readonly host: Host;
  private options: RestorerOptions;
  private readonly methods: readonly Method<K>[];
  private opened: Opened<K>;

  private constructor(host: Host, options: RestorerOptions, methods: readonly Method<K>[], opened: Opened<K>) {
    this.host = host;
    this.options = options;
    this.methods = methods;
    this.opened = opened;
  }

  /**
   * Opens the preferred adapter and a model folder, with LoRA files and their strengths, and how its weights are to lie in memory. Without
   * `methods` the model is SUPIR's. Throws DeviceError without an adapter, UserError for a folder that is no model and for LoRA files that do not fit it.
   */
  static load(host: Host, folder: string, loras?: readonly LoraChoice[], options?: RestorerOptions): Promise<Restorer>;
  static load<K extends Kind>(
    host: Host,
    folder: string,
    loras: readonly LoraChoice[] | undefined,
    options: RestorerOptions & ChosenMethods<K>,
  ): Promise<Restorer<K>>;
  static async load(
    host: Host,
    folder: string,
    loras: readonly LoraChoice[] = [],
    { methods = [SUPIR], ...options }: RestorerOptions & Partial<ChosenMethods<Kind>> = {},
  ): Promise<Restorer<Kind>> {
    const device = await deviceOf(host, options);
    try {
      const restorer = new Restorer(host, options, methods, await openModel(device, host, folder, loras, options, methods));
      await restorer.findMemory();
      return restorer;
    } catch (error) {
      device.close();
      throw error;
    }
  }

  get device(): Device {
    return this.model.device;
  }

  get model(): K['model'] {
    return this.opened.model;
  }

  get method(): Method<K> {
    return this.opened.method;
  }

  /**
   * Puts another LoRA file on the model. Its handle's scale may be changed at any time: nothing is read or compiled then, and a restoration that
   * runs goes on with it. Throws UserError for a file that does not fit the model, and changes nothing then.
   */
  async addLora(choice: LoraChoice): Promise<LoraHandle> {
    return putOn(this.model, this.host, choice);
  }

  /**
   * Opens another model folder, or other LoRA files, or keeps weights in another way, on the same device, which keeps what it compiled. What was
   * open stays in force when this cannot be opened; throws as `load`.
   */
  async change(folder: string, loras: readonly LoraChoice[], options: ModelOptions = this.options): Promise<void> {
    const before = this.opened;
    this.opened = await openModel(this.device, this.host, folder, loras, options, this.methods);
    this.options = { ...this.options, ...options };
    this.speeds = null;
    await before.model.close();
    await this.findMemory();
  }

  /**
   * Restores one photo. Throws UserError for impossible options or sizes, DeviceError when the GPU fails twice or is lost too often
   * (device-lost-again, no-adapter-again: other photos would fare alike), the signal's reason when aborted; a state that was asked for is kept in all
   * these cases.
   */
  async restore(photo: Image, given: Given<K>, settings: RestoreSettings<K> = {}): Promise<RestoredWithRecipe<K>> {
    const { name = 'photo', state: folder } = settings;
    const recipe = await this.recipe(photo, name, given);
    await settings.recipe?.(recipe);
    const state = folder === undefined ? null : await RunState.open(this.host, folder, recipe);
    for (const { name: file, notes } of this.model.loras)
      for (const message of notes) await settings.warning?.({ code: 'lora-file', file, message });
    if (photo.note) await settings.warning?.({ code: 'photo', file: name, message: `${name}: ${photo.note}` });
    if (state && !state.saved && state.others > 0 && !this.toldOfStates.has(folder!)) {
      this.toldOfStates.add(folder!);
      await settings.warning?.({ code: 'other-states', file: folder, message: state.othersInWords() });
    }
    let last: SamplerState | null = state?.saved ?? null;
    const resumedAt = last?.startStep ?? 0;
    const step = async (done: SamplerStep) => {
      last = stateAfter(done) ?? last;
      // The listener first: what it writes is there, or the step is done again.
      await settings.step?.(done);
      await state?.save(done);
      this.losses.progressed();
    };
    const { method, model } = this.opened;
    const results = settings.samples?.from(recipe, method.stages(recipe.options)) ?? new Results<K['made']>();
    const run = async () => {
      const forecast = this.forecast({ ...photo, name }, given);
      this.device.residency.budget = forecast.budget;
      const left = forecast.stages.filter(({ stage }) => !results.has(stage));
      const meter = new ProgressMeter(left, (progress) => settings.progress?.(progress), this.speeds?.byGraph);
      const restored = await restorePhoto(method, model, photo, given, { ...settings, step }, { resume: last, results, meter });
      this.speeds = learnt(this.speeds, meter.speeds);
      return restored;
    };
    // A device that was lost after the photo before, or whose loss ended it.
    if (this.device.isGone) await this.replaceDevice(settings.signal);
    let result: RestoredPhoto<K['options']> | null = null;
    for (let tried = false; !result; ) {
      try {
        result = await run();
      } catch (error) {
        const failure = await this.device.failureBehind(error);
        const isLost = (failure as DeviceError).code === 'device-lost';
        if (!(failure instanceof DeviceError)) throw error;
        if (tried && !isLost) throw inBothSchedules(failure);
        if (isLost) this.losses.add(failure);
        tried ||= !isLost;
        await settings.warning?.({
          ...factsOf(failure),
          code: 'device-replaced',
          message: `${failure.message} Trying once more on a new device${last ? `, from step ${(last as SamplerState).startStep}` : ''}.`,
        });
        this.useLess(failure, { ...photo, name }, given);
        await this.replaceDevice(settings.signal, failure.code === 'wrong-values');
      }
    }
    this.losses.progressed();
    return { ...result, recipe, resumedAt, finished: async () => state?.remove() };
  }

  /**
   * What restoring a photo of this size with these options will take; with `speeds` in what time. Throws UserError with the numbers when it does
   * not fit, and for impossible options or sizes.
   */
  forecast(size: NamedSize, given: Given<K>, speeds: Speeds | null = this.speeds): Forecast {
    const { method, model } = this.opened;
    const settings = { memory: this.memory, freeMemory: this.host.freeMemory(), speeds };
    return forecastRestore(method, model, size, method.choose(given, model.config), settings);
  }

  /** The recipe that restoring `photo` with these options would have. */
  recipe(photo: Image, name: string, given: Given<K>): Promise<Recipe<K['options']>> {
    const { method, model, fingerprint } = this.opened;
    const { weights } = this.options;
    const { description, device: chip, vendor } = this.device.facts;
    return makeRecipe(
      photo,
      name,
      method.choose(given, model.config),
      { name: model.config.name, fingerprint, ...(weights ? { weights } : {}) },
      model.loraFiles.map(({ handle: { name, scale, isMerged }, fingerprint }) => ({
        name,
        scale,
        fingerprint,
        ...(isMerged ? { merged: true } : {}),
      })),
      description || chip || vendor,
      method.name,
    );
  }

  /** Finds out how much memory there is for this model, where a trial can tell. A device that the trial loses is replaced, and not tried again. */
  private async findMemory(): Promise<void> {
    const { device, model } = this;
    const weights = [...parameters(model.networks)].reduce((sum, [, { bytes }]) => sum + bytes, 0);
    try {
      await device.findMemory(weights + BESIDE_WEIGHTS);
    } catch (error) {
      const failure = await device.failureBehind(error);
      if ((failure as DeviceError).code !== 'device-lost') throw error;
      device.card = { ...device.card, mayTry: false };
      await this.replaceDevice();
    }
  }

  /** Asks for less memory after memory ran out, or where the device was lost while memory was taken and the photo fits in less. */
  private useLess(failure: DeviceError, size: NamedSize, given: Given<K>): void {
    const { peak } = this.device.memory;
    if (!(failure instanceof MemoryError) && (failure.values?.placing !== true || peak < NO_GPU_LACKS)) return;
    const before = this.memory;
    this.memory = LESS_MEMORY * peak;
    if (failure instanceof MemoryError) return; // where the photo does not fit in less, that is told
    try {
      this.forecast(size, given, null);
    } catch {
      this.memory = before;
    }
  }

  /** The model stays open, with its LoRA files and their scales as they are now. After wrong values another schedule is taken, where there is one. */
  private async replaceDevice(signal?: AbortSignal, isWrong = false): Promise<void> {
    const before = this.device;
    const open = () => deviceOf(this.host, this.options, before);
    this.model.release();
    const wasLost = before.isGone;
    before.close();
    if (isWrong) {
      before.pace.afterLoss(); // the driver may have dropped work for its length
      this.options = { ...this.options, schedule: before.facts.schedule === 'tiled' ? 'subgroup' : 'tiled' };
      const other = await open().catch(() => null);
      if (other) return this.model.moveTo(other);
      this.options = { ...this.options, schedule: before.facts.schedule }; // the adapter runs no other
    }
    const device = wasLost ? await deviceAfterLoss(before, open, { waits: this.options.waits, signal }) : await open();
    this.model.moveTo(device);
  }

  /** Frees the weights, closes the files and gives the device back. */
  async close(): Promise<void> {
    await this.model.close();
    this.device.close();
  }
}

/** What is wrong a second time, with other kernels, is not the fault of one. */
function inBothSchedules(failure: DeviceError): DeviceError {
  if (failure.code !== 'wrong-values') return failure;
  return new DeviceError(`${failure.message} It was so a second time on a new device, so no picture is written.`, {
    ...factsOf(failure),
    code: 'wrong-values-again',
    cause: failure,
  });
}

async function deviceOf(host: Host, { schedule, powerPreference }: RestorerOptions, before: Device | null = null): Promise<Device> {
  const { pace, card } = before ?? {};
  const { settle, chooseMatrixUnit } = host;
  const from = { gpu: await host.gpu(), settle, chooseMatrixUnit, machine: host.machine(), debug: host.debug?.() };
  const device = await openDevice({ ...from, schedule, powerPreference, pace, card });
  device.profile = before?.profile ? new Profile() : null;
  return device;
}

async function openModel<K extends Kind>(
  device: Device,
  host: Host,
  folder: string,
  choices: readonly LoraChoice[],
  options: ModelOptions,
  methods: readonly Method<K>[],
): Promise<Opened<K>> {
  const method = await methodOf(methods, host, folder);
  const model: K['model'] = await method.open(device, host, folder, options);
  try {
    for (const choice of choices) await putOn(model, host, choice);
    return { method, model, fingerprint: await fingerprint(model.checkpoint) };
  } catch (error) {
    await model.close();
    throw error;
  }
}

/** The first that knows the folder; where none does, the last, whose opening tells what is missing. */
export async function methodOf<K extends Kind>(methods: readonly Method<K>[], host: Host, folder: string): Promise<Method<K>> {
  for (const method of methods) if (await method.recognises(host, folder)) return method;
  return methods[methods.length - 1];
}

/** Puts a LoRA file on a model; of one that PEFT saved, with the configuration that lies beside it. */
async function putOn(model: Model, host: Host, { path, scale, merge }: LoraChoice): Promise<LoraHandle> {
  const beside = path.replace(/adapter_model\.(safetensors|bin)$/, ADAPTER_CONFIG);
  const config = beside !== path && (await host.exists(beside)) ? await readJson(await host.fileSource(beside), ADAPTER_LIMITS) : undefined;
  return model.addLora(await host.fileSource(path), scale, merge, { config });
}

function learnt(before: Speeds | null, byGraph: Record<string, number>): Speeds {
  const found = Object.values({ ...before?.byGraph, ...byGraph });
  // Of a network that has not run yet, the mean of those that have.
  const mean = found.length > 0 ? found.length / found.reduce((sum, speed) => sum + 1 / speed, 0) : 1;
  return { gflopPerSecond: mean, ...before, byGraph: { ...before?.byGraph, ...byGraph } };
}
