/** Which photos a command means, and where each result goes. */
import { accessSync, constants, existsSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import { globSync } from 'tinyglobby';
import { UserError } from '../core/errors.ts';

export interface PhotoFile {
  input: string;
  output: string;
  /** Caption beside the photo: same name, .txt. */
  caption: string;
}

const PHOTO = /\.(png|jpe?g|webp)$/i;
const WRITABLE = ['.png', '.jpg', '.jpeg', '.webp'];

interface Placing {
  output: string;
  recursive?: boolean;
  nameTemplate: string;
  format: string;
  shard?: { index: number; count: number };
}

/**
 * The photos that files, folders and patterns name, in order, each once, with its output. The output of one file is a file, unless it names a
 * folder that exists or ends with a slash; everything else goes into the output folder, folders within folders kept. Throws UserError when nothing is found, when two
 * photos would have one result, or when a result could not be written.
 */
export function photoFiles(named: string[], placing: Placing): { photos: PhotoFile[]; single: boolean } {
  const toFile = WRITABLE.includes(extname(placing.output).toLowerCase()) || !(isFolder(placing.output) || /[/\\]$/.test(placing.output));
  const single = named.length === 1 && toFile && !isFolder(named[0]) && (existsSync(named[0]) || !isPattern(named[0]));
  if (!single && WRITABLE.includes(extname(placing.output).toLowerCase()) && !isFolder(placing.output))
    throw new UserError(
      `-o ${placing.output} names one file, and ${named.join(', ')} may be several photos. Name a folder for the results.`,
    );
  const found = new Map<string, PhotoFile>();
  const add = (input: string, output: string) => {
    if (!found.has(resolve(input))) found.set(resolve(input), { input, output, caption: `${input.slice(0, -extname(input).length)}.txt` });
  };
  const place = (input: string, folder = '') =>
    join(placing.output, folder, `${placing.nameTemplate.replaceAll('{name}', basename(input, extname(input)))}.${placing.format}`);
  for (const name of named) {
    if (single) add(name, placing.output);
    else if (isFolder(name)) {
      const files = globSync(placing.recursive ? '**/*' : '*', { cwd: name, onlyFiles: true })
        .filter((file) => PHOTO.test(file))
        .sort();
      for (const file of files) add(join(name, file), place(file, dirname(file)));
    } else if (!existsSync(name) && isPattern(name)) {
      for (const file of globSync(name, { onlyFiles: true })
        .filter((each) => PHOTO.test(each))
        .sort())
        add(file, place(file));
    } else add(name, place(name));
  }
  if (found.size === 0)
    throw new UserError(
      `No PNG, JPEG or WebP photo was found in ${named.join(', ')}.${placing.recursive ? '' : ' --recursive looks into folders within folders.'}`,
    );
  const all = [...found.values()];
  const outputs = new Map<string, string>();
  for (const { input, output } of all) {
    const other = outputs.get(resolve(output));
    if (other !== undefined)
      throw new UserError(`${other} and ${input} would both become ${output}. Restore them apart, or use --name-template.`);
    outputs.set(resolve(output), input);
    checkOutput(output, input);
  }
  const { index, count } = placing.shard ?? { index: 1, count: 1 };
  return { photos: all.filter((_, i) => i % count === index - 1), single };
}

/** Finds out before the work what would stop a file from being written after it. Throws UserError. `endings`: those it may have, images' if left out. */
export function checkOutput(path: string, input: string, endings?: string[]): void {
  if (!(endings ?? WRITABLE).includes(extname(path).toLowerCase()))
    throw new UserError(
      `Cannot write ${path}: the name must end in ${endings ? `${endings.join(' or ')}.` : '.png, .jpg or .webp, or with / for a folder.'}`,
    );
  if (existsSync(path) && existsSync(input) && realpathSync(path) === realpathSync(input))
    throw new UserError(`Cannot write ${path}: it is the photo itself. Give the result another name.`);
  if (isFolder(path)) throw new UserError(`Cannot write ${path}: it is a folder.`);
  let folder = dirname(resolve(path));
  while (!existsSync(folder)) folder = dirname(folder); // missing folders will be made
  if (!isFolder(folder)) throw new UserError(`Cannot write ${path}: ${folder} is a file, not a folder.`);
  try {
    accessSync(folder, constants.W_OK);
  } catch {
    throw new UserError(`Cannot write ${path}: the folder ${folder} may not be written to.`);
  }
}

function isFolder(path: string): boolean {
  return existsSync(path) && statSync(path).isDirectory();
}

function isPattern(name: string): boolean {
  return /[*?{}[\]]/.test(name);
}

/** A path as short as a person would write it. */
export function shown(path: string): string {
  const short = relative('.', path);
  return short.startsWith('..') ? path : short;
}
