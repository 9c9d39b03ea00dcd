/** Which photos a command means, and where each result goes. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, extname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { PHOTO_NAME } from '../image/photo-names.ts';
import { readPngText } from '../image/png-chunks.ts';
import { RECIPE_KEYWORD } from '../restore/recipe.ts';
import { checkWritable, isFolder, pathKey, realPath } from './output-path.ts';
import { WRITABLE } from './picture-files.ts';
import { type Shard, shardOf } from './shard.ts';

export interface PhotoFile {
  input: string;
  output: string;
  /** Path within the album, with / between folders: of what a search found from its folder on, of a file that was named its name. */
  key: string;
  /** Caption beside the photo: same name, .txt. */
  caption: string;
}

export interface Placing {
  output: string;
  recursive?: boolean;
  nameTemplate: string;
  format: string;
  shard?: Shard;
  /** Results that are there already stay, so that a photo which is one is no photo to work on. */
  skipExisting?: boolean;
  /** Every file that is made of a photo, its output among them; the output alone if left out. `single` as in FoundPhotos. */
  results?: (photo: PhotoFile, single: boolean) => readonly string[];
  /** Further folders that results go to. */
  folders?: readonly string[];
}

export interface FoundPhotos {
  photos: PhotoFile[];
  /** True where one file was named for one result. */
  single: boolean;
  /** Pictures that a search found and that are this command's own results, or lie in a folder for them. */
  passedOver: string[];
}

/**
 * The photos that files, folders and patterns name, in order, each once, with its output. The output of one file is a file, unless it names a
 * folder that exists or ends with a slash; everything else goes into the output folder, folders within folders kept. Folders that results go to
 * are not searched, and what an earlier run made of another of the photos is none. Throws UserError when nothing is found, when two photos would have
 * one result, when a result would be written over a photo, or could not be written.
 */
export function photoFiles(named: string[], placing: Placing): FoundPhotos {
  const toFile = WRITABLE.includes(extname(placing.output).toLowerCase()) || !(isFolder(placing.output) || /[/\\]$/.test(placing.output));
  const single = named.length === 1 && toFile && !isFolder(named[0]) && (existsSync(named[0]) || !isPattern(named[0]));
  if (!single && WRITABLE.includes(extname(placing.output).toLowerCase()) && !isFolder(placing.output))
    throw new UserError(
      `-o ${shown(placing.output)} names one file, and ${shown(named.join(', '))} may be several photos. Name a folder for the results.`,
    );
  const place = (input: string, folder: string) =>
    join(placing.output, folder, `${placing.nameTemplate.replaceAll('{name}', () => withoutEnding(basename(input)))}.${placing.format}`);
  const folders = [placing.output, ...(placing.folders ?? [])];
  const { found, passedOver } = single
    ? { found: [{ input: named[0], key: basename(named[0]), folder: '' }], passedOver: [] }
    : search(named, placing.recursive ?? false, folders);
  const all = found.map(({ input, key, folder }) => ({
    input,
    output: single ? placing.output : place(input, folder),
    key,
    caption: `${withoutEnding(input)}.txt`,
  }));
  const results = (photo: PhotoFile) => placing.results?.(photo, single) ?? [photo.output];
  const { photos, made } = withoutResults(all, results, placing.skipExisting ?? false);
  passedOver.push(...made);
  if (photos.length === 0)
    throw new UserError(
      `No photo (PNG, JPEG, WebP, TIFF, AVIF, HEIC) was found in ${shown(named.join(', '))}.${placing.recursive ? '' : ' --recursive looks into folders within folders.'}${passedOver.length > 0 ? ` ${passedOver.length} were passed over: they are results, or lie where results go.` : ''}`,
    );
  checkOutputs(photos, results);
  const { index, count } = placing.shard ?? { index: 1, count: 1 };
  return { photos: photos.filter(({ key }) => count === 1 || shardOf(key, count) === index), single, passedOver };
}

interface Found {
  input: string;
  key: string;
  /** Within the output folder. */
  folder: string;
}

/** The photos that files, folders and patterns name, in order, each once. */
export function findPhotos(named: string[], recursive: boolean): { input: string; key: string }[] {
  return search(named, recursive, []).found;
}

/** Files that a pattern names; the package is loaded where there is one. */
function filesOf(pattern: string, cwd?: string): string[] {
  const { globSync }: typeof import('tinyglobby') = createRequire(import.meta.url)('tinyglobby');
  return globSync(pattern, { cwd, onlyFiles: true });
}

/** As `findPhotos`; what lies in one of `folders` below a folder that is searched is passed over. */
function search(named: string[], recursive: boolean, folders: readonly string[]): { found: Found[]; passedOver: string[] } {
  const found = new Map<string, Found>();
  const passedOver: string[] = [];
  const add = (input: string, key: string, folder = '') => {
    if (!found.has(resolve(input))) found.set(resolve(input), { input, key: key.split(sep).join('/'), folder });
  };
  const addFound = (root: string, files: string[], folderOf: (file: string) => string) => {
    const apart = folders.map(realPath).filter((folder) => isWithin(realPath(root), folder));
    for (const file of files.filter((each) => PHOTO_NAME.test(each)).sort()) {
      const path = join(root, file);
      if (apart.some((folder) => isWithin(folder, realPath(path)))) passedOver.push(path);
      else add(path, file, folderOf(file));
    }
  };
  for (const name of named) {
    if (isFolder(name)) addFound(name, filesOf(recursive ? '**/*' : '*', name), dirname);
    else if (!existsSync(name) && isPattern(name)) {
      const root = searchedFolder(name);
      const files = filesOf(name).map((file) => relative(root, file));
      addFound(root, files, () => '');
    } else add(name, basename(name));
  }
  return { found: [...found.values()], passedOver };
}

type ResultsOf = (photo: PhotoFile) => readonly string[];

/** Parts what an earlier run made of another of the photos from them: it carries a recipe, or is to stay as it is. */
function withoutResults(all: PhotoFile[], results: ResultsOf, staying: boolean): { photos: PhotoFile[]; made: string[] } {
  const sources = new Map<string, string[]>();
  for (const photo of all)
    for (const path of results(photo))
      if (existsSync(path)) sources.set(pathKey(path), [...(sources.get(pathKey(path)) ?? []), photo.input]);
  const isResult = ({ input }: PhotoFile) => {
    const of = sources.size > 0 && existsSync(input) ? (sources.get(pathKey(input)) ?? []) : [];
    return of.some((source) => source !== input) && (staying || carriesRecipe(input));
  };
  const made = new Set(all.filter(isResult).map(({ input }) => input));
  return { photos: all.filter(({ input }) => !made.has(input)), made: [...made] };
}

function carriesRecipe(path: string): boolean {
  if (extname(path).toLowerCase() !== '.png') return false;
  try {
    return readPngText(readFileSync(path), path)[RECIPE_KEYWORD] !== undefined;
  } catch {
    return false; // a damaged file is no result
  }
}

/** Throws UserError where two photos would have one result, or one would be written over a photo or cannot be written. */
function checkOutputs(photos: PhotoFile[], results: ResultsOf): void {
  const inputs = new Map(photos.filter(({ input }) => existsSync(input)).map(({ input }) => [pathKey(input), input]));
  const outputs = new Map<string, string>();
  for (const photo of photos) {
    const { input, output } = photo;
    const key = pathKey(output);
    const other = outputs.get(key);
    if (other !== undefined)
      throw new UserError(
        `${shown(other)} and ${shown(input)} would both become ${shown(output)}. Restore them apart, or use --name-template.`,
      );
    outputs.set(key, input);
    for (const path of results(photo)) {
      const over = inputs.get(pathKey(path));
      if (over === undefined) continue;
      const what = over === input ? 'it is the photo itself' : `it is one of the photos, and ${shown(input)} would be written over it`;
      throw new UserError(`Cannot write ${shown(path)}: ${what}. Give the result another name, or another folder.`);
    }
    checkOutput(output);
  }
}

/** Finds out before the work what would stop a file from being written after it. Throws UserError. `endings`: those it may have, images' if left out. */
export function checkOutput(path: string, endings?: string[]): void {
  if (!(endings ?? WRITABLE).includes(extname(path).toLowerCase()))
    throw new UserError(
      `Cannot write ${shown(path)}: the name must end in ${endings ? `${endings.join(' or ')}.` : '.png, .jpg, .webp, .tif or .avif, or with / for a folder.'}`,
    );
  checkWritable(path);
}

export function withoutEnding(path: string): string {
  return path.slice(0, path.length - extname(path).length);
}

function isPattern(name: string): boolean {
  return /[*?{}[\]]/.test(name);
}

/** The folder from which a pattern searches: all of it before the first part with a sign of patterns. */
function searchedFolder(pattern: string): string {
  const parts = pattern.split(/[/\\]/);
  const fixed = parts.slice(0, parts.findIndex(isPattern));
  return fixed.length === 1 && fixed[0] === '' ? sep : fixed.join(sep) || '.';
}

function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}
