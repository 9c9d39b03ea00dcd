/** What is dropped, pasted or chosen goes where it belongs, by its name: photos to the queue, PEFT's LoRA files onto the model, other weights to Model. */
import { listed } from '../core/text.ts';
import { PHOTO_NAME } from '../image/photo-names.ts';
import { ADAPTER_CONFIG } from '../weights/lora-alpha.ts';
import { tell } from './notices.ts';
import { addPhotos, run } from './photos.ts';
import type { GivenFile } from './protocol.ts';
import { view } from './route.ts';
import { addLora, configureLora, giveFiles, model, modelPanelOpen } from './session.ts';

const WEIGHTS = /\.(safetensors|ckpt|pt|pth|bin|json)$/i;
/** As PEFT names a LoRA. */
const ADAPTER = /^adapter_model\.(safetensors|bin)$/;
const PHOTO = /^image\//;

/** A file and its path within the folder that was chosen or dropped. */
interface Found {
  path: string;
  file: File;
}

export async function takeTransfer(transfer: DataTransfer): Promise<void> {
  // Entries must be asked for before anything is awaited.
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry?.() ?? []);
  const files = entries.some(({ isDirectory }) => isDirectory)
    ? await filesIn(entries)
    : [...transfer.files].map((file) => ({ path: file.name, file }));
  await takeFiles(files);
}

const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);
const isConfig = ({ path }: Found) => nameOf(path) === ADAPTER_CONFIG;

/** LoRA files, each with the configuration that came from the same folder. */
export async function takeLoraFiles(found: readonly Found[]): Promise<void> {
  const configs = found.filter(isConfig);
  const files = found.filter((each) => !configs.includes(each));
  const beside = (path: string) => configs.find((config) => config.path === path.slice(0, -nameOf(path).length) + ADAPTER_CONFIG);
  for (const { path, file } of files) await addLora({ file, config: beside(path)?.file ?? null });
  for (const { path, file } of configs.filter((config) => !files.some((each) => beside(each.path) === config)))
    if (!(await configureLora(file)))
      tell('warning', `${path} says how strongly a LoRA acts, and none is there that lacks it: give both together.`);
}

export async function takeFiles(all: readonly Found[]): Promise<void> {
  const adapters = all.filter((each) => isConfig(each) || ADAPTER.test(nameOf(each.path)));
  const found = all.filter((each) => !adapters.includes(each));
  if (adapters.length > 0) {
    if (model.value && !run.value) await takeLoraFiles(adapters);
    else tell('warning', 'A LoRA can be added when a model is open and no restoration goes on.');
  }
  const weights: GivenFile[] = found.filter(({ path }) => WEIGHTS.test(path));
  const photos = found.filter(({ path, file }) => !WEIGHTS.test(path) && (PHOTO.test(file.type) || PHOTO_NAME.test(path)));
  const others = found.filter((each) => !weights.includes(each) && !photos.includes(each));
  if (weights.length > 0) {
    modelPanelOpen.value = true;
    if (view.value !== 'restore') location.hash = '#restore';
    await giveFiles(weights);
  }
  if (photos.length > 0) await addPhotos(photos.map(({ file }) => ({ name: file.name, file })));
  if (others.length > 0)
    tell(
      'warning',
      `${listed(
        others.map(({ path }) => path),
        5,
      )}: neither a photo (PNG, JPEG, WebP) nor weights (.safetensors, .ckpt, .pt, .bin).`,
    );
}

/** Files of an input for files or a folder, whose own name is left out. */
export function filesOf(input: HTMLInputElement): Found[] {
  const files = [...(input.files ?? [])].map((file) => ({
    path: file.webkitRelativePath.split('/').slice(1).join('/') || file.name,
    file,
  }));
  input.value = ''; // so that the same file can be chosen again
  return files;
}

async function filesIn(entries: readonly FileSystemEntry[], depth = 0): Promise<Found[]> {
  const found: Found[] = [];
  for (const entry of entries) {
    if (entry.isFile) {
      const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
      found.push({ path: depth > 0 ? entry.fullPath.split('/').slice(2).join('/') : file.name, file });
    } else if (depth < 4) found.push(...(await filesIn(await children(entry as FileSystemDirectoryEntry), depth + 1)));
  }
  return found;
}

/** A folder's entries, which the browser gives in portions. */
async function children(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}
