/** The engine behind the page, and what it holds: adapter, model, LoRA files. */
import { signal } from '@preact/signals';
import { Engine } from './engine.ts';
import { store, stored } from './local.ts';
import { words } from './messages.ts';
import { tell, tellError } from './notices.ts';
import type {
  AdapterReport,
  GivenFile,
  InspectedFiles,
  KeptFile,
  LoraGiven,
  LoraReport,
  LoraState,
  ModelReport,
  ScheduleChoice,
  WeightsChoice,
} from './protocol.ts';
import { POWERS, SCHEDULES } from './protocol.ts';

export const adapter = signal<AdapterReport | null>(null);
/** Why nothing can be computed here; null while it can, or is not known yet. */
export const adapterProblem = signal<string | null>(null);
export const model = signal<{ which: 'demo' | 'own'; report: ModelReport } | null>(null);
/** What is being opened, and how much of it is there, 0 to 1. */
export const opening = signal<{ what: string; share: number } | null>(null);
export const loras = signal<LoraReport[]>([]);
export const ownFiles = signal<InspectedFiles | null>(null);
export const keptFiles = signal<KeptFile[]>([]);
/** The worker broke: everything has to start again. */
export const broken = signal<string | null>(null);

/** Whether the panel for models of one's own is open. */
export const modelPanelOpen = signal(false);

/** How kernels are to divide their work; the engine starts again when it changes. */
export const schedule = signal<ScheduleChoice>(SCHEDULES.find((each) => each === stored('schedule')) ?? 'auto');
/** Which GPU is asked for where there are two; the engine starts again when it changes. */
export const power = signal<GPUPowerPreference>(POWERS.find((each) => each === stored('power')) ?? 'high-performance');
/** How the weights of the model that is opened next lie on the GPU. */
export const weights = signal<WeightsChoice>('files');

let given: GivenFile[] = [];
let loraFiles: (LoraGiven & { id: number })[] = [];
let engineNow: Engine | null = null;

/** The engine; started on first use. */
export function engine(): Engine {
  if (!engineNow) {
    engineNow = new Engine(document.body.dataset.engine!, ({ message }) => {
      broken.value = message;
    });
    tellSeen();
  }
  return engineNow;
}

/** While the page is seen the engine gives the GPU little work at once, so that the page goes on moving. */
export function tellSeen(): void {
  engineNow?.call('seen', document.visibilityState === 'visible').catch(() => undefined);
}

/** Looks at the adapter and opens the demo model. */
export async function start(): Promise<void> {
  try {
    adapter.value = await engine().call('start', { schedule: schedule.value, powerPreference: power.value });
  } catch (error) {
    adapterProblem.value = words(error as Error);
  }
  keptFiles.value = await engine()
    .call('kept', null)
    .catch(() => []);
  if (adapterProblem.value === null) await openModel('demo').catch(tellError);
}

/** Starts the engine again after it broke, with the same model and LoRA files. */
export async function restart(): Promise<void> {
  engineNow?.close();
  engineNow = null;
  const [before, adapted] = [model.value, loraFiles];
  [broken.value, model.value, adapter.value, adapterProblem.value] = [null, null, null, null];
  const scales = new Map(loras.value.map(({ id, scale }) => [id, scale]));
  [loras.value, loraFiles] = [[], []];
  await start();
  if (before?.which === 'own') {
    await giveFiles(given.splice(0));
    await openModel('own').catch(tellError);
  }
  for (const { id, ...lora } of adapted) await addLora(lora, scales.get(id));
}

export async function changeSchedule(to: ScheduleChoice): Promise<void> {
  schedule.value = to;
  store('schedule', to);
  await restart();
}

export async function changePower(to: GPUPowerPreference): Promise<void> {
  power.value = to;
  store('power', to);
  await restart();
}

export async function openModel(which: 'demo' | 'own'): Promise<void> {
  const what = which === 'demo' ? 'the demo model' : 'your model';
  opening.value = { what, share: 0 };
  try {
    const event = ({ done, of }: { done: number; of: number }) => {
      opening.value = { what, share: of ? done / of : 0 };
    };
    const report = await engine().call('openModel', { which, weights: weights.value }, { event });
    model.value = { which, report };
    [loras.value, loraFiles] = [[], []];
  } finally {
    opening.value = null;
  }
}

/** Files of weights that a person gave: what they are is told, nothing is opened yet. */
export async function giveFiles(files: GivenFile[]): Promise<void> {
  given.push(...files);
  try {
    ownFiles.value = await engine().call('inspect', files);
  } catch (error) {
    given = given.filter((each) => !files.includes(each));
    tellError(error);
  }
}

export async function takeFile(path: string): Promise<void> {
  given = given.filter((each) => !('path' in each && each.path === path));
  ownFiles.value = await engine().call('forget', path);
}

/** Copies a file into the private storage, with its progress in `opening`. */
export async function keepFile(path: string): Promise<void> {
  const what = `${path}, to keep it`;
  opening.value = { what, share: 0 };
  try {
    await engine().call('keep', path, {
      event: ({ done, of }) => {
        opening.value = { what, share: done / of };
      },
    });
    keptFiles.value = await engine().call('kept', null);
    ownFiles.value = await engine().call('inspect', []);
    tell('news', `${path} is kept in this browser and can be opened without the file.`);
  } catch (error) {
    tellError(error);
  } finally {
    opening.value = null;
  }
}

export async function openKept(id: string): Promise<void> {
  ownFiles.value = await engine().call('openKept', id);
}

export async function removeKept(id: string): Promise<void> {
  keptFiles.value = await engine().call('removeKept', id);
}

export async function addLora({ file, config }: LoraGiven, scale = 1): Promise<void> {
  try {
    takeLoras(await engine().call('addLora', { file, config, scale }));
    loraFiles.push({ id: loras.value[loras.value.length - 1].id, file, config });
  } catch (error) {
    tellError(error);
  }
}

/** A configuration that was given after its LoRA: the newest without one is opened again with it. False where there is none. */
export async function configureLora(config: File): Promise<boolean> {
  const found = loraFiles.findLast((lora) => lora.config === null);
  if (!found) return false;
  const { scale } = loras.value.find(({ id }) => id === found.id)!;
  await removeLora(found.id);
  await addLora({ file: found.file, config }, scale);
  return true;
}

let settling: ReturnType<typeof setTimeout> | undefined;

/** Shows the scale at once and hands it on when the slider rests. */
export function scaleLora(id: number, scale: number): void {
  loras.value = loras.value.map((lora) => (lora.id === id ? { ...lora, scale } : lora));
  clearTimeout(settling);
  settling = setTimeout(() => void engine().call('scaleLora', { id, scale }).catch(tellError), 150);
}

export async function removeLora(id: number): Promise<void> {
  loraFiles = loraFiles.filter((each) => each.id !== id);
  takeLoras(await engine().call('removeLora', id));
}

function takeLoras({ loras: now, config }: LoraState): void {
  loras.value = now;
  if (model.value) model.value = { ...model.value, report: { ...model.value.report, config } };
}
