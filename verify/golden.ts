/**
 * Golden cases: a folder with index.json, which lists inputs, expected outputs and tolerances of a reference program, and the safetensors
 * files it names. Layouts there are NCHW; toChannelsLast and toChannelsFirst translate.
 */
import { UserError } from '../core/errors.ts';
import { parseJsonBytes } from '../core/json.ts';
import type { ByteSource } from '../weights/byte-source.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { openSafetensors, type Safetensors } from '../weights/safetensors.ts';
import { type SyntheticGains, type SyntheticManifest, type SyntheticSpec, syntheticCheckpoint } from '../weights/synthetic.ts';
import type { ReferenceConfig } from './models.ts';

export interface ExpectedOutput {
  /** Tensor in the case's file. */
  tensor: string;
  /** Accepted: |actual - expected| <= abs + rel |expected| for every element; with metric mean_abs, the mean difference <= abs. */
  abs: number;
  rel: number;
  /** Spread of the expected tensor. */
  std?: number;
  /** An intermediate result, compared where an operation offers it. */
  stage?: boolean;
  /** Only elements 0, step, 2 step ... along `dim` are stored. */
  select?: { dim: number; step: number };
  metric?: 'mean_abs';
}

export interface CaseEntry {
  id: string;
  file: string;
  component: string;
  op: string;
  core: boolean;
  // biome-ignore lint/suspicious/noExplicitAny: every operation has fields of its own
  config?: any;
  weights?: { model?: string; parts?: string[]; prefix?: string; salt?: number; tensors?: Record<string, SyntheticSpec> };
  inputs: Record<string, string>;
  noise?: string[];
  outputs: Record<string, ExpectedOutput>;
}

interface Index {
  models: Record<string, { manifest: string; salt?: number; config?: ReferenceConfig }>;
  local: { salt: number; gains: SyntheticGains };
  cases: CaseEntry[];
}

/** A dense array in the reference's layout (NCHW), with its shape. */
export interface Golden {
  data: Float64Array;
  shape: readonly number[];
}

/** Finds a file of the folder by name. Throws UserError when there is none. */
export type OpenFile = (file: string) => Promise<ByteSource>;

export class GoldenFolder {
  readonly index: Index;
  private readonly open: OpenFile;
  private readonly sources = new Map<string, Promise<ByteSource>>();
  private readonly files = new Map<string, Promise<Safetensors>>();

  private constructor(index: Index, open: OpenFile) {
    this.index = index;
    this.open = open;
  }

  /** Throws UserError when index.json is missing or is not one. */
  static async open(open: OpenFile): Promise<GoldenFolder> {
    const index = (await readJson(open, 'index.json')) as Index;
    if (!Array.isArray(index?.cases)) throw new UserError("index.json has no list 'cases'. Give the folder that holds the golden cases.");
    return new GoldenFolder(index, open);
  }

  /** Whether the folder holds a file of that name. */
  has(name: string): Promise<boolean> {
    return this.source(name).then(
      () => true,
      () => false,
    );
  }

  file(name: string): Promise<Safetensors> {
    let file = this.files.get(name);
    if (!file) this.files.set(name, (file = this.source(name).then(openSafetensors)));
    return file;
  }

  private source(name: string): Promise<ByteSource> {
    let source = this.sources.get(name);
    if (!source) this.sources.set(name, (source = this.open(name)));
    return source;
  }

  /** Closes the files. */
  async close(): Promise<void> {
    for (const source of this.sources.values()) {
      await source.then(
        (opened) => opened.close?.(),
        () => undefined, // never opened
      );
    }
  }

  /** The tensor `name`, or `file#name`, of a case. */
  async tensor(entry: CaseEntry, name: string): Promise<Golden> {
    const [file, tensor] = name.includes('#') ? name.split('#') : [entry.file, name];
    const opened = await this.file(file);
    return { data: await opened.f64(tensor), shape: opened.info(tensor).shape };
  }

  /** Weights of a case: parts of a seeded model, or a handful of tensors of its own. */
  async checkpoint({ id, weights }: CaseEntry): Promise<Checkpoint> {
    if (weights?.tensors) {
      const tensors = Object.fromEntries(Object.entries(weights.tensors).map(([key, spec]) => [`${weights.prefix}${key}`, spec]));
      return syntheticCheckpoint({ salt: weights.salt, gains: this.index.local.gains, local: tensors } as SyntheticManifest, ['local']);
    }
    if (!weights?.model) throw new UserError(`The case ${id} names no weights.`);
    return this.modelCheckpoint(weights.model, weights.parts ?? []);
  }

  /** The seeded model of that name. */
  async modelCheckpoint(model: string, parts: string[]): Promise<Checkpoint> {
    const { manifest, salt } = this.index.models[model];
    return syntheticCheckpoint(
      { ...((await readJson(this.open, manifest)) as SyntheticManifest), ...(salt === undefined ? {} : { salt }) },
      parts,
    );
  }
}

async function readJson(open: OpenFile, name: string): Promise<unknown> {
  const source = await open(name);
  try {
    return parseJsonBytes(await source.read(0, source.size), name);
  } finally {
    await source.close?.();
  }
}

export interface Comparison {
  output: string;
  /** Difference of the worst element, the one that uses most of what is accepted; the mean difference, for metric mean_abs. NaN if any is. */
  error: number;
  /** What is accepted of it. */
  accepted: number;
  /** error / accepted: passed when at most 1, which NaN is not. */
  ratio: number;
  /** Where a whole result is judged: the cosine of the angle between both, as vectors of deviations from the expected mean. */
  cosine?: number;
}

/**
 * Compares a whole result, in the reference's layout, with what is expected. Throws UserError when sizes differ. With `share` the root mean square of
 * the difference is to stay below that share of the expected values' standard deviation, instead of every element within its tolerance; where it is 0 the tolerance holds. Grey levels of a picture are judged by compareLevels where one level is tolerated.
 */
export async function compare(
  folder: GoldenFolder,
  entry: CaseEntry,
  output: string,
  actual: ArrayLike<number>,
  share?: number,
): Promise<Comparison> {
  const expected = entry.outputs[output];
  const golden = await folder.tensor(entry, expected.tensor);
  const chosen = expected.select ? selected(actual, golden.shape, expected.select) : actual;
  if (chosen.length !== golden.data.length)
    throw new UserError(`${entry.id}, ${output}: ${chosen.length} values, and ${golden.data.length} are expected.`);
  const varies = golden.data.some((value) => value !== golden.data[0]);
  if (share !== undefined && varies) return compareWhole(output, golden.data, chosen, share);
  // Of whole restorations; what the host alone computes, as resizing, no GPU rounds otherwise.
  if (/^end_to_end/.test(entry.component) && expected.abs === 1 && expected.rel === 0 && isLevels(golden.data))
    return compareLevels(output, golden.data, chosen);
  let worst: Comparison = { output, error: 0, accepted: expected.abs, ratio: 0 };
  let sum = 0;
  for (let i = 0; i < golden.data.length; i++) {
    const error = Math.abs(chosen[i] - golden.data[i]);
    const accepted = expected.abs + expected.rel * Math.abs(golden.data[i]);
    if (Number.isNaN(error)) return { output, error, accepted, ratio: Number.NaN };
    const ratio = error === 0 ? 0 : error / accepted;
    if (ratio > worst.ratio) worst = { output, error, accepted, ratio };
    sum += error;
  }
  if (expected.metric !== 'mean_abs') return worst;
  const mean = sum / golden.data.length;
  return { output, error: mean, accepted: expected.abs, ratio: mean / expected.abs };
}

/** Samples that may be off by one level. */
const OFF_BY_ONE = 0.05;

const isLevels = (values: ArrayLike<number>): boolean =>
  values.length >= 256 && Array.prototype.every.call(values, (value) => Number.isInteger(value) && value >= 0 && value <= 255);

/**
 * Compares grey levels, 0 to 255: none may be off by more than one, and 5 % by one. Levels are rounded from values that another GPU computes in another
 * order: one that lies near the middle between two levels falls to either side by chance, and values that are off by d levels in the mean make a share d
 * of them fall to the other. So one differing level says nothing, and many say that the values before the rounding differ. Where none is off by
 * more than one, error and accepted are shares of the samples.
 */
export function compareLevels(output: string, expected: ArrayLike<number>, actual: ArrayLike<number>): Comparison {
  let off = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]);
    if (!(error <= 1)) return { output, error, accepted: 1, ratio: error };
    if (error > 0) off++;
  }
  const error = off / expected.length;
  return { output, error, accepted: OFF_BY_ONE, ratio: error / OFF_BY_ONE };
}

/** The difference relative to the spread of what is expected. */
function compareWhole(output: string, expected: ArrayLike<number>, actual: ArrayLike<number>, accepted: number): Comparison {
  const n = expected.length;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += expected[i] / n;
  let [difference, spread, actualSpread, product] = [0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const [a, e] = [actual[i] - mean, expected[i] - mean];
    difference += (a - e) ** 2;
    spread += e * e;
    actualSpread += a * a;
    product += a * e;
  }
  const error = Math.sqrt(difference / spread);
  return { output, error, accepted, ratio: error / accepted, cosine: product / Math.sqrt(spread * actualSpread) };
}

/** The values at 0, step, 2 step ... along `dim`, of an array that has `stored` as its shape otherwise. */
function selected(values: ArrayLike<number>, stored: readonly number[], { dim, step }: { dim: number; step: number }): number[] {
  const inner = stored.slice(dim + 1).reduce((a, b) => a * b, 1);
  const size = (values.length * stored[dim]) / stored.reduce((a, b) => a * b, 1);
  return Array.from(values).filter((_, i) => (Math.floor(i / inner) % size) % step === 0);
}

/** (N, C, H, W) -> (N, H, W, C) */
export function toChannelsLast({ data, shape: [n, c, h, w] }: Golden): { data: Float32Array; shape: number[] } {
  const out = new Float32Array(data.length);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < c; k++) for (let p = 0; p < h * w; p++) out[(i * h * w + p) * c + k] = data[(i * c + k) * h * w + p];
  return { data: out, shape: [n, h, w, c] };
}

/** (N, H, W, C) -> (N, C, H, W) values */
export function toChannelsFirst(data: ArrayLike<number>, [n, h, w, c]: readonly number[]): Float32Array {
  const out = new Float32Array(data.length);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < c; k++) for (let p = 0; p < h * w; p++) out[(i * c + k) * h * w + p] = data[(i * h * w + p) * c + k];
  return out;
}

/** A stored image, u8 (H, W, 3) or (N, H, W, 3) -> (N, H, W, 3) in [-1, 1]. */
export function unitImage({ data, shape }: Golden): { data: Float32Array; shape: number[] } {
  return { data: Float32Array.from(data, (value) => (value / 255) * 2 - 1), shape: shape.length === 3 ? [1, ...shape] : [...shape] };
}
