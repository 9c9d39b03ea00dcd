/** `restore <photos...> -o <path>`: photos through the whole of a method, with one loading of the model. */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { DeviceError, factsOf, UserError, type Warning } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { perfettoTrace } from '../gpu/perfetto.ts';
import { type KernelTime, Profile } from '../gpu/profiler.ts';
import { isHopeless } from '../gpu/recovery.ts';
import { host } from '../host/node.ts';
import { checkNotRead } from '../host/node-files.ts';
import { readTextFile } from '../host/text-file.ts';
import { thumbnail } from '../image/compose.ts';
import type { Image } from '../image/image.ts';
import { type Mask, maskOf } from '../image/mask.ts';
import { readPngText } from '../image/png-chunks.ts';
import { keyOf } from '../options/schema.ts';
import type { Captioner } from '../restore/caption.ts';
import { captionPrompt } from '../restore/caption-prompt.ts';
import { METHODS } from '../restore/methods.ts';
import type { CommonOptions, RestoreOptions } from '../restore/options.ts';
import { compareRecipes, parseRecipe, RECIPE_KEYWORD, type Recipe } from '../restore/recipe.ts';
import { Restorer, Samples } from '../restore/restorer.ts';
import { measureSpeeds, type Speeds } from '../restore/speed.ts';
import type { Kind, Size } from '../restore/stage.ts';
import { Claims } from './claims.ts';
import { forecastLines } from './forecast-lines.ts';
import { Interrupted, onInterrupt } from './interrupt.ts';
import { firstUseMs, kernelTable } from './kernel-table.ts';
import { LogFile } from './log-file.ts';
import { words } from './messages.ts';
import { methodsNamed } from './model-config.ts';
import { pathKey } from './output-path.ts';
import { PartialFailure } from './partial-failure.ts';
import { type PhotoFile, photoFiles, withoutEnding } from './photo-files.ts';
import { canBeDeep, checkPicture, readPicture, writePicture } from './picture-files.ts';
import { duration, progress, type ShownProgress } from './progress.ts';
import { captionerOf, checkKnown, type GivenAny, givenBy, type RestoreFlags, restoreDefinition } from './restore-options.ts';
import {
  checkSideFiles,
  contactSheet,
  previews,
  sampleFiles,
  sheetPath,
  sideFolders,
  sidePaths,
  writeSideFiles,
  writtenFiles,
} from './side-files.ts';

/** What --json prints and --log appends for every photo, on one line. */
export interface RestoreReport<Options = RestoreOptions> {
  input: string;
  output: string;
  /** The photo's path within the album, by which it is told apart from others: for --shard, --claim and `report merge`. */
  photo: string;
  /** The files of --stage1, --compare and --report, with the picture to the report, and the folder of --preview. */
  stage1?: string;
  compare?: string;
  report?: string;
  changeMap?: string;
  preview?: string;
  /** Size of the result in pixels. */
  width: number;
  height: number;
  /** Size at which the networks worked, in pixels. */
  working: { width: number; height: number };
  /** From the start of the command, reading and compiling included. */
  seconds: number;
  adapter: string;
  /** Compiled GPU programs, and the seconds that compiling took beside other work. */
  pipelines: number;
  compileSeconds: number;
  /** Most bytes of GPU buffers that were alive at once. */
  peakGpuBytes: number;
  /** Steps that an earlier, interrupted run had done; with --state. */
  resumedAt: number;
  /** What a person should know: a code, a sentence, and what they are about. */
  warnings: Warning[];
  /** Everything that decides the pixels, the settings in force included. */
  recipe: Recipe<Options>;
  /** With --profile; the file. */
  profile?: string;
  kernels?: KernelTime[];
  /** The same of what drivers compile when a program is first used; null where the adapter takes no times. */
  firstUseSeconds?: number | null;
}

export function restoreCommand(): Command {
  return restoreDefinition().action((photos: string[], flags: RestoreFlags, command: Command) => restore(photos, flags, givenBy(command)));
}

async function restore(named: string[], flags: RestoreFlags, given: GivenAny): Promise<void> {
  const { photos, single, passedOver } = photoFiles(named, {
    ...flags,
    results: (photo, alone) => [
      ...writtenFiles(flags, photo, alone ? null : flags.output),
      ...(flags.log === undefined ? [] : [flags.log]),
    ],
    folders: sideFolders(flags),
  });
  const folder = single ? null : flags.output;
  const shallow = flags.bits === 16 ? photos.find(({ output }) => !canBeDeep(output)) : undefined;
  if (shallow)
    throw new UserError(
      `Cannot write ${shallow.output} with 16 bits: only PNG, TIFF and AVIF files have them. Leave --bits out, or write a .png, .tif or .avif file.`,
    );
  if (photos.length === 0) {
    const { index, count } = flags.shard ?? { index: 1, count: 1 };
    if (!flags.quiet && !flags.json) console.log(`No photo falls to part ${index} of ${count}.`);
    return;
  }
  if (flags.claim !== undefined && single) throw new UserError('--claim is for several photos, shared by several processes.');
  if (!single && !flags.dryRun) checkExisting(photos, flags);
  checkSideFiles(flags, photos, folder);
  const recipe = flags.from === undefined ? null : await readRecipe(flags.from, flags, photos, folder);
  checkFaceLora(flags, recipe?.options ?? given);
  const captioner = captionerOf(flags);
  const warn = (text: string) => void process.stderr.write(`Warning: ${text}\n`);
  const log = flags.log === undefined ? null : new LogFile(flags.log, warn);
  if (passedOver.length > 0 && !flags.quiet && !flags.json)
    process.stderr.write(`${passedOver.length} pictures were passed over: they are results, or lie where results go.\n`);
  // One photo is read before the model, so that a wrong name is told at once.
  const checked = single ? await checkPicture(photos[0].input) : null;

  const work = new Work(flags, recipe?.options ?? given, recipe, photos, checked, single, log, captioner);
  const goOn = flags.state === undefined ? 'With --state <folder> it could go on' : 'The same command goes on';
  const interruption = onInterrupt(() => work.shown?.stop(), `no unfinished result was written. ${goOn} from the last step.`);
  const restorer = await Restorer.load(
    host,
    flags.model,
    [
      ...(flags.lora ?? []).map((choice) => ({ ...choice, merge: flags.loraMerge })),
      ...(flags.faceLora ?? []).map((choice) => ({ ...choice, faces: true })),
    ],
    { weights: flags.weights, methods: methodsNamed(flags.method) },
  );
  const claims = flags.claim === undefined || flags.dryRun ? null : new Claims(claimFolder(flags));
  const failures: string[] = [];
  const left = { restoring: 0, failed: 0 };
  let begun = 0;
  let skipped = 0;
  let hopeless: Error | null = null;
  try {
    if (flags.memory !== undefined) restorer.memory = flags.memory * 1e9;
    checkKnown(restorer.method, recipe?.options ?? given);
    // Files of the model and of LoRAs are open by now.
    for (const photo of photos) for (const path of writtenFiles(flags, photo, folder)) await checkNotRead(path);
    if (captioner && flags.captionFrom === 'photo' && !flags.dryRun) await work.captions(restorer, interruption);
    for (const photo of photos) {
      begun++;
      try {
        const held = (await claims?.take(photo.key)) ?? null;
        if (held) {
          left[held]++;
          continue;
        }
        if (flags.dryRun) await work.forecast(restorer, photo);
        else if (!(await work.restoreSamples(restorer, photo, interruption))) skipped++;
      } catch (error) {
        if (single || error instanceof Interrupted) throw error;
        if (!isHopeless(error)) await claims?.failed(photo.key, (error as Error).message);
        failures.push(photo.input);
        work.failed(photo, error as Error);
        if (!isHopeless(error)) continue;
        hopeless = error as Error;
        break;
      }
      await claims?.done(photo.key);
    }
  } finally {
    await claims?.close();
    work.shown?.stop();
    await restorer.close();
  }
  if (!single && !flags.quiet && !flags.json && !flags.dryRun) {
    const others = left.restoring + left.failed;
    console.log(
      `${begun - failures.length - skipped - others} restored, ${failures.length} failed, ${skipped} skipped${others > 0 ? `, ${others} left to other processes` : ''}`,
    );
    if (left.restoring > 0)
      console.log(
        `${left.restoring} are being restored by other processes. Should one of them end before it is done, the same command goes on.`,
      );
    if (left.failed > 0) console.log(`${left.failed} could not be restored by other processes.`);
  }
  if (hopeless) {
    const unbegun = photos.length - begun;
    const others =
      unbegun > 0
        ? ` ${unbegun === 1 ? '1 photo was' : `${unbegun} photos were`} not begun; the same command with --skip-existing goes on.`
        : '';
    throw new DeviceError(`The batch was stopped, because the GPU is lost again and again.${others}`, {
      code: 'batch-stopped',
      cause: hopeless,
    });
  }
  if (failures.length)
    throw new PartialFailure(`${failures.length} of ${photos.length} photos could not be restored: ${failures.join(', ')}`);
  if (log?.lost) throw new PartialFailure(`The log ${log.path} lacks ${log.lost} of its lines; everything else was done.`);
}

/** The recipe in the PNG `path`. Throws UserError where there is none, and where a result would be written over it. */
async function readRecipe(path: string, flags: RestoreFlags, photos: PhotoFile[], folder: string | null): Promise<Recipe<CommonOptions>> {
  const recipe = parseRecipe(readPngText(await host.readFile(path), path)[RECIPE_KEYWORD], path, METHODS);
  const over = photos.flatMap((photo) => writtenFiles(flags, photo, folder)).find((written) => pathKey(written) === pathKey(path));
  if (over !== undefined) throw new UserError(`Cannot write ${over}: --from reads its settings from it. Give the result another name.`);
  return recipe;
}

/** Throws UserError for LoRA files of faces where none are restored by themselves. */
function checkFaceLora({ faceLora }: RestoreFlags, given: GivenAny): void {
  if (faceLora && !given.faces && !given.facesOnly && !given.face?.length)
    throw new UserError('--face-lora is for faces that are restored by themselves: give --faces or --faces-only too.');
}

/** Where claims lie: in the folder that --claim names, or in the results' own. */
const claimFolder = ({ claim, output }: RestoreFlags): string => (typeof claim === 'string' ? claim : join(output, '.claims'));

/** Results of several photos are replaced only where that was asked for. */
function checkExisting(photos: PhotoFile[], { numSamples, overwrite, skipExisting, claim }: RestoreFlags): void {
  if (claim !== undefined && overwrite)
    throw new UserError('--claim leaves results that are there; with --overwrite every process would replace them.');
  if (claim !== undefined) return;
  if (overwrite && skipExisting) throw new UserError('--overwrite replaces results and --skip-existing leaves them: give one.');
  if (overwrite || skipExisting) return;
  const existing = photos.flatMap((photo) => sampleFiles(photo, numSamples)).filter(({ output }) => existsSync(output));
  if (existing.length === 0) return;
  const more = existing.length > 1 ? ` and ${existing.length - 1} more are` : ' is';
  throw new UserError(`${existing[0].output}${more} there already. --skip-existing leaves such results, --overwrite replaces them.`);
}

/** What every photo of one command shares. */
class Work {
  shown: ShownProgress | null = null;
  /** Captions, and what was told meanwhile, by photo. */
  private readonly captionOf = new Map<string, GivenAny>();
  private readonly warnings = new Map<string, Warning[]>();
  private speeds: Speeds | null = null;
  private readonly flags: RestoreFlags;
  private readonly given: GivenAny;
  private readonly recipe: Recipe<CommonOptions> | null;
  private readonly photos: PhotoFile[];
  private readonly checked: Image | null;
  private readonly single: boolean;
  private readonly log: LogFile | null;
  private readonly captioner: Captioner | null;

  constructor(
    flags: RestoreFlags,
    given: GivenAny,
    recipe: Recipe<CommonOptions> | null,
    photos: PhotoFile[],
    checked: Image | null,
    single: boolean,
    log: LogFile | null,
    captioner: Captioner | null,
  ) {
    this.flags = flags;
    this.given = given;
    this.recipe = recipe;
    this.photos = photos;
    this.checked = checked;
    this.single = single;
    this.log = log;
    this.captioner = captioner;
  }

  /** Tells what restoring a photo would take. */
  async forecast(restorer: Restorer<Kind>, photo: PhotoFile): Promise<void> {
    this.speeds ??= await measureSpeeds(restorer.model);
    const given = await this.options(photo, restorer);
    const mask = await this.mask(photo);
    const asked = (size: Size) => restorer.forecast({ ...size, name: photo.input }, given, this.speeds, mask);
    const forecast = asked(await this.picture(photo, asked));
    if (this.flags.json) this.print({ input: photo.input, output: photo.output, speeds: this.speeds, forecast });
    else for (const line of forecastLines(photo.input, forecast)) console.log(line);
  }

  /** Asks for the captions of all photos, before the model takes the memory of a GPU that both may use. A photo that cannot be read is told later. */
  async captions(restorer: Restorer<Kind>, signal: AbortSignal): Promise<void> {
    const { numSamples, state, captionTiles, quiet, json } = this.flags;
    const skipExisting = this.flags.skipExisting || this.flags.claim !== undefined;
    for (const photo of this.photos) {
      const isDone = skipExisting && sampleFiles(photo, numSamples).every(({ output }) => existsSync(output));
      const given = isDone ? null : await this.options(photo, restorer).catch(() => null);
      if (given === null || given.prompt !== undefined) continue;
      const image = await this.picture(photo).catch(() => null);
      if (!image) continue;
      if (!quiet && !json) process.stderr.write(`${this.title(photo)}: asking what it shows\n`);
      const warning = (said: Warning) => {
        this.warnings.set(photo.input, [...(this.warnings.get(photo.input) ?? []), said]);
        if (!json) process.stderr.write(`Warning: ${words(said)}\n`);
      };
      const settings = {
        caption: this.captioner!,
        captionTiles,
        name: photo.input,
        warning,
        signal,
        ...(state === undefined ? {} : { state }),
      };
      const { prompt, tilePrompts }: GivenAny = await restorer.captioned(image, given, settings);
      this.captionOf.set(photo.input, { ...(prompt === undefined ? {} : { prompt }), ...(tilePrompts ? { tilePrompts } : {}) });
    }
  }

  /** Restores one photo as often as asked for, with one seed after another. False when all of its results were there already. */
  async restoreSamples(restorer: Restorer<Kind>, photo: PhotoFile, signal: AbortSignal): Promise<boolean> {
    const { numSamples, claim } = this.flags;
    const skipExisting = this.flags.skipExisting || claim !== undefined;
    const files = sampleFiles(photo, numSamples);
    if (skipExisting && files.every(({ output }) => existsSync(output))) return false;
    const given = await this.options(photo, restorer);
    if (numSamples === 1) {
      await this.restore(restorer, photo, given, signal);
      return true;
    }
    const { seed } = restorer.method.choose(given, restorer.model.config);
    const cells: { image: Image; label: string }[] = [];
    const samples = new Samples<Kind>();
    for (const [i, file] of files.entries()) {
      const there = skipExisting && existsSync(file.output);
      const image = there
        ? await readPicture(file.output)
        : await this.restore(restorer, file, { ...given, seed: seed + i }, signal, samples);
      cells.push({ image: thumbnail(image), label: `seed ${seed + i}` });
    }
    await writePicture(sheetPath(photo), contactSheet(cells), this.flags.quality);
    return true;
  }

  /** Restores and writes one photo, and reports on it. */
  private async restore(
    restorer: Restorer<Kind>,
    file: PhotoFile,
    given: GivenAny,
    signal: AbortSignal,
    samples?: Samples<Kind>,
  ): Promise<Image> {
    const { flags } = this;
    const begun = performance.now();
    // A picture that does not fit is refused before its pixels are decoded.
    const mask = await this.mask(file);
    const photo = await this.picture(file, (size) => void restorer.forecast({ ...size, name: file.input }, given, undefined, mask));
    const paths = sidePaths(flags, file.output, this.single ? null : flags.output);
    const preview = previews(paths);
    this.shown = flags.quiet || flags.json ? null : progress(this.title(file));
    if (paths.profile !== undefined) restorer.device.profile = new Profile();
    const warnings: Warning[] = [...(this.warnings.get(file.input) ?? [])];
    const warning = (said: Warning) => {
      warnings.push(said);
      this.shown?.stop();
      if (!flags.json) process.stderr.write(`Warning: ${words(said)}\n`);
    };
    const checkRecipe = (now: Recipe<CommonOptions>) => {
      for (const difference of this.recipe ? compareRecipes(this.recipe, now) : []) warning(difference);
    };
    const result = await restorer.restore(photo, given, {
      ...this.shown,
      ...preview,
      samples,
      ...(mask ? { mask } : {}),
      ...(this.captioner ? { caption: this.captioner } : {}),
      captionFrom: flags.captionFrom,
      captionTiles: flags.captionTiles,
      warning,
      signal,
      name: file.input,
      state: flags.state,
      recipe: checkRecipe,
    });
    this.shown?.stop();
    await writePicture(file.output, flags.bits === 16 ? result.deep() : result.image, flags.quality, result.recipe);
    await writeSideFiles(paths, file, result, flags.quality);
    await result.finished();

    const { device } = restorer;
    const { profile } = device;
    const kernels = profile?.kernels();
    if (profile && paths.profile !== undefined)
      await host.writeFileAtomic(paths.profile, new TextEncoder().encode(JSON.stringify(perfettoTrace(profile, result.recipe.adapter))));
    const report: RestoreReport<CommonOptions> = {
      input: file.input,
      output: file.output,
      photo: file.key,
      ...paths,
      width: result.image.width,
      height: result.image.height,
      working: result.working,
      seconds: (performance.now() - begun) / 1000,
      adapter: result.recipe.adapter,
      pipelines: device.pipelineCount,
      compileSeconds: device.compileMs / 1000,
      peakGpuBytes: device.memory.peak,
      resumedAt: result.resumedAt,
      warnings,
      recipe: result.recipe,
      ...(kernels ? { kernels, firstUseSeconds: secondsOrNull(firstUseMs(kernels)) } : {}),
    };
    this.print(report);
    if (flags.json || flags.quiet) return result.image;
    if (kernels) console.log(kernelTable(kernels, device));
    const faces = result.recipe.options.face.length;
    const found = faces === 0 ? '' : `, ${faces === 1 ? 'a face' : `${faces} faces`} by ${faces === 1 ? 'itself' : 'themselves'}`;
    const resumed = result.resumedAt ? `, from step ${result.resumedAt} on` : '';
    console.log(
      `${file.output}: ${report.width}x${report.height}, ${duration(report.seconds * 1000)}${resumed}${found}, ${Math.round(report.peakGpuBytes / 1e6)} MB of GPU memory at most`,
    );
    return result.image;
  }

  /** Reports a photo of several that could not be restored. */
  failed({ input, output, key }: PhotoFile, error: Error): void {
    this.shown?.stop();
    const facts = factsOf(error);
    this.print({ input, output, photo: key, error: error.message, ...facts });
    if (!this.flags.json) process.stderr.write(`${facts.file === input ? '' : `${shown(input)}: `}${words(error)}\n`);
  }

  /** The recipe's options, else those of the command line with the caption beside the photo. */
  private async options(file: PhotoFile, { method }: Restorer<Kind>): Promise<GivenAny> {
    if (this.recipe || this.given.prompt !== undefined || keyOf(method.options, 'prompt') === undefined) return this.given;
    if (!existsSync(file.caption)) return { ...this.given, ...this.captionOf.get(file.input) };
    return { ...this.given, prompt: captionPrompt(await readTextFile(host, file.caption)) };
  }

  /** A photo as `readPicture` gives it; where there is but one, as it was read when it was checked. */
  private async picture({ input }: PhotoFile, worksOn?: (size: Size) => void): Promise<Image> {
    return this.checked ?? readPicture(input, worksOn);
  }

  /** The mask of a photo, where there is one. */
  private async mask({ input }: PhotoFile): Promise<Mask | null> {
    if (this.flags.mask === undefined) return null;
    const path = this.flags.mask.replaceAll('{name}', () => withoutEnding(basename(input)));
    return maskOf(await readPicture(path));
  }

  /** The photo's name, and of several which it is. */
  private title({ input }: PhotoFile): string {
    if (this.single) return input;
    return `${input} (${1 + this.photos.findIndex((photo) => photo.input === input)} of ${this.photos.length})`;
  }

  private print(report: object): void {
    if (this.flags.json) console.log(JSON.stringify(report));
    this.log?.append(report);
  }
}

/** JSON has no NaN. */
const secondsOrNull = (ms: number): number | null => (Number.isNaN(ms) ? null : ms / 1000);
