/**
 * The restorer as a library user holds it: a device and a model, loaded once, that restore photo after photo. It keeps each run's state, goes on
 * from it, and when the device is lost opens a new one and goes on there, until that is no use (gpu/recovery.ts).
 */

import { DeviceError, factsOf, MemoryError, UserError } from '../core/errors.ts';
import { parameters } from '../core/module.ts';
import type { Plan } from '../core/plan.ts';
import { sentence } from '../core/text.ts';
import { type Device, type OpenOptions, openDevice } from '../gpu/device.ts';
import { keepPace, recallPace } from '../gpu/kept-pace.ts';
import { Profile } from '../gpu/profiler.ts';
import { deviceAfterLoss, Losses } from '../gpu/recovery.ts';
import { tuneTiles } from '../gpu/tile-tuning.ts';
import type { Host } from '../host/host.ts';
import { cutOut } from '../image/compose.ts';
import type { Image } from '../image/image.ts';
import { fromUnit } from '../image/image.ts';
import type { Mask } from '../image/mask.ts';
import type { LoraScaleText } from '../models/lora-scale.ts';
import type { LoraHandle } from '../models/lora-set.ts';
import { keyOf } from '../options/schema.ts';
import type { SamplerStep } from '../sampler/sampler.ts';
import { fingerprint } from '../weights/fingerprint.ts';
import { readJson } from '../weights/json-bounds.ts';
import { ADAPTER_CONFIG, ADAPTER_LIMITS } from '../weights/lora-alpha.ts';
import type { Captioner } from './caption.ts';
import { captionPrompt } from './caption-prompt.ts';
import { faceFinder } from './face-finder.ts';
import { type FaceFinder, facesChosen } from './faces.ts';
import { type Forecast, forecastRestore } from './forecast.ts';
import { together } from './forecast-sum.ts';
import { composed, type RestoredPhoto, type RestoredPiece, restorePiece } from './job.ts';
import { KeptCaptions } from './kept-captions.ts';
import type { Model } from './model.ts';
import { images } from './networks.ts';
import { isInPlace, wantsFaces } from './part-options.ts';
import { type Division, divide, type Piece } from './pieces.ts';
import { Results, runStages } from './pipeline.ts';
import { type Progress, ProgressMeter } from './progress.ts';
import { makeRecipe, type Recipe } from './recipe.ts';
import { RunState, type SamplerState, stateAfter } from './run-state.ts';
import type { Box, NamedSize, Size } from './sizes.ts';
import type { Speeds } from './speed.ts';
import type { Given, Kind, Method, ModelOptions, RestoreEvents } from './stage.ts';
import { SUPIR, type SupirKind } from './supir.ts';
import { framed } from './target-size.ts';

export interface RestoreSettings<K extends Kind = SupirKind> extends RestoreEvents {
  /** The photo's name, for messages and the recipe. */
  name?: string;
  /** Folder that keeps the sampler's last step, to go on from after an interruption. */
  state?: string;
  /** Keeps what no seed changes from one restoration of a photo to the next, of which only the seed may differ; else it is not used. */
  samples?: Samples<K>;
  /** Only what is white in it is restored, and the rest stays the photo's, bit for bit; of the photo's size. */
  mask?: Mask;
  /** Finds faces, where options ask for them and do not say where they are. Default: the detector of a package, where the host has it. */
  findFaces?: FaceFinder;
  /** Asked what the photo shows where no prompt was given; its failures are warnings. The answer is in the recipe. */
  caption?: Captioner;
  /** What it is shown: the photo, or the stage-1 image, in which the damage is gone. Default: the photo. */
  captionFrom?: CaptionFrom;
  /** Ask for each tile of sampling too, where there are several. Default false. */
  captionTiles?: boolean;
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
  private results: Results<K['made']>[] = [];

  /** What was made for the same but another seed, or nothing; for each of the photo's pieces. */
  from(
    { model, loras, photo, mask, options: { seed: _, ...options } }: Recipe<K['options']>,
    stages: Parameters<Results<K['made']>['forAnotherSeed']>[0],
    pieces = 1,
  ) {
    const key = JSON.stringify({ model, loras, photo, mask, options });
    const before = key === this.key ? this.results : [];
    this.results = Array.from({ length: pieces }, (_, i) => before[i]?.forAnotherSeed(stages) ?? new Results());
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
  /** For faces that are restored by themselves, and nothing else. Default false. */
  faces?: boolean;
}

/** What a captioner is shown. */
export const CAPTION_FROM = ['photo', 'stage1'] as const;
export type CaptionFrom = (typeof CAPTION_FROM)[number];

/** Most tiles that captions are asked for. */
const MOST_CAPTIONS = 100;

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
  forFaces: Map<LoraHandle, LoraScaleText>;
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
  private readonly finder: FaceFinder | null;
  private options: RestorerOptions;
  private readonly methods: readonly Method<K>[];
  private opened: Opened<K>;
  /** LoRA files for faces alone, and their scales there; elsewhere they are at 0. */
  private get forFaces(): Map<LoraHandle, LoraScaleText> {
    return this.opened.forFaces;
  }

  private constructor(host: Host, options: RestorerOptions, methods: readonly Method<K>[], opened: Opened<K>) {
    this.host = host;
    this.finder = faceFinder(host);
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
      await recallPace(device, host.notes);
      await restorer.explore();
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
    return putOn(this.model, this.host, choice, this.forFaces);
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
    await this.explore();
  }

  /**
   * Restores one photo. Throws UserError for impossible options or sizes, DeviceError when the GPU fails twice or is lost too often
   * (device-lost-again, no-adapter-again: other photos would fare alike), the signal's reason when aborted; a state that was asked for is kept in all
   * these cases.
   */
  async restore(photo: Image, asked: Given<K>, settings: RestoreSettings<K> = {}): Promise<RestoredWithRecipe<K>> {
    const { name = 'photo', state: folder, mask = null } = settings;
    // A device that was lost after the photo before, or whose loss ended it.
    if (this.device.isGone) await this.replaceDevice(settings.signal);
    const { given, faceless } = await this.settled(photo, asked, settings);
    const recipe = await this.recipe(photo, name, given, mask);
    await settings.recipe?.(recipe);
    const { method, model } = this.opened;
    const division = divide(method, model.config, { ...sizeOf(photo), name }, recipe.options, mask);
    if (faceless) division.pieces = division.pieces.filter(({ what }) => what !== 'face');
    const { pieces, notes } = division;
    const states: (RunState | null)[] = [];
    for (const i of pieces.keys()) states.push(folder === undefined ? null : await RunState.open(this.host, folder, recipe, i));
    for (const { name: file, notes } of this.model.loras)
      for (const message of notes) await settings.warning?.({ code: 'lora-file', file, message });
    if (photo.note) await settings.warning?.({ code: 'photo', file: name, message: `${name}: ${photo.note}` });
    for (const note of notes) await settings.warning?.({ ...note, file: name });
    const [first = null] = states;
    if (first && states.every((state) => !state?.saved) && first.others > 0 && !this.toldOfStates.has(folder!)) {
      this.toldOfStates.add(folder!);
      await settings.warning?.({ code: 'other-states', file: folder, message: first.othersInWords() });
    }
    const results =
      settings.samples?.from(recipe, method.stages(recipe.options), pieces.length) ?? pieces.map(() => new Results<K['made']>());
    const work = new Work(photo, pieces, results, settings);
    const restored: RestoredPiece[] = [];
    for (const [i, piece] of pieces.entries()) {
      await settings.piece?.({ what: piece.what, number: i + 1, count: pieces.length });
      const before = this.scalesOfFaces(piece.what === 'face');
      try {
        restored.push(await this.restorePiece(work, i, division, states[i], settings));
      } finally {
        before();
      }
    }
    this.losses.progressed();
    await keepPace(this.device, this.host.notes);
    const resumedAt = states.find((state) => state?.saved)?.saved?.startStep ?? 0;
    const finished = async () => {
      for (const state of states) await state?.remove();
      const kept = this.keptCaptions(photo, settings);
      if (kept) await this.host.remove(await kept.path());
    };
    return { ...composed(method, photo, recipe.options, division, restored), recipe, resumedAt, finished };
  }

  /** One piece, again on a new device where one is lost or fails. */
  private async restorePiece(
    work: Work<K>,
    i: number,
    division: Division<K['options']>,
    state: RunState | null,
    settings: RestoreSettings<K>,
  ): Promise<RestoredPiece> {
    const { method, model } = this.opened;
    const { photo, pieces, results } = work;
    const piece = pieces[i];
    let last: SamplerState | null = state?.saved ?? null;
    const step = async (done: SamplerStep) => {
      last = stateAfter(done) ?? last;
      // The listener first: what it writes is there, or the step is done again.
      await settings.step?.(done);
      await state?.save(done);
      this.losses.progressed();
    };
    const run = async () => {
      // Shaders begin to compile here, while weights are read, and those of later stages while the first one runs.
      const forecast = this.forecastPiece(piece, this.speeds, (plans) => this.device.prepare(plans));
      this.device.residency.budget = forecast.budget;
      const meter = work.meterFor(i, () => [forecast, ...this.forecastPieces(pieces.slice(i + 1), this.speeds)], this.speeds);
      const events = { ...settings, step };
      const restored = await restorePiece(method, model, photo, piece, division, events, { resume: last, results: results[i], meter });
      this.speeds = learnt(this.speeds, meter.speeds);
      return restored;
    };
    // A device that was lost after the piece before.
    if (this.device.isGone) await this.replaceDevice(settings.signal);
    const { memory } = this;
    for (let tried = false; ; ) {
      try {
        return await run();
      } catch (error) {
        work.forget();
        const failure = await this.device.failureBehind(error);
        const isLost = (failure as DeviceError).code === 'device-lost';
        if (!(failure instanceof DeviceError)) throw error;
        if (tried && !isLost) {
          // What was too little for this photo is no bound for the next.
          if (failure instanceof MemoryError) this.memory = memory;
          throw inBothSchedules(failure);
        }
        if (isLost) this.losses.add(failure);
        tried ||= !isLost;
        await settings.warning?.({
          ...factsOf(failure),
          code: 'device-replaced',
          message: `${sentence(failure.message)} Trying once more on a new device${last ? `, from step ${(last as SamplerState).startStep}` : ''}.`,
        });
        this.useLess(failure, piece);
        await this.replaceDevice(settings.signal, failure.code === 'wrong-values');
      }
    }
  }

  /** What is given with all that is found out before the work, a caption and the places of faces; and whether faces were searched for in vain. */
  private async settled(photo: Image, asked: Given<K>, settings: RestoreSettings<K>) {
    const { name = 'photo', warning, signal } = settings;
    const told = (code: string, message: string) => warning?.({ code, file: name, message: `${name}: ${message}` });
    const given = await this.captioned(photo, asked, settings);
    const options = this.method.choose(given, this.model.config);
    if (!wantsFaces(options) || options.face.length > 0) return { given, faceless: false };
    const find = settings.findFaces ?? this.finder;
    if (!find)
      throw new UserError(
        'Faces are to be found, and there is nothing here that finds them: give a finder, or the places of the faces (face).',
        {
          code: 'no-face-finder',
          option: options.faces ? 'faces' : 'facesOnly',
        },
      );
    const { face, leftOut } = facesChosen(await find(photo, signal), photo);
    if (face.length === 0) await told('no-faces', `no face was found${options.facesOnly ? ', so nothing is changed' : ''}.`);
    if (leftOut > 0)
      await told('many-faces', `${face.length + leftOut} faces were found; the ${face.length} largest are restored by themselves.`);
    return { given: { ...given, face }, faceless: face.length === 0 };
  }

  private keptCaptions(
    photo: Image,
    { state, caption, captionFrom = 'photo', captionTiles = false }: RestoreSettings<K>,
  ): KeptCaptions | null {
    if (state === undefined || !caption) return null;
    return new KeptCaptions(this.host, state, photo, [caption.title ?? '', captionFrom, captionTiles]);
  }

  /**
   * What is given, with a caption as the prompt where a captioner is there and nothing else says what the photo shows. `restore` does the same; before a batch
   * it spares the captioner to share the GPU with the model. Failures are warnings, and the prompt is empty then. Throws the signal's reason when aborted.
   */
  async captioned(photo: Image, given: Given<K>, settings: RestoreSettings<K>): Promise<Given<K>> {
    const { caption, captionFrom = 'photo', captionTiles = false, name = 'photo', warning, signal } = settings;
    const { options: table } = this.method;
    const says = (key: string) => Object.entries(given).some(([each, value]) => keyOf(table, each) === key && value !== undefined);
    if (!caption || keyOf(table, 'prompt') !== 'prompt' || says('prompt') || says('tilePrompts')) return given;
    const keep = this.keptCaptions(photo, settings);
    const kept = await keep?.read();
    if (kept) return { ...given, ...kept };
    const found: { prompt?: string; tilePrompts?: string[] } = {};
    try {
      const shows = captionFrom === 'stage1' ? await this.stage1(photo, given, settings) : photo;
      found.prompt = captionPrompt(await caption(shows, signal));
      const options = this.method.choose(given, this.model.config);
      const tiles =
        captionTiles && !isInPlace(options, settings.mask !== undefined) && !wantsFaces(options)
          ? (this.method.tiles?.(this.model, { ...sizeOf(photo), name }, options) ?? [])
          : [];
      if (tiles.length > MOST_CAPTIONS)
        throw new UserError(`There are ${tiles.length} tiles, and at most ${MOST_CAPTIONS} are captioned: take larger tiles.`, {
          code: 'many-tiles',
        });
      if (tiles.length > 1) {
        const prompts: string[] = [];
        for (const tile of tiles) prompts.push(captionPrompt(await caption(cutOut(shows, scaledBox(tile, shows)), signal)));
        found.tilePrompts = prompts;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof UserError)) throw error;
      await warning?.({
        ...factsOf(error),
        code: 'no-caption',
        file: name,
        message: `${name}: ${found.prompt === undefined ? 'no caption' : 'no captions of tiles'}. ${error.message}`,
      });
    }
    if (found.prompt === undefined) return { ...given, prompt: '' };
    await keep?.write(found);
    return { ...given, ...found };
  }

  /** The stage-1 image, of which a caption is asked: the stages up to it run, and it is made again with the rest. */
  private async stage1(photo: Image, given: Given<K>, { signal }: RestoreSettings<K>): Promise<Image> {
    const { method, model } = this.opened;
    const options = method.choose(given, model.config);
    const { box, framed: asked } = framed({ ...sizeOf(photo) }, options);
    const sizes = method.sizes(asked, options, model.config);
    const stages = method.stages(options);
    const until = stages.findIndex(({ makesStage1 }) => makesStage1);
    const inputs = await method.inputs(model, cutOut(photo, box), sizes, options, {});
    const { budget } = this.forecast({ ...photo, name: 'photo' }, given);
    this.device.residency.budget = budget;
    const { made } = await runStages<K>(stages.slice(0, until + 1), { model, options, inputs, events: { signal }, resume: null });
    return fromUnit(images(method.result(made).stage1)[0], 'round');
  }

  /**
   * What restoring a photo of this size with these options will take; with `speeds` in what time. Faces that are still to be found are left out, or, where
   * there is nothing else, taken for one. Throws UserError with the numbers when it does not fit, and for impossible options or sizes.
   */
  forecast(size: NamedSize, given: Given<K>, speeds: Speeds | null = this.speeds, mask: Mask | null = null): Forecast {
    const { method, model } = this.opened;
    const options = method.choose(given, model.config);
    const { width, height, name } = size;
    const unknown = options.facesOnly && options.face.length === 0 && options.region.length === 0 && !mask;
    const example = unknown ? { face: [[width / 3, height / 3, width / 4 + 1, height / 4 + 1].map(Math.floor).join(',')] } : {};
    const { pieces, picture } = divide(
      method,
      model.config,
      { width, height, ...(name ? { name } : {}) },
      { ...options, ...example },
      mask,
    );
    return { ...together(this.forecastPieces(pieces, speeds)), result: picture };
  }

  /** Those of one size are planned once. */
  private forecastPieces(pieces: readonly Piece<K['options']>[], speeds: Speeds | null): Forecast[] {
    const found = new Map<string, Forecast>();
    return pieces.map((piece) => {
      const { width, height, result } = piece.asked;
      const key = [width, height, result?.width, result?.height].join();
      const forecast = found.get(key) ?? this.forecastPiece(piece, speeds);
      found.set(key, forecast);
      return forecast;
    });
  }

  private forecastPiece(
    { asked, options }: Piece<K['options']>,
    speeds: Speeds | null = this.speeds,
    planned?: (plans: Plan[]) => void,
  ): Forecast {
    const { method, model } = this.opened;
    const settings = { memory: this.memory, freeMemory: this.host.freeMemory(), speeds, planned };
    return forecastRestore(method, model, asked, options, settings);
  }

  /** The recipe that restoring `photo` with these options would have. */
  recipe(photo: Image, name: string, given: Given<K>, mask: Mask | null = null): Promise<Recipe<K['options']>> {
    const { method, model, fingerprint } = this.opened;
    const { weights } = this.options;
    const { description, device: chip, vendor } = this.device.facts;
    return makeRecipe(
      photo,
      name,
      method.choose(given, model.config),
      { name: model.config.name, fingerprint, ...(weights ? { weights } : {}) },
      model.loraFiles.map(({ handle, fingerprint }) => ({
        name: handle.name,
        scale: this.forFaces.get(handle) ?? handle.scale,
        fingerprint,
        ...(handle.isMerged ? { merged: true } : {}),
        ...(this.forFaces.has(handle) ? { faces: true } : {}),
      })),
      description || chip || vendor,
      method.name,
      mask,
    );
  }

  /**
   * Finds out which tiles are quick, and how much memory there is for this model, where a trial can tell. A device that is lost by that is replaced, and
   * nothing more is tried.
   */
  private async explore(): Promise<void> {
    const { device, model } = this;
    const weights = [...parameters(model.networks)].reduce((sum, [, { bytes }]) => sum + bytes, 0);
    try {
      if (!device.facts.tiles) await tuneTiles(device, this.host.notes);
      await device.findMemory(weights + BESIDE_WEIGHTS);
    } catch (error) {
      const failure = await device.failureBehind(error);
      if ((failure as DeviceError).code !== 'device-lost') throw error;
      device.card = { ...device.card, mayTry: false };
      await this.replaceDevice();
    }
  }

  /** Puts LoRA files for faces alone in force, or out of it; returns what undoes that. */
  private scalesOfFaces(areFaces: boolean): () => void {
    if (areFaces) for (const [handle, scale] of this.forFaces) handle.scale = scale;
    return () => {
      if (areFaces) for (const [handle] of this.forFaces) handle.scale = 0;
    };
  }

  /** Asks for less memory after memory ran out, or where the device was lost while memory was taken and the photo fits in less. */
  private useLess(failure: DeviceError, piece: Piece<K['options']>): void {
    const { peak } = this.device.memory;
    if (!(failure instanceof MemoryError) && (failure.values?.placing !== true || peak < NO_GPU_LACKS)) return;
    const before = this.memory;
    this.memory = LESS_MEMORY * peak;
    if (failure instanceof MemoryError) return; // where the photo does not fit in less, that is told
    try {
      this.forecastPiece(piece, null);
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
  return new DeviceError(`${sentence(failure.message)} It was so a second time on a new device, so no picture is written.`, {
    ...factsOf(failure),
    code: 'wrong-values-again',
    cause: failure,
  });
}

async function deviceOf(host: Host, { schedule, powerPreference }: RestorerOptions, before: Device | null = null): Promise<Device> {
  const { pace, card, facts } = before ?? {};
  const { settle, chooseMatrixUnit, screen } = host;
  const from = { gpu: await host.gpu(), settle, chooseMatrixUnit, screen, machine: host.machine(), debug: host.debug?.() };
  const device = await openDevice({ ...from, schedule, powerPreference, pace, card });
  device.facts.tiles = facts?.tiles;
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
    const forFaces = new Map<LoraHandle, LoraScaleText>();
    for (const choice of choices) await putOn(model, host, choice, forFaces);
    return { method, model, fingerprint: await fingerprint(model.checkpoint), forFaces };
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
async function putOn(
  model: Model,
  host: Host,
  { path, scale, merge, faces }: LoraChoice,
  forFaces: Map<LoraHandle, LoraScaleText>,
): Promise<LoraHandle> {
  if (faces && merge)
    throw new UserError(`${path} is for faces alone, so it cannot be merged into the weights, which all of the photo has.`, {
      code: 'merged-for-faces',
    });
  const beside = path.replace(/adapter_model\.(safetensors|bin)$/, ADAPTER_CONFIG);
  const config = beside !== path && (await host.exists(beside)) ? await readJson(await host.fileSource(beside), ADAPTER_LIMITS) : undefined;
  const handle = await model.addLora(await host.fileSource(path), scale, merge, { config });
  if (faces) {
    forFaces.set(handle, handle.scale);
    handle.scale = 0;
  }
  return handle;
}

/** What the pieces of one restoration share. */
class Work<K extends Kind> {
  readonly photo: Image;
  readonly pieces: readonly Piece<K['options']>[];
  readonly results: readonly Results<K['made']>[];
  private readonly settings: RestoreSettings<K>;
  private at = 0;
  private meter: ProgressMeter | null = null;

  constructor(photo: Image, pieces: readonly Piece<K['options']>[], results: readonly Results<K['made']>[], settings: RestoreSettings<K>) {
    [this.photo, this.pieces, this.results, this.settings] = [photo, pieces, results, settings];
  }

  /** Tells of piece i and, by the forecasts, of those behind it. */
  meterFor(i: number, forecasts: () => readonly Forecast[], speeds: Speeds | null): ProgressMeter {
    this.at = i;
    if (this.meter) return this.meter;
    const left = forecasts().flatMap(({ stages }, j) => stages.filter(({ stage }) => !this.results[i + j].has(stage)));
    const { pieces, settings } = this;
    const tell = (progress: Progress) => {
      const { what } = pieces[this.at];
      const alike = pieces.filter((each) => each.what === what);
      const piece =
        pieces.length > 1 ? { piece: alike.length > 1 ? `${what} ${1 + alike.indexOf(pieces[this.at])} of ${alike.length}` : what } : {};
      return settings.progress?.({ ...progress, ...piece });
    };
    return (this.meter = new ProgressMeter(left, tell, speeds?.byGraph));
  }

  /** After a failure what is left is counted anew. */
  forget(): void {
    this.meter = null;
  }
}

const sizeOf = ({ width, height }: Size): Size => ({ width, height });

/** A box in shares of a picture, in its pixels. */
function scaledBox({ x, y, width, height }: Box, of: Size): Box {
  const [left, top] = [Math.floor(x * of.width), Math.floor(y * of.height)];
  return {
    x: left,
    y: top,
    width: Math.max(1, Math.min(of.width, Math.ceil((x + width) * of.width)) - left),
    height: Math.max(1, Math.min(of.height, Math.ceil((y + height) * of.height)) - top),
  };
}

function learnt(before: Speeds | null, byGraph: Record<string, number>): Speeds {
  const found = Object.values({ ...before?.byGraph, ...byGraph });
  // Of a network that has not run yet, the mean of those that have.
  const mean = found.length > 0 ? found.length / found.reduce((sum, speed) => sum + 1 / speed, 0) : 1;
  return { gflopPerSecond: mean, ...before, byGraph: { ...before?.byGraph, ...byGraph } };
}
