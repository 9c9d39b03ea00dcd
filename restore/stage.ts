/**
 * A method of restoration as data: a list of stages, each with its name, the graph that it builds, what it will run on a device, and how it runs. The
 * pipeline executes the list, the forecast adds it up, progress is told by it, and drawings take their graphs from it. Another method is another list.
 */

import type { Warning } from '../core/errors.ts';
import type { Plan } from '../core/plan.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import type { Image, Rounding } from '../image/image.ts';
import type { PlannedStep } from '../sampler/planned.ts';
import type { SamplerStep } from '../sampler/sampler.ts';
import type { WeightDType } from '../weights/attach.ts';
import type { FolderAccess } from '../weights/folder.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import type { Model } from './model.ts';
import type { Tap, Values } from './networks.ts';
import type { CommonOptions } from './options.ts';
import type { Presets } from './presets.ts';
import type { Progress } from './progress.ts';
import type { SamplerState } from './run-state.ts';
import type { Box, Framed, Size } from './sizes.ts';
import type { ChosenTiling, TilingChoice } from './tiled-vae.ts';

export type { Box, Framed, NamedSize, Size } from './sizes.ts';

/** Which piece of a photo is at work. */
export interface PieceEvent {
  what: 'photo' | 'region' | 'face';
  number: number;
  count: number;
}

/** Called as work goes on; awaited, so that a slow listener slows the work rather than queueing. */
export interface RestoreEvents {
  /** Something that the person should know and that does not stop the work. */
  warning?(warning: Warning): void | Promise<void>;
  /** A stage begins, a part of it is done, or a shader is compiled. */
  progress?(progress: Progress): void | Promise<void>;
  /** A piece of the photo begins, where it is restored in several: `number` of `count`, from 1. */
  piece?(piece: PieceEvent): void | Promise<void>;
  /** A stage has made a picture, (N, H, W, 3) in [-1, 1], not clamped, decoded from a latent (N, h, w, z). */
  picture?(stage: string, image: Values, latent: Values): void | Promise<void>;
  /** A sampling step is done. */
  step?(step: SamplerStep): void | Promise<void>;
  /** Takes activations out of the networks that a sampler calls. */
  trace?: Tap;
  signal?: AbortSignal;
}

/** What is particular to a method: its model, its options, what its stages start from, and what they make. */
export interface Kind {
  model: Model;
  options: CommonOptions;
  inputs: unknown;
  made: object;
}

/** What a caller gives of a method's options, and a preset for the rest. */
export type Given<K extends Kind> = Partial<K['options']> & { preset?: string };

/** What a stage is planned for. */
export interface Planning<K extends Kind> {
  model: K['model'];
  options: K['options'];
  size: Size;
  /** Of the photo as it is. */
  photo: Framed;
  /** Bytes of GPU memory. */
  budget: number;
}

/** How often a program will run. */
export interface PlannedRuns {
  plan: Plan;
  runs: number;
  /** Those of them that take a result over (`Plan.reusing`). Default 0. */
  reusing?: number;
  /** GPU memory in use beside the program and weights, in bytes, and what it holds, where a person can do without it. */
  beside?: number;
  besideIs?: string;
}

/** What a stage will run. */
export interface StagePlan {
  /** How it divides its picture: not at all, in exact or published tiles of the autoencoder, or in windows of sampling. */
  tiling: ChosenTiling | 'windows';
  /** What the autoencoder's `auto` weighed, where it chose between exact and published tiles. */
  weighed?: TilingChoice['weighed'];
  /** What a person counts: tiles, texts, steps. */
  parts: number;
  /** Of each part, where that differs, whether its runs take a result over from runs before. */
  reuses?: readonly boolean[];
  /** Feature maps on the host, in bytes. */
  hostBytes: number;
  /** One after the other. */
  programs: PlannedRuns[];
}

/** What every stage of one restoration is given. */
export interface Job<K extends Kind> {
  model: K['model'];
  options: K['options'];
  inputs: K['inputs'];
  events: RestoreEvents;
  /** Where an interrupted run goes on in sampling. */
  resume: SamplerState | null;
}

export interface Stage<K extends Kind> {
  readonly name: string;
  /** The network that it runs, as drawings call it; stages of one network are equally fast. */
  readonly graph: string;
  /** Whether the seed changes what it makes. What stages before the first such one make serves every seed. */
  readonly isSeeded: boolean;
  /** Whether what `Method.result` calls stage 1 is there after it. */
  readonly makesStage1?: boolean;
  /** Whether it runs in tiles where it does not fit whole. */
  readonly isTiled?: boolean;
  /** Its graph, undivided, for one image; no weights and no device are needed. */
  build(networks: K['model']['networks'], options: K['options'], size: Size): Record<string, Tensor>;
  /** Throws UserError or ShapeError where it cannot be run. */
  plan(planning: Planning<K>): StagePlan;
  /** The share of it that an interrupted run had done. */
  begunAt?(job: Job<K>): number;
  /** Frees every GPU buffer but the weights. Throws the signal's reason when aborted, DeviceError when the GPU fails. */
  run(job: Job<K>, made: K['made']): Promise<Partial<K['made']>>;
}

export interface ModelOptions {
  /** How matrices and convolutions lie on the GPU: f16, or rounded to blocks of 8 or 4 bits (q8, q4). Default: as the files hold them. */
  weights?: WeightDType;
}

/** What a method sees in files of weights, by their indices. */
export interface Assessment {
  /** What each file is, and what to do with it; null for one that is none of the method's. */
  files: ({ title: string; advice: string } | null)[];
  /** What they lack to be a model, in a sentence; null where nothing is missing. */
  missing: string | null;
}

/** A network within that of a stage, drawn by itself. */
export interface Part<K extends Kind> {
  build(networks: K['model']['networks'], size: Size): Record<string, Tensor>;
}

/** Its table of options, from which flags, forms, checks and documents follow; its presets; and all that front ends show of it. */
export interface Method<K extends Kind> extends Presets<K['options']> {
  readonly name: string;
  /** Which files make a model, to end a sentence with. */
  readonly needs: string;
  /** Sizes and settings of the published model. */
  readonly published: K['model']['config'];
  /** The network that is looked into where none is named: its stage's name for it, and what it is. */
  readonly main: { graph: string; title: string };
  /** Options without guidance and in one piece, as networks are drawn. */
  readonly plain: K['options'];
  readonly parts?: Readonly<Record<string, Part<K>>>;
  assess(files: readonly TensorFile[]): Assessment;
  /** Files of the method as one, under the names of a single file; null where one is none of its own. */
  joined(files: readonly TensorFile[]): TensorFile | null;
  /** Whether a folder holds a model of this method. */
  recognises(access: FolderAccess, folder: string): Promise<boolean>;
  /** Sizes and settings of the model in a folder, of which indices alone are read. Throws UserError for one that is no model. */
  config(access: FolderAccess, folder: string): Promise<K['model']['config']>;
  /** Opens a folder. Throws UserError for one that is no model. */
  open(device: Device, access: FolderAccess, folder: string, options: ModelOptions): Promise<K['model']>;
  /** Networks without weights, of the model that a config.json describes; to be drawn. */
  networks(config: K['model']['config']): K['model']['networks'];
  /** The options in force, of what a person gives and the model recommends. Throws UserError naming the first impossible one. */
  choose(given: Readonly<Record<string, unknown>>, config: K['model']['config']): K['options'];
  /** What tells a result from others of the same photo, in a few words. */
  label(options: K['options']): string;
  /** What every step of sampling will be asked for; none where nothing is sampled. */
  steps(options: K['options'], config: K['model']['config']): Promise<PlannedStep[]>;
  /** At which size a photo of this size is worked on, and the result's. Throws UserError where that cannot be. */
  sizes(photo: Framed, options: K['options'], config: K['model']['config']): { working: Size; result: Size };
  /** The tiles of sampling, in shares of the picture's sides, in the order of the option tilePrompts; none where it is sampled whole. */
  tiles?(model: K['model'], photo: Framed, options: K['options']): Box[];
  /** In the order in which they run. */
  stages(options: K['options']): readonly Stage<K>[];
  /** What the stages work on. Throws UserError for what cannot work, before any of it is begun. */
  inputs(
    model: K['model'],
    photo: Image,
    sizes: { working: Size; result: Size },
    options: K['options'],
    events: RestoreEvents,
  ): Promise<K['inputs']>;
  /** How the result becomes bytes. Default: to the nearest. */
  readonly rounding?: Rounding;
  /** The result, colours fixed, and the picture in which nothing is invented; both (N, H, W, 3) in [-1, 1], not clamped. */
  result(made: Partial<K['made']>): { image: Values; stage1: Values };
}
