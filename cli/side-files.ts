/** What `restore` writes beside a result when asked: a comparison, previews, a fidelity report; and a contact sheet of several samples. */
import { existsSync } from 'node:fs';
import { basename, dirname, extname, join, relative } from 'node:path';
import { UserError } from '../core/errors.ts';
import { host } from '../host/node.ts';
import { grid, type Labelled, sideBySide } from '../image/compose.ts';
import type { Image } from '../image/image.ts';
import { coloursOf } from '../image/metadata.ts';
import { opaque } from '../image/opaque.ts';
import { resize } from '../image/resize.ts';
import type { RestoredPhoto } from '../restore/job.ts';
import type { RestoreOptions } from '../restore/options.ts';
import { previewEvents } from '../restore/preview.ts';
import type { RestoreEvents } from '../restore/stage.ts';
import { matcher, traceTo } from '../restore/trace.ts';
import { checkWritable, isFolder, pathKey } from './output-path.ts';
import { checkOutput, type PhotoFile, withoutEnding } from './photo-files.ts';
import { encodePicture, writePicture } from './picture-files.ts';

/** Paths as given, in which {name} stands for the result's name without ending. */
export interface SideFlags {
  /** A picture file. */
  stage1?: string;
  /** An .html or .png file. */
  compare?: string;
  /** A folder. */
  preview?: string;
  /** A .json file. */
  report?: string;
  /** Patterns of names of activations, which go to the folder `traceTo`. */
  trace?: string[];
  traceTo?: string;
  /** A .json file. */
  profile?: string;
}

/** Paths of one result's side files, each only where asked for; `changeMap` belongs to `report`. */
export type SidePaths = SideFlags & { changeMap?: string };

/** What the names of files may end in; that of --stage1 as a result's. */
const ENDINGS = { stage1: undefined, compare: ['.html', '.png'], report: ['.json'], profile: ['.json'] };

/** The results of one photo: itself, or name-1 to name-n. */
export function sampleFiles(photo: PhotoFile, samples: number): PhotoFile[] {
  if (samples === 1) return [photo];
  return Array.from({ length: samples }, (_, i) => ({ ...photo, output: suffixed(photo.output, `-${i + 1}`) }));
}

/** Where the contact sheet of a photo's samples goes. */
export function sheetPath(photo: PhotoFile): string {
  return `${withoutEnding(photo.output)}-samples.png`;
}

/**
 * The side files of a result; `folder` is the output folder where there are several photos, so that their names stay apart. Those that are given without a
 * folder of their own lie in it.
 */
export function sidePaths(flags: SideFlags, output: string, folder: string | null): SidePaths {
  const name = withoutEnding(folder === null ? basename(output) : relative(folder, output));
  const paths: SidePaths = {};
  for (const key of ['stage1', 'compare', 'preview', 'report', 'traceTo', 'profile'] as const) {
    const given = flags[key];
    if (given === undefined) continue;
    const path = given.replaceAll('{name}', () => name);
    paths[key] = folder !== null && basename(given) === given ? join(folder, path) : path;
  }
  if (flags.trace) paths.trace = flags.trace;
  if (paths.report !== undefined) paths.changeMap = `${withoutEnding(paths.report)}-changes.png`;
  return paths;
}

/** Every file that one photo's restoration writes, the pictures of --preview and --trace left out; `folder` as for `sidePaths`. */
export function writtenFiles(flags: SideFlags & { numSamples: number }, photo: PhotoFile, folder: string | null): string[] {
  const outputs = sampleFiles(photo, flags.numSamples).map(({ output }) => output);
  const sides = outputs.flatMap((output) => {
    const { preview: _, traceTo: __, trace: ___, ...files } = sidePaths(flags, output, folder);
    return Object.values(files);
  });
  return [...outputs, ...(flags.numSamples > 1 ? [sheetPath(photo)] : []), ...sides];
}

/** The folders that side files go to, as far as they are one for all photos. */
export function sideFolders(flags: SideFlags): string[] {
  const fixed = (path: string) => (path.includes('{name}') ? dirname(`${path.slice(0, path.indexOf('{name}'))}x`) : path);
  return [
    ...[flags.preview, flags.traceTo].flatMap((path) => (path === undefined ? [] : [fixed(path)])),
    ...[flags.stage1, flags.compare, flags.report].flatMap((path) => (path?.includes('{name}') ? [fixed(path)] : [])),
  ];
}

/** Finds out before the work what would stop a file of any result from being written. Throws UserError, also where two files would have one name. */
export function checkSideFiles(flags: SideFlags & { numSamples: number; log?: string }, photos: PhotoFile[], folder: string | null): void {
  if ((flags.trace === undefined) !== (flags.traceTo === undefined))
    throw new UserError('--trace names activations and --trace-to the folder for them: give both.');
  if (flags.trace) matcher(flags.trace);
  const taken = new Set<string>();
  const claim = (path: string) => {
    const key = pathKey(path);
    if (taken.has(key))
      throw new UserError(`Two files would be written to ${path}. Give them different names; {name} in a name stands for the result's.`);
    taken.add(key);
  };
  if (flags.log !== undefined) claim(flags.log);
  for (const photo of photos) {
    for (const path of writtenFiles(flags, photo, folder)) {
      checkWritable(path);
      claim(path);
    }
    for (const { output } of sampleFiles(photo, flags.numSamples)) {
      const paths = sidePaths(flags, output, folder);
      for (const [key, endings] of Object.entries(ENDINGS)) {
        const path = paths[key as keyof typeof ENDINGS];
        if (path !== undefined) checkOutput(path, endings);
      }
      for (const wanted of [paths.preview, paths.traceTo]) {
        if (wanted === undefined) continue;
        if (existsSync(wanted) && !isFolder(wanted)) throw new UserError(`Cannot write into ${wanted}: it is a file. Name a folder.`);
        checkWritable(join(wanted, 'stage1.png'));
        claim(wanted);
      }
    }
  }
}

/** Listeners that write the pictures of --preview and the activations of --trace. */
export function previews({ preview, trace, traceTo: folder }: SidePaths): Pick<RestoreEvents, 'picture' | 'step' | 'piece' | 'trace'> {
  const writer = (into: string) => ({
    file: (name: string, bytes: Uint8Array<ArrayBuffer>) => host.writeFileAtomic(join(into, `${name}.safetensors`), bytes),
    picture: (name: string, image: Image) => writePicture(join(into, `${name}.png`), image, 100),
  });
  return {
    ...(preview === undefined ? {} : previewEvents(writer(preview).picture)),
    ...(trace && folder !== undefined ? { trace: traceTo(writer(folder), trace) } : {}),
  };
}

/** Writes the stage-1 image, the comparison and the report of a result. */
export async function writeSideFiles(paths: SidePaths, file: PhotoFile, result: RestoredPhoto<object>, quality: number): Promise<void> {
  const { photo } = result;
  if (paths.stage1 !== undefined) await writePicture(paths.stage1, result.stage1, quality);
  if (paths.compare !== undefined) await host.writeFileAtomic(paths.compare, await comparison(paths.compare, file, result));
  if (paths.report === undefined || paths.changeMap === undefined) return;
  const { changeMap, fidelity, REPORT_MEANING } = await import('../restore/report.ts');
  const { input, output } = file;
  const report = { input, output, changeMap: paths.changeMap, ...fidelity(photo, result.stage1, result.image), meaning: REPORT_MEANING };
  await host.writeFileAtomic(paths.report, new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
  await writePicture(paths.changeMap, changeMap(photo, result.stage1, result.image), quality);
}

async function comparison(
  path: string,
  file: PhotoFile,
  { photo, image, stage1, options }: RestoredPhoto<object>,
): Promise<Uint8Array<ArrayBuffer>> {
  const { stage1Only, sampler, steps, cfg, seed }: Partial<RestoreOptions> = options;
  const { width, height } = image;
  const colours = coloursOf(photo);
  const enlarged = { ...resize(opaque(photo), width, height, 'bicubic'), ...colours };
  if (extname(path).toLowerCase() === '.png') {
    const parts = [
      { image: enlarged, label: 'photo' },
      { image: stage1, label: 'stage 1' },
      { image, label: 'restored' },
    ];
    return encodePicture('png', { ...sideBySide(stage1Only ? parts.slice(0, 2) : parts), ...colours }, 100);
  }
  const sampled = sampler === undefined ? 'cleaned in one pass' : `${sampler}, ${steps} steps, guidance ${cfg}, seed ${seed}`;
  const how = stage1Only ? 'stage 1 only' : sampled;
  const caption = `Photo ${photo.width} × ${photo.height}, result ${width} × ${height} pixels; ${how}.`;
  const { comparePage } = await import('./compare-page.ts');
  return new TextEncoder().encode(comparePage({ title: basename(file.input), caption, photo: enlarged, stage1, restored: image }));
}

/** Pictures in a near-square grid, each under its label. */
export function contactSheet(cells: Labelled[]): Image {
  const columns = Math.ceil(Math.sqrt(cells.length));
  return grid(Array.from({ length: Math.ceil(cells.length / columns) }, (_, row) => cells.slice(row * columns, (row + 1) * columns)));
}

function suffixed(path: string, suffix: string): string {
  return join(dirname(path), `${basename(withoutEnding(path))}${suffix}${extname(path)}`);
}
