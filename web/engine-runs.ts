/** Restorations as the page asks for them: one at a time, with events on the way; results stay here until the page forgets them. */

import type { UserError, Warning } from '../core/errors.ts';
import { decode, imageFormat } from '../image/decode.ts';
import type { Image } from '../image/image.ts';
import { coloursOf } from '../image/metadata.ts';
import { opaque } from '../image/opaque.ts';
import { readPngText } from '../image/png-chunks.ts';
import { resize } from '../image/resize.ts';
import { facesChosen } from '../restore/faces.ts';
import type { Forecast } from '../restore/forecast.ts';
import { METHODS } from '../restore/methods.ts';
import type { CommonOptions } from '../restore/options.ts';
import { previewEvents } from '../restore/preview.ts';
import { parseRecipe, RECIPE_KEYWORD, type Recipe } from '../restore/recipe.ts';
import { differenceMap, type FidelityReport, fidelity } from '../restore/report.ts';
import type { PlannedStep } from '../sampler/planned.ts';
import type { CallContext } from './call-context.ts';
import type { Explorer } from './engine-explore.ts';
import { findFaces } from './engine-faces.ts';
import type { EngineModel } from './engine-model.ts';
import { bitmapOf, encoding } from './pictures.ts';
import type { Calls, DifferenceTo, GivenOptions, RestoreEvent, RestoreJob, RestoreResult } from './protocol.ts';
import { maskOfStrokes } from './strokes.ts';

/** What is restored, and how many bytes tell it. */
const FORMATS: readonly (string | undefined)[] = ['PNG', 'JPEG', 'WebP', 'TIFF', 'AVIF', 'HEIC'];
const HEAD = 64;
/** Folder of the private file system that keeps the last step of runs. */
const STATES = 'runs';

interface Kept {
  photo: Image;
  enlarged: Image;
  stage1: Image;
  image: Image;
}

export class EngineRuns {
  private readonly model: EngineModel;
  private readonly explorer: Explorer;
  private readonly results = new Map<number, Kept>();
  private made = 0;

  constructor(model: EngineModel, explorer: Explorer) {
    this.model = model;
    this.explorer = explorer;
  }

  async restore(
    { photo: file, name, given, strokes, captioner, memory, speeds, record }: RestoreJob,
    { emit, signal }: CallContext<RestoreEvent>,
  ): Promise<RestoreResult> {
    const begun = performance.now();
    const { encodePng } = await encoding(); // before the work, so that it cannot fail for this
    const whole = await decode(new Uint8Array(await file.arrayBuffer()), name);
    const restorer = await this.model.restorer();
    restorer.memory = memory ?? undefined;
    if (speeds) restorer.speeds = { ...speeds, ...restorer.speeds };
    const { method, model, device } = restorer;
    const compiled = device.compileMs;
    const stages = method.stages(method.choose(given, model.config));
    const warning = (said: Warning) => emit({ kind: 'warning', warning: said });
    this.model.files.storageFull = warning;
    const mask = maskOfStrokes(whole, strokes);
    const caption = captioner && (await import('../restore/caption.ts')).captionServer(captioner);
    const preview = previewEvents(async (what, picture) => {
      const bitmap = await bitmapOf({ ...picture, ...coloursOf(whole) });
      emit({ kind: 'picture', name: what, picture: bitmap }, [bitmap]);
    });
    const recording = record && stages.some(({ graph }) => graph === method.main.graph) ? this.explorer.record(device) : null;
    const run = () =>
      restorer.restore(whole, given, {
        name,
        signal,
        state: STATES,
        ...(mask ? { mask } : {}),
        ...(caption ? { caption } : {}),
        findFaces,
        warning: (said) => (said.code === 'other-states' ? undefined : warning(said)), // they are no news here
        progress: (progress) => emit({ kind: 'progress', ...progress }),
        ...preview,
        trace: recording?.tap,
      });
    const running = run().catch(async (error: UserError) => {
      if (error.code !== 'damaged-state') throw error;
      await this.model.files.host.remove(error.file!); // nobody else could remove it from here
      warning({ code: 'damaged-state', message: 'What was kept of this run is damaged, so it starts again.' });
      return run();
    });
    const result = await running.finally(() => recording?.stop());
    const { photo, image, stage1, recipe, working, resumedAt } = result;
    const transparency = image.alpha ? { alpha: image.alpha } : {};
    const enlarged = { ...resize(opaque(photo), image.width, image.height, 'bicubic'), ...transparency, ...coloursOf(photo) };
    const png = new Blob([encodePng(image, { text: { [RECIPE_KEYWORD]: JSON.stringify(recipe) } })], { type: 'image/png' });
    await result.finished();
    const id = ++this.made;
    this.results.set(id, { photo, enlarged, stage1, image });
    return {
      id,
      photo: await bitmapOf(enlarged),
      stage1: await bitmapOf(stage1),
      restored: await bitmapOf(image),
      width: image.width,
      height: image.height,
      working,
      png,
      recipe,
      speeds: restorer.speeds,
      seconds: (performance.now() - begun) / 1000,
      compileSeconds: (device.compileMs - compiled) / 1000,
      peakGpuBytes: device.memory.peak,
      resumedAt,
    };
  }

  /** Steps that these options lead to. Throws UserError for impossible options. */
  async plan(given: GivenOptions): Promise<PlannedStep[]> {
    const {
      method,
      model: { config },
    } = await this.model.restorer();
    return method.steps(method.choose(given, config), config);
  }

  /** What a restoration of a photo of this size will need. Throws UserError for impossible options, or where it cannot fit. */
  async forecast({ width, height, given, strokes, memory, speeds }: Calls['forecast'][0]): Promise<Forecast> {
    const restorer = await this.model.restorer();
    restorer.memory = memory ?? undefined;
    return restorer.forecast({ width, height }, given, speeds, maskOfStrokes({ width, height }, strokes));
  }

  /**
   * Whether a file is a photo, without decoding it; with the recipe inside a picture that this program wrote. Throws UserError for files of other kinds,
   * and for a recipe that is damaged.
   */
  async lookAt(file: Blob, name: string): Promise<{ recipe: Recipe<CommonOptions> | null }> {
    const head = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
    const format = imageFormat(head);
    if (!FORMATS.includes(format)) await decode(head, name); // says what it is instead
    if (format !== 'PNG') return { recipe: null };
    const text = readPngText(new Uint8Array(await file.arrayBuffer()), name)[RECIPE_KEYWORD];
    return { recipe: text === undefined ? null : parseRecipe(text, name, METHODS) };
  }

  /** Faces in a photo, as the option `face` has them. Throws UserError where the finder cannot be loaded. */
  async findFaces(file: Blob, name: string, signal: AbortSignal): Promise<string[]> {
    const photo = await decode(new Uint8Array(await file.arrayBuffer()), name);
    return facesChosen(await findFaces(photo, signal), photo).face;
  }

  /** A photo that the browser does not show, as a PNG that it does. Throws UserError where it cannot be decoded here either. */
  async decodePhoto(file: Blob, name: string): Promise<{ png: Blob; width: number; height: number }> {
    const photo = await decode(new Uint8Array(await file.arrayBuffer()), name);
    const { encodePng } = await encoding();
    return { png: new Blob([encodePng(photo, { stored: true })], { type: 'image/png' }), width: photo.width, height: photo.height };
  }

  async difference(id: number, to: DifferenceTo): Promise<ImageBitmap> {
    const { enlarged, stage1, image } = this.kept(id);
    return bitmapOf(differenceMap(to === 'photo' ? enlarged : stage1, image));
  }

  fidelity(id: number): FidelityReport {
    const { photo, stage1, image } = this.kept(id);
    return fidelity(photo, stage1, image);
  }

  forget(id: number): void {
    this.results.delete(id);
  }

  private kept(id: number): Kept {
    const kept = this.results.get(id);
    if (!kept) throw new Error(`There is no result ${id}.`);
    return kept;
  }
}
