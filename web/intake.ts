/** What is dropped, pasted or chosen goes where it belongs, by its name's ending: photos to the queue, weights to the model, LoRA files by content. */
import { PHOTO_NAME } from '../image/photo-names.ts';
import { tell } from './notices.ts';
import { addPhotos } from './photos.ts';
import type { GivenFile } from './protocol.ts';
import { view } from './route.ts';
import { giveFiles, modelPanelOpen } from './session.ts';

const WEIGHTS = /\.(safetensors|ckpt|pt|pth|bin|json)$/i;
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

export async function takeFiles(found: readonly Found[]): Promise<void> {
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
      `${others.map(({ path }) => path).join(', ')}: neither a photo (PNG, JPEG, WebP) nor weights (.safetensors, .ckpt, .pt, .bin).`,
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
