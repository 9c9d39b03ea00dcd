/**
 * What files of weights are, what they hold, and what is missing to restore with them, in words and numbers. Only indices are read. What both front
 * ends show.
 */
import { listed, shown } from '../core/text.ts';
import { SUPIR_SDXL } from '../models/config.ts';
import { Supir } from '../models/supir.ts';
import { expectedKeys } from '../weights/attach.ts';
import { COMPONENTS, type Component, componentOf, isIgnored } from '../weights/layouts.ts';
import { type Part, type Recognized, recognize } from '../weights/recognize.ts';
import { elementCount, type TensorFile } from '../weights/tensor-file.ts';
import { diffBirFile } from './diffbir-files.ts';
import { METHODS } from './methods.ts';
import type { Assessment } from './stage.ts';

/** Missing or unknown names shown. */
const SHOWN = 5;

export interface PartReport extends Part {
  title: string;
  /** Tensors of the published component that the file lacks. */
  missing: string[];
  /** Tensors whose shapes are not the published ones. */
  otherShapes: number;
}

export interface FileReport {
  file: string;
  title: string;
  refusal: string | null;
  /** Which refusal it is, where front ends have more to say about it. */
  code?: string;
  tensors: number;
  parameters: number;
  bytes: number;
  parts: PartReport[];
  unknown: string[];
  ignored: string[];
  combine: string;
  metadata: Record<string, string>;
}

/** Files that were looked into. */
export interface Inspection {
  /** One for each file, in order. */
  files: FileReport[];
  recognized: Recognized[];
  /** How many of the files can be part of a model. */
  usable: number;
  /** The method whose model they are; null while something is missing. */
  method: string | null;
  /** What is still missing to a complete model, as a sentence; null when nothing is. */
  missing: string | null;
}

export function inspection(files: readonly TensorFile[]): Inspection {
  const recognized = files.map(recognize);
  const expected = expectedKeys(new Supir(SUPIR_SDXL));
  const seen = METHODS.map((method) => ({ name: method.name, ...method.assess(files) }));
  const known = files.map((_, i) => seen.map((each) => each.files[i]).find((file) => file !== null) ?? null);
  const complete = seen.find(({ missing }) => missing === null);
  const begun = seen.find((each) => each.files.some((file) => file !== null));
  return {
    files: files.map((file, i) => report(file, recognized[i], known[i], expected)),
    recognized,
    usable: known.filter((file) => file !== null).length,
    method: complete?.name ?? null,
    missing: complete ? null : (begun ?? seen[seen.length - 1]).missing,
  };
}

/** What to do with a file, in a sentence; empty where it needs none. */
export function adviceFor(found: FileReport, { files, missing }: Inspection): string {
  return found.refusal ?? (missing === null && files.length > 1 ? '' : found.combine);
}

/** `known`: what the first method says of it whose own it is. */
function report(
  file: TensorFile,
  { title, refusal, code, parts, unknown, model }: Recognized,
  known: Assessment['files'][number],
  expected: Map<string, readonly number[]>,
): FileReport {
  const infos = file.names().map((name) => file.info(name));
  const total = (count: (info: (typeof infos)[number]) => number) => infos.reduce((sum, info) => sum + count(info), 0);
  const isForeign = known !== null && refusal !== null; // another method's than SUPIR's
  return {
    file: file.name,
    title: known?.title ?? title,
    refusal: known ? null : (diffBirFile(file).refusal ?? refusal),
    ...(code === undefined || known ? {} : { code }),
    tensors: infos.length,
    parameters: total(({ shape }) => elementCount(shape)),
    bytes: total(({ begin, end }) => end - begin),
    parts: isForeign
      ? []
      : parts.map((part) => ({ ...part, title: COMPONENTS[part.component].title, ...compare(model, part.component, expected) })),
    unknown: isForeign ? [] : unknown,
    ignored: isForeign ? [] : model.names().filter(isIgnored),
    combine: known?.advice ?? '',
    metadata: Object.fromEntries(file.metadata),
  };
}

function compare(
  model: TensorFile,
  component: Component,
  expected: Map<string, readonly number[]>,
): Pick<PartReport, 'missing' | 'otherShapes'> {
  const names = [...expected.keys()].filter((name) => componentOf(name) === component);
  const missing = names.filter((name) => !model.has(name));
  const otherShapes = names.filter((name) => model.has(name) && String(model.info(name).shape) !== String(expected.get(name))).length;
  return { missing, otherShapes };
}

/** What a file is, in a line without its name, and what it holds, in some. */
export function described(found: FileReport, advice: string): { title: string; details: string[] } {
  const title = `${found.title}, ${count(found.tensors, 'tensor')}, ${count(found.parameters, 'parameter')}, ${size(found.bytes)}`;
  const details: string[] = [];
  const isOther = found.parts.length > 0 && found.parts.every(({ otherShapes }) => otherShapes > 0);
  for (const { title, tensors, parameters, dtypes, layout, missing, otherShapes } of found.parts) {
    const cells = [title.padEnd(28), grouped(tensors).padStart(6), grouped(parameters).padStart(14), dtypes.join(' ').padEnd(8), layout];
    details.push(cells.join('  '));
    if (otherShapes > 0 && !isOther)
      details.push(`  ${grouped(otherShapes)} tensors have other shapes than the published model's: it needs a config.json of its own.`);
    else if (missing.length > 0 && !isOther) details.push(`  ${count(missing.length, 'tensor')} missing: ${namesShown(missing)}`);
  }
  if (isOther) details.push("Its shapes are not the published model's: a config.json beside it must tell the sizes.");
  if (found.unknown.length > 0)
    details.push(`passed over, of no part of the model: ${count(found.unknown.length, 'tensor')}: ${namesShown(found.unknown)}`);
  if (found.ignored.length > 0) details.push(`passed over: ${namesShown(found.ignored)}`);
  if (advice) details.push(advice);
  return { title, details };
}

/** The same with the file's name, in lines for a terminal. */
export function describe(found: FileReport, advice: string): string {
  const { title, details } = described(found, advice);
  return [`${shown(found.file)}: ${title}`, ...details.map((line) => `  ${line}`)].join('\n');
}

/** The first of some names. */
export const namesShown = (names: readonly string[]): string => listed(names, SHOWN);

/** A number of things. */
export const count = (n: number, what: string): string => `${grouped(n)} ${what}${n === 1 ? '' : 's'}`;

const grouped = (n: number): string => n.toLocaleString('en');

/** Bytes in the largest unit of 1000 below them. */
export function size(bytes: number): string {
  const exponent = Math.min(3, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${exponent === 0 ? bytes : (bytes / 1000 ** exponent).toFixed(2)} ${['B', 'kB', 'MB', 'GB'][exponent]}`;
}
