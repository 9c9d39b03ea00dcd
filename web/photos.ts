/** The queue of photos, the run that is under way, and the results. */
import { computed, signal } from '@preact/signals';
import { isHopeless } from '../gpu/recovery.ts';
import type { GivenOptions } from '../restore/choose-options.ts';
import type { Progress } from '../restore/progress.ts';
import type { Recipe } from '../restore/recipe.ts';
import { captioner } from './captioner.ts';
import { chosen, given, memoryBytes, method, takeRecipe } from './choices.ts';
import { words } from './messages.ts';
import { tell, tellError } from './notices.ts';
import type { RestoreEvent, RestoreResult } from './protocol.ts';
import { adapter, engine, loras, model } from './session.ts';
import { type Marks, UNMARKED } from './strokes.ts';
import { remember, speedsOf } from './throughput.ts';

export interface Photo {
  id: number;
  name: string;
  file: Blob;
  /** Address of the file for the page's pictures. */
  url: string;
  /** Pixels; 0 until known. */
  width: number;
  height: number;
  status: 'waiting' | 'running' | 'done' | 'stopped' | 'failed';
  /** Why it failed. */
  problem: string | null;
  /** What of it is restored, where that is not all. */
  marks: Marks;
}

export interface Result extends RestoreResult {
  photoId: number;
  name: string;
  /** What tells it apart from others of the same photo. */
  label: string;
  /** Its run's activations were kept. */
  recorded: boolean;
}

export interface Run {
  photoId: number;
  /** Null while the photo is read. */
  progress: Progress | null;
  picture: ImageBitmap | null;
  pictureName: string;
  cancel: AbortController;
}

export const photos = signal<Photo[]>([]);
export const selectedId = signal<number | null>(null);
export const results = signal<Result[]>([]);
export const run = signal<Run | null>(null);
/** Keep activations for Explore. */
export const record = signal(false);

export const selected = computed(() => photos.value.find(({ id }) => id === selectedId.value) ?? null);
export const selectedResult = computed(() => results.value.findLast(({ photoId }) => photoId === selectedId.value) ?? null);
export const waiting = computed(() => photos.value.filter(({ status }) => status === 'waiting' || status === 'stopped'));

let made = 0;

/** Takes files in: photos to the queue, and of pictures that this program wrote the settings. */
export async function addPhotos(files: readonly { name: string; file: Blob }[]): Promise<void> {
  for (const { name, file } of files) {
    let recipe: Recipe<object> | null = null;
    try {
      ({ recipe } = await engine().call('lookAt', { file, name }));
    } catch (error) {
      tellError(error);
      continue; // it is no photo
    }
    if (recipe) {
      const { method: of = 'SUPIR' } = recipe;
      if (of !== method.value.name) {
        tell('warning', `${name} was made by the method ${of} with ${recipe.model.name}: open that model, then give the picture again.`);
        continue;
      }
      takeRecipe(recipe.options);
      tell(
        'news',
        `The settings of ${name} are in force again. It was made from ${recipe.photo.name} with ${recipe.model.name}: give that photo to make it again.`,
      );
      continue;
    }
    const photo: Photo = {
      id: ++made,
      name,
      file,
      url: URL.createObjectURL(file),
      width: 0,
      height: 0,
      status: 'waiting',
      problem: null,
      marks: UNMARKED,
    };
    photos.value = [...photos.value, photo];
    selectedId.value = photo.id;
    void measure(photo);
  }
}

/** Asks the browser for the size, and the engine where the browser cannot show the photo. A file that neither can decode leaves the queue. */
async function measure({ id, url, file, name }: Photo): Promise<void> {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    change(id, { width: image.naturalWidth, height: image.naturalHeight });
  } catch {
    try {
      const { png, width, height } = await engine().call('decodePhoto', { file, name });
      change(id, { url: URL.createObjectURL(png), width, height });
      URL.revokeObjectURL(url);
    } catch (error) {
      removePhoto(id);
      tellError(error);
    }
  }
}

export function removePhoto(id: number): void {
  const photo = photos.value.find((each) => each.id === id);
  if (!photo) return;
  if (run.value?.photoId === id) cancel();
  URL.revokeObjectURL(photo.url);
  photos.value = photos.value.filter((each) => each !== photo);
  if (selectedId.value === id) selectedId.value = photos.value[photos.value.length - 1]?.id ?? null;
}

export function removeResult(id: number): void {
  results.value = results.value.filter((result) => result.id !== id);
  void engine().call('forgetResult', id);
}

/** Marks what is restored. */
export function mark(id: number, marks: Marks): void {
  change(id, { marks });
}

/** Shows the photo itself again, to mark something on it; its results stay. */
export function markAgain({ id }: Photo): void {
  change(id, { status: 'waiting' });
}

/** Looks for faces, which are then restored by themselves too. */
export async function findFaces({ id, file, name }: Photo): Promise<void> {
  const boxes = await engine().call('findFaces', { file, name });
  const photo = photos.value.find((each) => each.id === id);
  if (photo) mark(id, { ...photo.marks, faces: boxes.map((box) => ({ box, on: true })) });
}

/** The options of a photo: those that were chosen, and what is marked on it. */
export function givenFor({ marks: { regions, faces } }: Photo): GivenOptions {
  const on = faces?.filter((each) => each.on).map(({ box }) => box) ?? [];
  return {
    ...given.value,
    ...(regions.length > 0 ? { region: [...(given.value.region ?? []), ...regions] } : {}),
    ...(faces ? { face: on, faces: on.length > 0 } : {}),
  };
}

function change(id: number, changed: Partial<Photo>): void {
  photos.value = photos.value.map((photo) => (photo.id === id ? { ...photo, ...changed } : photo));
}

/** Restores what waits, one after the other; a photo that fails does not stop the others, unless the GPU is gone. */
export async function restoreAll(): Promise<void> {
  for (let next = waiting.value[0]; next && !run.value; next = waiting.value[0]) if (!(await restore(next))) return;
}

/** Restores a photo, also one that was done before, and keeps its activations with `recording`. False when no other is to be begun: it was cancelled, or the GPU is gone. */
export async function restore(photo: Photo, recording = record.value): Promise<boolean> {
  if (run.value || !model.value || chosen.value.problem) return false;
  selectedId.value = photo.id;
  const cancelling = new AbortController();
  const begun: Run = {
    photoId: photo.id,
    progress: null,
    picture: null,
    pictureName: '',
    cancel: cancelling,
  };
  run.value = begun;
  change(photo.id, { status: 'running', problem: null });
  const listen = (event: RestoreEvent) => {
    const now = run.value;
    if (now?.cancel !== cancelling) return; // cancelled meanwhile
    if (event.kind === 'warning') tell('warning', words(event.warning));
    else if (event.kind === 'progress') run.value = { ...now, progress: event };
    else run.value = { ...now, picture: event.picture, pictureName: event.name };
  };
  const job = {
    photo: photo.file,
    name: photo.name,
    given: givenFor(photo),
    strokes: photo.marks.strokes,
    captioner: captioner.value,
    memory: memoryBytes.value,
    speeds: knownSpeeds(),
    record: recording,
  };
  const label = describeChoice();
  const awake = await keepAwake();
  try {
    const result = await Promise.race([
      engine().call('restore', job, { event: listen, signal: cancelling.signal }),
      aborted(cancelling.signal),
    ]);
    results.value = [...results.value, { ...result, photoId: photo.id, name: photo.name, label, recorded: job.record }];
    change(photo.id, { status: 'done' });
    if (adapter.value) remember(adapter.value.name, model.value.report.config.name, result.speeds);
    return true;
  } catch (error) {
    const stopped = (error as Error).name === 'AbortError';
    change(photo.id, stopped ? { status: 'stopped' } : { status: 'failed', problem: words(error as Error) });
    if (!stopped) tellError(error);
    if (!isHopeless(error)) return !stopped;
    const left = waiting.value.length;
    if (left > 0)
      tell(
        'error',
        left === 1
          ? 'The other photo was not begun: it would end alike.'
          : `The other ${left} photos were not begun: they would end alike.`,
      );
    return false;
  } finally {
    awake();
    if (run.value?.cancel === cancelling) run.value = null;
  }
}

const knownSpeeds = () => speedsOf(adapter.value?.name, model.value?.report.config.name);

/** Asks the system not to sleep while a run goes on; without that it sleeps, and the run goes on afterwards. */
async function keepAwake(): Promise<() => void> {
  const lock = await navigator.wakeLock?.request('screen').catch(() => null);
  return () => void lock?.release();
}

/** Stops the run at once; the engine winds down behind the page, and the run can be taken up again from its last step. */
export function cancel(): void {
  const now = run.value;
  if (!now) return;
  now.cancel.abort();
  run.value = null;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, fail) => signal.addEventListener('abort', () => fail(signal.reason)));
}

/** What a person changed, in short. */
function describeChoice(): string {
  const parts = [method.value.label(chosen.value.options as never)];
  if (given.value.preset) parts.unshift(given.value.preset);
  for (const { name, scale } of loras.value) parts.push(`${name} ${scale}`);
  return parts.join(', ');
}

/** Offers a file to keep. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function downloadResult(result: Result): void {
  download(result.png, `${result.name.replace(/\.[^.]*$/, '')}-restored.png`);
}
