/**
 * What the page asks of the engine in its worker, and what comes back. A call has parameters and one result, and some report events on the way;
 * pictures travel as bitmaps, which change hands without a copy.
 */
import type { Schedule } from '../core/adapter.ts';
import type { Facts, Warning } from '../core/errors.ts';
import type { BlockGraph } from '../drawing/graph-blocks.ts';
import type { Forecast } from '../restore/forecast.ts';
import type { ModelConfig } from '../restore/model.ts';
import type { CommonOptions } from '../restore/options.ts';
import type { Progress } from '../restore/progress.ts';
import type { Recipe } from '../restore/recipe.ts';
import type { FidelityReport } from '../restore/report.ts';
import type { Speeds } from '../restore/speed.ts';
import type { PlannedStep } from '../sampler/planned.ts';
import type { Stroke } from './strokes.ts';

/** What the browser's GPU offers and what was chosen for it. */
export interface AdapterReport {
  name: string;
  vendor: string;
  architecture: string;
  software: boolean;
  features: string[];
  subgroupSizes: [number, number];
  schedule: Schedule;
  /** Bytes that may be used where nobody says how many, and where the number comes from. */
  memory: { bytes: number; why: string };
  /** Why the adapter cannot follow a schedule; absent where it can. */
  impossible: Partial<Record<Schedule, string>>;
  limits: Record<string, number>;
}

export interface Benchmark {
  /** Billions of floating-point operations a second. */
  rows: { what: string; gflops: number; ms: number }[];
  /** Pipelines compiled on the way, and what that took. */
  compileMs: number;
}

/** How far the check of the adapter is. */
export interface CheckEvent {
  done: number;
  total: number;
  what: string;
  /** Null before it can be told. */
  secondsLeft: number | null;
}

export interface CheckResult {
  verdict: 'good' | 'flawed' | 'unusable' | 'unfinished';
  why: string[];
  /** The report, to be passed on. */
  text: string;
}

/** Weights that a person chose: a file, with its path in the folder it came from, or a web address. */
export type GivenFile = { path: string; file: File } | { url: string };

/** A file of weights as the inspector sees it. */
export interface InspectedFile {
  path: string;
  /** Bytes. */
  size: number;
  /** What it is, in a line, and what it holds, in some; empty where it cannot be used. */
  title: string;
  details: string[];
  /** Why it cannot be used; null where it can. */
  problem: (Facts & { message: string }) | null;
  /** Kept in the browser's private storage. */
  kept: boolean;
}

export interface InspectedFiles {
  files: InspectedFile[];
  /** What is still missing to a model, or null when they are one. */
  missing: string | null;
}

export interface KeptFile {
  id: string;
  path: string;
  size: number;
}

/** A LoRA file, and the adapter_config.json that PEFT saved beside it. */
export interface LoraGiven {
  file: File;
  config: File | null;
}

export interface LoraReport {
  id: number;
  name: string;
  scale: number;
}

/** Options of any method, and a preset for the rest, as a person gives them. */
export type GivenOptions = Partial<CommonOptions> & { preset?: string } & Record<string, unknown>;

/** LoRA files in force, and the model's configuration with what they recommend. */
export interface LoraState {
  loras: LoraReport[];
  config: ModelConfig;
}

export interface ModelReport {
  /** The method that restores with it, by name. */
  method: string;
  config: ModelConfig;
  parameters: number;
  /** Bytes of the checkpoints. */
  bytes: number;
  files: string[];
}

/** A vision model that says what a photo shows. */
export interface CaptionerChoice {
  url: string;
  model: string;
  key?: string;
}

export interface RestoreJob {
  photo: Blob;
  name: string;
  given: GivenOptions;
  /** Of the brush that marks what is restored; none for all, or what the options say. */
  strokes: readonly Stroke[];
  /** Who is asked for a caption where there is no prompt. */
  captioner: CaptionerChoice | null;
  /** Bytes of GPU memory that may be used; null lets the engine choose. */
  memory: number | null;
  /** What is known of the adapter's speed. */
  speeds: Speeds | null;
  /** Keep activations for the page's Explore view. */
  record: boolean;
}

export type RestoreEvent =
  | ({ kind: 'progress' } & Progress)
  | { kind: 'picture'; name: string; picture: ImageBitmap }
  | { kind: 'warning'; warning: Warning };

export interface RestoreResult {
  /** Names the result in later calls. */
  id: number;
  /** All of the result's size. */
  photo: ImageBitmap;
  stage1: ImageBitmap;
  restored: ImageBitmap;
  width: number;
  height: number;
  working: { width: number; height: number };
  /** The result as a PNG file with its recipe inside. */
  png: Blob;
  recipe: Recipe<CommonOptions>;
  /** How fast the adapter was. */
  speeds: Speeds | null;
  seconds: number;
  /** Of these, what compiling took; it is not needed again. */
  compileSeconds: number;
  peakGpuBytes: number;
  resumedAt: number;
}

export const DIFFERENCES = ['photo', 'stage1'] as const;
/** What a result is compared with. */
export type DifferenceTo = (typeof DIFFERENCES)[number];

export interface NetworkReport {
  /** What it is. */
  title: string;
  graph: BlockGraph;
  /** Side of the square picture that shapes and operations are for, in pixels. */
  side: number;
}

/** What was recorded of a run. */
export interface Recorded {
  steps: number;
  /** Blocks whose activations there are. */
  blocks: string[];
  /** Layers of attention between pixels. */
  attention: string[];
  /** Milliseconds on the GPU over the whole run, by block; empty where the adapter tells no times. */
  times: Record<string, number>;
}

/** One block after one step. */
export interface Activation {
  mosaic: ImageBitmap;
  channels: number;
  /** Root mean square over all channels and pixels, at every step. */
  norms: number[];
}

export interface AttentionMap {
  /** Where the query looks, bright is much; of the size of the layer's feature map. */
  picture: ImageBitmap;
  width: number;
  height: number;
  /** The largest weight; uniform attention has 1 / (width height). */
  largest: number;
}

/** How kernels divide their work; auto: by the adapter's facts. */
export const SCHEDULES = ['auto', 'subgroup', 'tiled', 'matrix'] as const;
export type ScheduleChoice = (typeof SCHEDULES)[number];

/** Which GPU is asked for where there are two. */
export const POWERS = ['high-performance', 'low-power'] as const satisfies GPUPowerPreference[];

/** How the device is opened. */
export interface AdapterChoice {
  schedule: ScheduleChoice;
  powerPreference: GPUPowerPreference;
}

/** How matrices and convolutions lie on the GPU; files: as the files hold them. */
export const WEIGHTS = ['files', 'f16', 'q8', 'q4'] as const;
export type WeightsChoice = (typeof WEIGHTS)[number];

/** Every call: [parameters, result, event]. */
export interface Calls {
  /** Whether the page is seen. */
  seen: [boolean, null, never];
  start: [AdapterChoice, AdapterReport, never];
  benchmark: [null, Benchmark, never];
  check: [null, CheckResult, CheckEvent];
  inspect: [GivenFile[], InspectedFiles, never];
  forget: [string, InspectedFiles, never];
  kept: [null, KeptFile[], never];
  keep: [string, null, { done: number; of: number }];
  openKept: [string, InspectedFiles, never];
  removeKept: [string, KeptFile[], never];
  openModel: [{ which: 'demo' | 'own'; weights: WeightsChoice }, ModelReport, { done: number; of: number }];
  addLora: [LoraGiven & { scale: number }, LoraState, never];
  scaleLora: [{ id: number; scale: number }, null, never];
  removeLora: [number, LoraState, never];
  plan: [GivenOptions, PlannedStep[], never];
  forecast: [
    { width: number; height: number; given: GivenOptions; strokes: readonly Stroke[]; memory: number | null; speeds: Speeds | null },
    Forecast,
    never,
  ];
  lookAt: [{ file: Blob; name: string }, { recipe: Recipe<CommonOptions> | null }, never];
  /** Faces in a photo, as the option `face` has them. */
  findFaces: [{ file: Blob; name: string }, string[], never];
  decodePhoto: [{ file: Blob; name: string }, { png: Blob; width: number; height: number }, never];
  restore: [RestoreJob, RestoreResult, RestoreEvent];
  difference: [{ id: number; to: DifferenceTo }, ImageBitmap, never];
  fidelity: [number, FidelityReport, never];
  forgetResult: [number, null, never];
  network: [null, NetworkReport, never];
  recorded: [null, Recorded | null, never];
  energies: [number, { block: string; picture: ImageBitmap }[], never];
  activation: [{ block: string; step: number }, Activation | null, never];
  attention: [{ layer: string; step: number; x: number; y: number }, AttentionMap | null, never];
}
export type Call = keyof Calls;

export type ToEngine = { [C in Call]: { id: number; call: C; params: Calls[C][0] } }[Call] | { id: number; cancel: true };

export type FromEngine =
  | { id: number; event: unknown }
  | { id: number; result: unknown }
  /** `name` is the error's, such as UserError; 'AbortError' for what was cancelled. */
  | { id: number; error: { name: string; message: string; facts: Facts } };
