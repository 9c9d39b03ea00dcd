/**
 * DiffBIR's restoration on host arrays. (arXiv 2308.15070, sec. 3)
 *
 * 1. The picture is enlarged to the wanted size, or the cleaner does it.
 * 2. The cleaner removes degradation. What it gives is not clamped, and has at least `minSide` pixels along its short side.
 * 3. The first stage encodes it; its mean is the condition latent, which IRControlNet reads.
 * 4. The text tower reads the prompts.
 * 5. A sampler turns noise, or the noised condition latent, into the restored latent, which is decoded.
 * 6. Colours are taken from the cleaned picture, and the size becomes the wanted one.
 */
import { UserError } from '../core/errors.ts';
import { TorchRandom } from '../core/random.ts';
import type { Shape } from '../core/shape.ts';
import { input, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile } from '../gpu/program.ts';
import { waveletColorFix } from '../image/color-fix.ts';
import type { FloatImage, Image } from '../image/image.ts';
import { cropTo, padToMultiple } from '../image/pad.ts';
import { prepareDeep } from '../image/prepare.ts';
import { resize, resizeBicubic } from '../image/resize.ts';
import type { DiffBir } from '../models/diffbir.ts';
import { LoraSet } from '../models/lora-set.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import { ddimTimesteps, sampleDdim } from '../sampler/ddim.ts';
import type { Network } from '../sampler/denoiser.ts';
import { type Diffusion, diffuse, type Parameterization } from '../sampler/diffusion.ts';
import { sampleDpmSolver } from '../sampler/dpm-solver.ts';
import { type EdmSolver, type EdmSolverOptions, sampleEdmSolver } from '../sampler/edm-solvers.ts';
import type { SamplerStep } from '../sampler/sampler.ts';
import { alphasCumprod } from '../sampler/schedule.ts';
import { type SpacedOptions, sampleSpaced } from '../sampler/spaced.ts';
import { StepCaching } from '../sampler/step-caching.ts';
import { cropWindow, type TileWindow, tiledNetwork, tileWindows } from '../sampler/tiles.ts';
import { type CleanerNetwork, cleanWith } from './cleaner.ts';
import { compileDenoiser, tracedDenoiser } from './deep-features.ts';
import type { DiffBirSampler } from './diffbir-options.ts';
import { channelsLastNoise, type LatentMoments, sampleMoments, splitMoments } from './latents.ts';
import type { SamplerState } from './run-state.ts';
import type { Size } from './sizes.ts';
import { AnswerCheck } from './soundness.ts';
import { type Tap, take, tapped } from './tap.ts';
import { runTiled } from './tiled-image.ts';
import { runAutoencoder, type TilingEvents, VAE_TILING, type VaeTiling } from './tiled-vae.ts';
import type { Values } from './values.ts';

/** Steps that a sampler takes where so many are asked for. */
export const stepsTaken = (sampler: DiffBirSampler, steps: number): number =>
  sampler === 'ddim' ? ddimTimesteps(1000, steps).length : steps;

/** Runs the sampler of that name, with step caching where a share is given. Throws what the sampler throws. */
export function sampleDiffBir(
  sampler: DiffBirSampler,
  network: Network,
  diffusion: Diffusion,
  { cache = 0, ...given }: EdmSolverOptions & SpacedOptions & { cache?: number },
): Promise<Float32Array> {
  const caching = new StepCaching(cache, stepsTaken(sampler, given.steps), given.begin?.step);
  const cached = caching.network(network);
  const options = { ...given, onStep: (done: SamplerStep) => given.onStep?.(caching.told(done)) };
  if (sampler === 'spaced') return sampleSpaced(cached, diffusion, options);
  if (sampler === 'ddim') return sampleDdim(cached, diffusion, options);
  if (sampler === 'dpm++_m2') return sampleDpmSolver(cached, diffusion, options);
  return sampleEdmSolver(sampler.slice('edm_'.length) as EdmSolver, cached, diffusion, options);
}

/** What the base predicts, and the schedule that goes with it: v comes with zero terminal SNR. */
export function diffusionOf(parameterization: Parameterization): Diffusion {
  return { parameterization, alphasCumprod: alphasCumprod({ zeroTerminalSnr: parameterization === 'v' }) };
}

/** A tile and the distance to the next, in the units that the option names. */
export interface Tiles {
  size: number;
  stride: number;
}

/** How a picture is cleaned. */
export interface CleaningOptions {
  /** Factor on width and height; sizes are cut to whole pixels. */
  upscale: number;
  /** The size of the result, in place of the factor. */
  result?: Size;
  /** Whether the cleaner enlarges by itself, as BSRNet does; the picture is enlarged before it otherwise. */
  cleanerEnlarges: boolean;
  /** The cleaned picture's short side is enlarged to at least this many pixels while working; the published program's 512. */
  minSide: number;
  /** Tiles in pixels of the cleaner's input; null runs it whole. */
  cleanerTiles: Tiles | null;
}

/** How a latent is sampled. */
export interface LatentOptions {
  sampler: DiffBirSampler;
  /** Strength of IRControlNet, 0 to 1 and a little above. */
  strength: number;
  /** What sampling starts from: noise, or the condition latent noised to the last level. */
  start: 'noise' | 'condition';
  /** Begins with this latent (1, h, w, z) under noise instead, steps with more noise left out. */
  begin?: { step: number; latent: Values };
  /** Level, 0 to 999, to which the condition latent is noised for IRControlNet; 0 for none. */
  noiseAugmentation: number;
  /** Results of different noise. */
  samples: number;
  sampling: Omit<EdmSolverOptions, 'noise' | 'controlScale' | 'onStep' | 'signal'> & { cache?: number };
  /** Tiles of the latent, in latent pixels; null samples it whole. */
  latentTiles: Tiles | null;
}

export interface DiffBirOptions extends CleaningOptions, LatentOptions {
  seed: number;
  vaeTiling: VaeTiling;
  /** Multiple to which the cleaned picture is padded: 64, or 8 where the published program was asked for tiles. */
  padding: number;
}

export interface DiffBirEvents extends TilingEvents {
  cleaned?(image: FloatImage): void | Promise<void>;
  step?(step: SamplerStep): void | Promise<void>;
}

export interface DiffBirResult {
  /** In [0, 1], colours fixed, of the wanted size, not clamped. */
  images: FloatImage[];
  cleaned: FloatImage;
  /** Condition latent, (1, h, w, z). */
  condition: Values;
  /** (N, h, w, z) */
  latent: Values;
  /** (N, H, W, 3) in [-1, 1], with the padding. */
  decoded: Values;
}

export interface DiffBirDenoiserOptions {
  /** Takes activations out. */
  tap?: Tap | null;
  /** Step caching: in how many windows of a latent it is asked, each with deep features of its own, and for how many branches in every step; null for none. */
  cached?: { windows: number; branches: 1 | 2 } | null;
  signal?: AbortSignal;
}

const cachedOf = ({ cache = 0, cfg }: LatentOptions['sampling'], windows: number): DiffBirDenoiserOptions['cached'] =>
  cache > 0 ? { windows, branches: cfg === 1 ? 1 : 2 } : null;

/** DiffBIR's networks on a device; every program and its buffers are freed after use, and weights stay within the device's budget. */
export class DiffBirNetworks {
  readonly device: Device;
  readonly model: DiffBir;
  readonly cleaner: CleanerNetwork;
  readonly diffusion: Diffusion;
  private readonly loras: LoraSet;

  /** parameterization: what the base predicts. All weights are attached. */
  constructor(device: Device, model: DiffBir, cleaner: CleanerNetwork, parameterization: Parameterization, loras = new LoraSet()) {
    this.loras = loras;
    this.device = device;
    this.model = model;
    this.cleaner = cleaner;
    this.diffusion = diffusionOf(parameterization);
  }

  /** As `cleanWith`. */
  clean(image: FloatImage, events: Pick<TilingEvents, 'signal' | 'onTile'> = {}): Promise<FloatImage> {
    return cleanWith(this.device, this.cleaner, image, events);
  }

  /** Pictures (N, H, W, 3) in [-1, 1], sides multiples of 8 -> mean and log variance of their latents, (N, h, w, z), not scaled. */
  async moments(x: Values, tiling: VaeTiling = VAE_TILING, events: TilingEvents = {}): Promise<LatentMoments> {
    const encode = (tensor: Tensor) => this.model.base.first_stage_model.encode(tensor);
    return splitMoments(await runAutoencoder(this.device, 'encoder', encode, x, tiling, events));
  }

  /** The latent that moments and noise make, in the networks' scale. */
  sampled(moments: LatentMoments, noise: Float32Array): Float32Array {
    return sampleMoments(moments, noise, this.model.base.config.vae.scale_factor).data;
  }

  /** The mean latent (N, h, w, z) of pictures, in the networks' scale. */
  async encode(x: Values, tiling: VaeTiling = VAE_TILING, events: TilingEvents = {}): Promise<Values> {
    const { mean } = await this.moments(x, tiling, events);
    const { scale_factor } = this.model.base.config.vae;
    return { shape: mean.shape, data: mean.data.map((value) => scale_factor * value) };
  }

  /** Latent (N, h, w, z) in the networks' scale -> pictures (N, 8 h, 8 w, 3), not clamped. */
  async decode({ data, shape }: Values, tiling: VaeTiling = VAE_TILING, events: TilingEvents = {}): Promise<Values> {
    const { scale_factor } = this.model.base.config.vae;
    const decode = (tensor: Tensor) => this.model.base.first_stage_model.decode(tensor);
    return runAutoencoder(this.device, 'decoder', decode, { data: data.map((value) => value / scale_factor), shape }, tiling, events);
  }

  /** Token ids of one text, as many as the tower's context is long -> (1, L, D) */
  async condition(tokens: readonly number[], signal?: AbortSignal): Promise<Values> {
    const { model } = this.model.base.cond_stage_model;
    const x = input('x', [1, tokens.length, this.model.base.config.text.dim]);
    const context = model.forward(x);
    const program = await compile(this.device, this.loras.apply({ context }), signal);
    try {
      const rows = await model.tokenTable.source!.readRows([...tokens]);
      const result = await program.run({ x: rows, ...this.loras.inputs(program.plan.scalars) });
      return { data: result.context, shape: context.shape };
    } finally {
      program.dispose();
    }
  }

  /**
   * What a sampler calls, for N latents beside `hint` (N, h, w, z); texts (1, L, D), for every latent. A program serves each number of branches that is
   * asked for, made when it first is; where steps are cached, one serves all. Throws UserError when a tap wants none of the activations that there are.
   */
  denoiser(hint: Values, negative: Values, positive: Values, { tap = null, cached = null, signal }: DiffBirDenoiserOptions = {}) {
    const { unet } = this.model.base.config;
    const [n] = hint.shape;
    const answers = new AnswerCheck();
    const programs = new Map<1 | 2, Awaited<ReturnType<typeof compileDenoiser<'prediction'>>>>();
    const context = (branches: 1 | 2) => {
      const texts = (branches === 2 ? [negative, positive] : [positive]).flatMap((text) => new Array<Values>(n).fill(text));
      const data = new Float32Array(texts.length * positive.data.length);
      for (const [i, text] of texts.entries()) data.set(text.data, i * text.data.length);
      return data;
    };
    const compiled = (branches: 1 | 2) => {
      const build = () => this.model.denoiserGraph(hint.shape, positive.shape[1], branches);
      const { graph, results } = tracedDenoiser(this.model.base.model.diffusion_model, cached !== null, build);
      const wanted = tap ? tapped(tap, this.model, graph, results) : {};
      return compileDenoiser<'prediction'>(this.device, this.loras.apply({ ...wanted, ...graph }), cached?.windows ?? 0, signal);
    };
    const evaluate = async (asked: Parameters<Network>[0], own = hint.data, window = 0) => {
      const { x, timestep, controlScale, unguided, progress, reuse = false } = asked;
      const branches = cached?.branches ?? (unguided ? 1 : 2);
      const fixed = !programs.has(branches);
      const { program, features } = programs.get(branches) ?? (await compiled(branches));
      programs.set(branches, { program, features });
      const given = {
        ...(fixed ? { context: context(branches) } : {}),
        ...{ x, hint: own, timestep: timestepEmbedding([timestep], unet.model_channels), controlScale },
        ...this.loras.inputs(program.plan.scalars, progress),
      };
      const { prediction, ...wanted } = await program.run(given, features?.runOptions(window, reuse));
      answers.check(x, timestep, prediction);
      if (tap) await take(tap, wanted, program.plan.outputs);
      return { negative: prediction.subarray(0, x.length), positive: prediction.subarray(prediction.length - x.length) };
    };
    return {
      evaluate,
      dispose: () => {
        for (const { program, features } of programs.values()) {
          features?.release();
          program.dispose();
        }
      },
    };
  }
}

/** Windows of a latent, or null where it is sampled whole: a side smaller than the tile turns tiles off. */
export function latentWindows([, h, w]: Shape, tiles: Tiles | null): TileWindow[] | null {
  return tiles && h >= tiles.size && w >= tiles.size && (h > tiles.size || w > tiles.size)
    ? tileWindows(h, w, tiles.size, tiles.stride)
    : null;
}

/** Sides of which the short one becomes `size`, the long one as much longer as it was, cut to whole pixels. */
export function shortSideSize({ width, height }: Pick<Image, 'width' | 'height'>, size: number): { width: number; height: number } {
  const short = Math.min(width, height);
  const to = (side: number) => (side === short ? size : Math.trunc(side * (size / short)));
  return { width: to(width), height: to(height) };
}

/** The picture with the sides of `shortSideSize`. */
export function resizeShortSide(image: FloatImage, size: number): FloatImage {
  const { width, height } = shortSideSize(image, size);
  return resizeBicubic(image, width, height, { antialias: true });
}

/** The size of a result: what is wanted, or the photo's by a factor, cut to whole pixels. */
export function resultSize({ width, height }: Size, upscale: number, wanted?: Size): Size {
  return wanted ?? { width: Math.trunc(width * upscale), height: Math.trunc(height * upscale) };
}

/** The cleaned picture, in [0, 1] and not clamped, and the size that the result is to have. */
export async function cleanPicture(
  networks: Pick<DiffBirNetworks, 'clean' | 'cleaner'>,
  photo: Image,
  { upscale, cleanerEnlarges, minSide, cleanerTiles, ...wanted }: CleaningOptions,
  events: Pick<TilingEvents, 'signal' | 'onTile'> = {},
): Promise<{ cleaned: FloatImage; width: number; height: number }> {
  const { width, height } = resultSize(photo, upscale, wanted.result);
  const isEnlarged = width !== photo.width || height !== photo.height;
  const enlarged = cleanerEnlarges || !isEnlarged ? photo : resize(photo, width, height, 'bicubic');
  let x: FloatImage = prepareDeep(photo, enlarged.width, enlarged.height) ?? {
    ...{ width: enlarged.width, height: enlarged.height, channels: 3 },
    data: Float32Array.from(enlarged.data, (value) => value / 255),
  };
  const tiled = cleanerTiles !== null && Math.min(x.width, x.height) >= cleanerTiles.size;
  const early = networks.cleaner.config.kind === 'swinir' && !tiled;
  if (early && Math.min(x.width, x.height) < minSide) x = resizeShortSide(x, minSide);
  const { config } = networks.cleaner;
  const factor = config.kind === 'rrdb' ? config.scale : 1;
  const run = (tile: FloatImage) => {
    events.signal?.throwIfAborted();
    return networks.clean(tile, events);
  };
  let cleaned = tiled ? await runTiled(x, cleanerTiles.size, cleanerTiles.stride, factor, run) : await run(x);
  if (Math.min(cleaned.width, cleaned.height) < minSide || (cleanerEnlarges && Math.min(width, height) < minSide))
    cleaned = resizeShortSide(cleaned, minSide);
  else if (cleanerEnlarges && (cleaned.width !== width || cleaned.height !== height))
    cleaned = resizeBicubic(cleaned, width, height, { antialias: true });
  return { cleaned, width, height };
}

/** What a run adds to the options of sampling. */
export interface LatentRun {
  /** Of the run's seed; the first draws are the start and the noise augmentation. */
  random: TorchRandom;
  /** Of restoration guidance. */
  correct?: SpacedOptions['correct'];
  resume?: SamplerState | null;
  step?: DiffBirEvents['step'];
  tap?: Tap | null;
  signal?: AbortSignal;
}

/**
 * Samples latents (N, h, w, z) for a condition latent (1, h, w, z) and texts (1, L, D). Throws UserError for options that do not go together, the
 * signal's reason when aborted.
 */
export async function sampleLatent(
  networks: DiffBirNetworks,
  condition: Values,
  texts: { positive: Values; negative: Values },
  options: LatentOptions,
  { random, correct, resume, step, tap, signal }: LatentRun,
): Promise<Values> {
  const { samples, noiseAugmentation } = options;
  const { alphasCumprod: levels } = networks.diffusion;
  const windows = latentWindows(condition.shape, options.latentTiles);
  const single = windows ? condition : paddedLatent(condition, 8);
  const [, h, w, z] = single.shape;
  const shape = [samples, h, w, z];
  const clean = repeated(single.data, samples);
  const pictureOf = ({ latent }: { latent: Values }) => repeated((windows ? latent : paddedLatent(latent, 8)).data, samples);
  const draw = () => channelsLastNoise(random, shape);
  let start = draw();
  if (options.start === 'condition') start = diffuse(clean, start, levels[levels.length - 1]);
  if (!(Number.isInteger(noiseAugmentation) && noiseAugmentation >= 0 && noiseAugmentation < levels.length))
    throw new UserError(`The noise augmentation is a level from 0 to ${levels.length - 1}, not ${noiseAugmentation}.`);
  const hint = noiseAugmentation > 0 ? diffuse(clean, draw(), levels[noiseAugmentation]) : clean;

  const first = windows?.[0];
  const tile = first ? { h: first.y1 - first.y0, w: first.x1 - first.x0 } : { h, w };
  const hints = windows?.map((window) => cropWindow(hint, shape, window));
  const denoiser = networks.denoiser({ shape: [samples, tile.h, tile.w, z], data: hints?.[0] ?? hint }, texts.negative, texts.positive, {
    tap,
    signal,
    cached: cachedOf(options.sampling, windows?.length ?? 1),
  });
  let sampled: Float32Array;
  try {
    const network: Network = windows
      ? tiledNetwork((asked, index) => denoiser.evaluate(asked, hints![index], index), windows, shape)
      : (asked) => denoiser.evaluate(asked);
    let started = false;
    const noise = () => {
      const values = started ? draw() : start;
      started = true;
      return values;
    };
    sampled = await sampleDiffBir(options.sampler, network, networks.diffusion, {
      ...options.sampling,
      ...{ noise, controlScale: options.strength, onStep: step, signal, correct },
      ...(options.begin ? { begin: { step: options.begin.step, latent: pictureOf(options.begin) } } : {}),
      ...resume,
    });
  } finally {
    denoiser.dispose();
  }

  const [, latentHeight, latentWidth] = condition.shape;
  const corner = { y0: 0, y1: latentHeight, x0: 0, x1: latentWidth };
  return { data: cropWindow(sampled, shape, corner), shape: [samples, latentHeight, latentWidth, z] };
}

/** Runs all stages. `positive` and `negative` are token ids. Throws UserError for options that do not go together, the signal's reason when aborted. */
export async function restoreDiffBir(
  networks: DiffBirNetworks,
  photo: Image,
  positive: readonly number[],
  negative: readonly number[],
  options: DiffBirOptions,
  events: DiffBirEvents = {},
): Promise<DiffBirResult> {
  const { samples } = options;
  const random = new TorchRandom(options.seed);
  const { cleaned, width, height } = await cleanPicture(networks, photo, options);
  await events.cleaned?.(cleaned);
  events.signal?.throwIfAborted();

  const padded = padToMultiple(cleaned, options.padding, 'zero');
  const image = { shape: [1, padded.height, padded.width, 3], data: padded.data.map((value) => 2 * value - 1) };
  const condition = await networks.encode(image, options.vaeTiling, events);
  const texts = { positive: await networks.condition(positive), negative: await networks.condition(negative) };

  const latent = await sampleLatent(networks, condition, texts, options, { random, ...events });
  const decoded = await networks.decode(latent, options.vaeTiling, events);
  const pixels = padded.width * padded.height * 3;
  const images = Array.from({ length: samples }, (_, i) => {
    const unit = { width: padded.width, height: padded.height, channels: 3, data: decoded.data.subarray(i * pixels, (i + 1) * pixels) };
    return finishPicture(cropTo(unit, cleaned.width, cleaned.height), cleaned, width, height);
  });
  return { images, cleaned, condition, latent, decoded };
}

/** The decoded picture in [-1, 1] with the colours of the cleaned one, in [0, 1] and of the wanted size. */
export function finishPicture(unit: FloatImage, cleaned: FloatImage, width: number, height: number): FloatImage {
  const fixed = waveletColorFix({ ...unit, data: unit.data.map((value) => (value + 1) / 2) }, cleaned);
  return resizeBicubic(fixed, width, height, { antialias: true });
}

/** A latent (1, h, w, z) with zeros to the right and below. */
function paddedLatent({ data, shape: [, height, width, channels] }: Values, multiple: number): Values {
  const padded = padToMultiple({ width, height, channels, data }, multiple, 'zero');
  return { data: padded.data, shape: [1, padded.height, padded.width, channels] };
}

function repeated(values: Float32Array, times: number): Float32Array {
  const all = new Float32Array(values.length * times);
  for (let i = 0; i < times; i++) all.set(values, i * values.length);
  return all;
}
