/**
 * DiffBIR's restoration as a list of stages. (arXiv 2308.15070, sec. 3)
 *
 * 1. clean: a small network removes degradation; it, or a resize before it, enlarges.
 * 2. encode: Stable Diffusion's encoder reads the cleaned picture; its mean is the condition latent.
 * 3. text: the text tower reads the prompts.
 * 4. sample: a sampler turns noise into the restored latent; IRControlNet, which reads the condition latent, steers the UNet.
 * 5. decode: it becomes a picture, which takes its colours from the cleaned one.
 */
import { UserError } from '../core/errors.ts';
import type { Plan, PlanOptions } from '../core/plan.ts';
import { TorchRandom } from '../core/random.ts';
import { input, type Shape, type Tensor } from '../core/tensor.ts';
import { shown } from '../core/text.ts';
import { checkSize, type FloatImage, type Image } from '../image/image.ts';
import { opaque } from '../image/opaque.ts';
import { cropTo, padToMultiple } from '../image/pad.ts';
import { resize, resizeBicubic } from '../image/resize.ts';
import { plan } from '../kernels/fusion.ts';
import { cleanerOf, DiffBir } from '../models/diffbir.ts';
import { cleanedPrompt } from '../models/prompt-cleaning.ts';
import { defaultsOf } from '../options/schema.ts';
import { stepsOf as stepsOfRun } from '../sampler/planned.ts';
import { reusingSteps } from '../sampler/step-caching.ts';
import { autoencoderPlan, tilingEvents } from './autoencoder-stage.ts';
import { chooseFrom } from './choose-options.ts';
import { cleanedSizes, cleaningPlan } from './cleaning.ts';
import { cachedRuns, reusedWhere, tracedDenoiser } from './deep-features.ts';
import { cleanPicture, diffusionOf, finishPicture, latentWindows, sampleDiffBir, sampleLatent, stepsTaken, type Tiles } from './diffbir.ts';
import { assessDiffBir, joinedDiffBir } from './diffbir-files.ts';
import { guidanceGraph, guidanceTo } from './diffbir-guidance.ts';
import { configOf, DIFFBIR_V21, type DiffBirConfig, DiffBirModel, folderConfig, openDiffBirFolder } from './diffbir-model.ts';
import { DIFFBIR_OPTIONS, DIFFBIR_PRESETS, type DiffBirChoice } from './diffbir-options.ts';
import type { Values } from './networks.ts';
import { idleStrength, isCached, vaeTilingOf } from './options.ts';
import { isFromPicture, stepsLeftOut } from './sampling.ts';
import type { Method, PlannedRuns, Size, Stage } from './stage.ts';

export interface DiffBirInputs {
  photo: Image;
  result: Size;
  /** Token ids. */
  positive: number[];
  negative: number[];
}

export interface DiffBirMade {
  /** In [0, 1], not clamped. */
  cleaned: FloatImage;
  /** Condition latent (1, h, w, z), in the networks' scale. */
  condition: Values;
  /** Latent of the photo as it is, padded alike; where sampling begins with it. */
  zPhoto?: Values;
  texts: { positive: Values; negative: Values };
  latent: Values;
  /** Of the result's size, (1, H, W, 3) in [-1, 1], not clamped; and the cleaned picture alike. */
  image: Values;
  stage1: Values;
}

export interface DiffBirKind {
  model: DiffBirModel;
  options: DiffBirChoice;
  inputs: DiffBirInputs;
  made: DiffBirMade;
}

type DiffBirStage = Stage<DiffBirKind>;

const METHOD = { options: DIFFBIR_OPTIONS, presets: DIFFBIR_PRESETS };

const isGuided = ({ cfg }: DiffBirChoice) => cfg !== 1;

/** Options as the stages on host arrays take them. */
const cleaningOf = (config: DiffBirConfig, { upscale, minSize }: DiffBirChoice) => ({
  ...{ upscale, minSide: minSize, cleanerEnlarges: config.cleaner?.kind === 'rrdb' && config.cleaner.scale > 1 },
});

const latentTiles = ({ tile, tileStride }: DiffBirChoice): Tiles | null =>
  tile > 0 ? { size: tile, stride: tileStride || Math.ceil(tile / 2) } : null;

/** Multiple to which the cleaned picture is padded: less where the published program was asked for tiles. */
const paddingOf = ({ tile, vaeTiling }: DiffBirChoice): number => (tile > 0 || vaeTiling === 'published' ? 8 : 64);

const up = ({ width, height }: Size, multiple: number): Size => ({
  width: Math.ceil(width / multiple) * multiple,
  height: Math.ceil(height / multiple) * multiple,
});

/** Of a picture of the working size. */
function latentShape({ base: { vae } }: DiffBirConfig, { width, height }: Size): Shape {
  const factor = 2 ** (vae.ch_mult.length - 1);
  return [1, height / factor, width / factor, vae.z_channels];
}

/** (1, H, W, 3) in [-1, 1] of a picture in [0, 1]. */
const signed = ({ width, height, data }: FloatImage): Values => ({
  shape: [1, height, width, 3],
  data: data.map((value) => 2 * value - 1),
});

const CLEAN: DiffBirStage = {
  name: 'clean',
  makesStage1: true,
  graph: 'cleaner',
  isSeeded: false,
  isTiled: true,
  build: ({ cleaner }, _, { width, height }) => ({ y: cleaner!.forward(input('x', [1, height, width, 3])) }),
  plan: ({ model, options, photo, budget }) => {
    const cleaning = cleaningOf(model.config, options);
    const { read } = cleanedSizes(photo, model.config.cleaner!, cleaning);
    return cleaningPlan(model.device, model.calls(options).cleaner, read, options, cleaning.minSide, budget).stage;
  },
  async run({ model, options, inputs: { photo, result }, events: { signal } }) {
    const calls = model.calls(options);
    const cleaning = cleaningOf(model.config, options);
    const { read } = cleanedSizes({ ...photo, result }, model.config.cleaner!, cleaning);
    const { budget } = model.device.residency;
    const { tiles } = cleaningPlan(model.device, calls.cleaner, read, options, cleaning.minSide, budget);
    const { cleaned, width, height } = await cleanPicture(calls, photo, { ...cleaning, result, cleanerTiles: tiles }, { signal });
    return { cleaned, stage1: signed(resizeBicubic(cleaned, width, height, { antialias: true })) };
  },
};

const ENCODE: DiffBirStage = {
  name: 'encode',
  graph: 'encoder',
  isSeeded: false,
  isTiled: true,
  build: ({ base }, _, { width, height }) => ({ y: base.first_stage_model.encode(input('x', [1, height, width, 3])) }),
  plan({ model: { device, networks }, options, size: { width, height }, budget }) {
    const graph = (x: Tensor) => networks.base.first_stage_model.encode(x);
    return autoencoderPlan(device, 'encoder', graph, [1, height, width, 3], vaeTilingOf(options), budget);
  },
  async run({ model, options, events }, { cleaned }) {
    const image = signed(padToMultiple(cleaned, paddingOf(options), 'zero'));
    const condition = await model.calls(options).encode(image, vaeTilingOf(options), tilingEvents(events, 'encode'));
    const [, h, w] = condition.shape;
    if (h % 8 === 0 && w % 8 === 0) await events.picture?.('stage1', image, condition);
    return { condition };
  },
};

/** The photo as it is, enlarged as the cleaned picture: what sampling may begin with. */
const PHOTO: DiffBirStage = {
  ...ENCODE,
  name: 'photo',
  async run({ model, options, inputs: { photo }, events }, { cleaned: { width, height } }) {
    const { data } = resize(photo, width, height, 'bicubic');
    const image = { width, height, channels: 3, data: Float32Array.from(data, (value) => value / 255) };
    const padded = signed(padToMultiple(image, paddingOf(options), 'zero'));
    return { zPhoto: await model.calls(options).encode(padded, vaeTilingOf(options), tilingEvents(events, 'photo')) };
  },
};

const TEXT: DiffBirStage = {
  name: 'text',
  graph: 'text',
  isSeeded: false,
  build: ({ base }) => ({ ...textGraph(base.config.text.context_length, base) }),
  plan: ({ model, options }) => ({
    ...{ tiling: 'whole', parts: isGuided(options) ? 2 : 1, hostBytes: 0 },
    programs: [
      { plan: planned(model, textGraph(model.config.base.text.context_length, model.networks.base)), runs: isGuided(options) ? 2 : 1 },
    ],
  }),
  async run({ model, options, inputs, events: { signal } }) {
    const calls = model.calls(options);
    const positive = await calls.condition(inputs.positive, signal);
    // Without guidance nobody reads it.
    return { texts: { positive, negative: isGuided(options) ? await calls.condition(inputs.negative, signal) : positive } };
  },
};

const SAMPLE: DiffBirStage = {
  name: 'sample',
  graph: 'denoiser',
  isSeeded: true,
  build: (networks, options, size) => {
    const [n, h, w, z] = latentShape({ base: networks.base.config } as DiffBirConfig, size);
    return denoiserGraph(networks, options, [n, h, w, z], isGuided(options) ? 2 : 1);
  },
  plan({ model, options, size }) {
    const condition = latentShape(model.config, size);
    const windows = latentWindows(condition, latentTiles(options));
    const side = (n: number) => (windows ? options.tile : Math.ceil(n / 8) * 8);
    const shape = [1, side(condition[1]), side(condition[2]), condition[3]];
    const cached = isCached(options);
    const steps = stepsOf(options) - leftOut(options);
    const reuses = reusingSteps(steps, options.cache);
    const graph = (branches: 1 | 2) => denoiserGraph(model.networks, options, shape, branches);
    const count = windows?.length ?? 1;
    const traced = graph(isGuided(options) ? 2 : 1);
    const denoiser = {
      plan: planned(model, traced, reusedWhere(cached)),
      runs: evaluations(options) * count,
      ...(cached ? cachedRuns(traced, count, reuses, TWICE.includes(options.sampler) ? 2 : 1) : {}),
    };
    const features = cached ? denoiser.beside! : 0;
    // The scale begins at 1: the first evaluation leaves the negative branch out, where that does not cost its deep features.
    const first = options.rescaleCfg && isGuided(options) && !cached ? planned(model, graph(1)).bytes.total : 0;
    const guide =
      options.guidance !== 'none' && options.guidanceSpace === 'rgb'
        ? planned(model, guidanceGraph(model.networks.base, [1, size.height, size.width, 3]).outputs)
        : null;
    // Both stay while the sampler runs.
    const programs: PlannedRuns[] = [{ ...denoiser, beside: features + first + (guide?.bytes.total ?? 0) }];
    if (guide)
      programs.push({
        plan: guide,
        runs: steps * options.guidanceRepeat,
        beside: features + first + denoiser.plan.bytes.total,
      });
    return {
      ...{ tiling: windows ? 'windows' : 'whole', parts: steps, hostBytes: 0 },
      ...(cached ? { reuses } : {}),
      programs,
    };
  },
  begunAt: ({ resume, options }) => (resume ? (resume.startStep - leftOut(options)) / (stepsOf(options) - leftOut(options)) : 0),
  async run({ model, options, events, resume }, { cleaned, condition, zPhoto, texts }) {
    const calls = model.calls(options);
    const { guidance: loss, guidanceSpace: space, guidanceScale: scale } = options;
    const { guidanceStart: start, guidanceStop: stop, guidanceRepeat: repeat } = options;
    const target = signed(padToMultiple(cleaned, paddingOf(options), 'zero'));
    const guidance = loss === 'none' ? null : await guidanceTo(calls, target, { loss, space, scale, start, stop, repeat });
    try {
      const { controlScale, start: from, strength: _, noiseAugmentation, seed, sampler, ...sampling } = options;
      const latent = { photo: zPhoto, stage1: condition, condition: undefined, noise: undefined }[from];
      const begin = latent && { step: leftOut(options), latent };
      const start: 'condition' | 'noise' = from === 'condition' ? from : 'noise';
      const latents = { strength: controlScale, start, begin, noiseAugmentation, sampler };
      const settings = { ...latents, samples: 1, sampling, latentTiles: latentTiles(options) };
      const run = {
        random: new TorchRandom(seed),
        correct: guidance?.correct,
        resume,
        step: events.step,
        tap: events.trace,
        signal: events.signal,
      };
      return { latent: await sampleLatent(calls, condition, texts, settings, run) };
    } finally {
      guidance?.dispose();
    }
  },
};

const DECODE: DiffBirStage = {
  name: 'decode',
  graph: 'decoder',
  isSeeded: true,
  isTiled: true,
  build: ({ base }, _, size) => ({
    y: base.first_stage_model.decode(input('x', latentShape({ base: base.config } as DiffBirConfig, size))),
  }),
  plan({ model: { device, networks, config }, options, size, budget }) {
    const graph = (z: Tensor) => networks.base.first_stage_model.decode(z);
    return autoencoderPlan(device, 'decoder', graph, latentShape(config, size), vaeTilingOf(options), budget);
  },
  async run({ model, options, events }, { latent, cleaned, stage1 }) {
    const { data, shape } = await model.calls(options).decode(latent, vaeTilingOf(options), tilingEvents(events, 'decode'));
    const decoded = cropTo({ data, height: shape[1], width: shape[2], channels: 3 }, cleaned.width, cleaned.height);
    return { image: signed(finishPicture(decoded, cleaned, stage1.shape[2], stage1.shape[1])) };
  },
};

function textGraph(length: number, { cond_stage_model: { model }, config }: DiffBir['base']): Record<string, Tensor> {
  return { context: model.forward(input('x', [1, length, config.text.dim])) };
}

function denoiserGraph(networks: DiffBir, options: DiffBirChoice, shape: Shape, branches: 1 | 2): Record<string, Tensor> {
  const { config, model } = networks.base;
  const build = () => networks.denoiserGraph(shape, config.text.context_length, branches);
  return tracedDenoiser(model.diffusion_model, isCached(options), build).graph;
}

const planned = ({ loras, device }: DiffBirModel, graph: Record<string, Tensor>, options: PlanOptions = {}): Plan =>
  plan(loras.apply(graph), device.facts, device.gpu.limits, options);

/** Samplers that evaluate the networks twice in every step but the last. */
const TWICE: readonly DiffBirChoice['sampler'][] = ['edm_heun', 'edm_dpm_2', 'edm_dpm_2_a', 'edm_dpm++_2s_a', 'edm_dpm++_sde'];

const stepsOf = ({ sampler, steps }: DiffBirChoice) => stepsTaken(sampler, steps);
const leftOut = (options: DiffBirChoice) => stepsLeftOut(options, stepsOf(options));
const evaluations = (options: DiffBirChoice) =>
  TWICE.includes(options.sampler) ? 2 * (options.steps - leftOut(options)) - 1 : stepsOf(options) - leftOut(options);

/** Throws UserError for options that do not go together. */
function checked(options: DiffBirChoice): DiffBirChoice {
  const { tile, tileStride, sTmin, sTmax, guidance, guidanceSpace, sampler, steps } = options;
  const conflict = (option: keyof DiffBirChoice, message: string): never => {
    throw new UserError(message, { code: 'option-conflict', option });
  };
  if (sampler === 'dpm++_m2' && steps < 2)
    conflict('steps', 'The sampler dpm++_m2 needs 2 steps or more: each looks back at the one before.');
  if (tile % 8 !== 0) conflict('tile', `Tiles of ${tile} latent pixels do not suit this model: give a multiple of 8.`);
  if (tile > 0 && tileStride > tile)
    conflict('tileStride', `Tiles of ${tile} with a stride of ${tileStride} leave gaps: the stride must be at most the tile.`);
  const idle = idleStrength(options);
  if (idle) conflict('strength', idle);
  if (sTmin > sTmax)
    conflict('sTmin', `Noise from a sigma of ${sTmin} to one of ${sTmax} is none: the first must not be above the second.`);
  if (guidance !== 'none' && sampler !== 'spaced')
    conflict('guidance', `Restoration guidance is of the sampler spaced alone, and ${sampler} was chosen.`);
  if (guidance !== 'none' && tile > 0) conflict('guidance', 'Restoration guidance does not go with sampling in tiles.');
  if (guidance === 'w_mse' && guidanceSpace === 'latent')
    conflict('guidanceSpace', 'Guidance between latents has no weights: choose mse, or the space rgb.');
  return options;
}

function denoiserInputs({ config }: DiffBir['base'], size: Size): Record<string, Tensor> {
  const latent = latentShape({ base: config } as DiffBirConfig, size);
  return {
    x: input('x', latent),
    hint: input('hint', latent),
    timestep: input('timestep', [1, config.unet.model_channels]),
    context: input('context', [1, config.text.context_length, config.unet.context_dim]),
  };
}

export const DIFFBIR: Method<DiffBirKind> = {
  name: 'DiffBIR',
  ...METHOD,
  needs: 'Stable Diffusion 2.1 base (a single file or a diffusers folder), an IRControlNet and a cleaner for DiffBIR',
  published: DIFFBIR_V21,
  main: { graph: 'denoiser', title: 'IRControlNet and UNet as one sampling step runs them' },
  plain: { ...defaultsOf(DIFFBIR_OPTIONS), cfg: 1 },
  parts: {
    unet: {
      build({ base }, size) {
        const { x, timestep, context } = denoiserInputs(base, size);
        return { prediction: base.model.diffusion_model.predict(x, timestep, context, null) };
      },
    },
    control: {
      build({ base, control }, size) {
        const { x, hint, timestep, context } = denoiserInputs(base, size);
        return Object.fromEntries(control.forward(x, hint, timestep, context).map((feature, i) => [`feature${i}`, feature]));
      },
    },
  },
  assess: assessDiffBir,
  joined: joinedDiffBir,
  async recognises(access, path) {
    try {
      const config = await folderConfig(access, path);
      if (config) return config.method === 'DiffBIR';
      const folder = await openDiffBirFolder(access, path);
      await folder.close();
      const isOfSupir = folder.cleaner === null && folder.others.some(({ isOfModel }) => isOfModel);
      return folder.control !== null || (folder.base !== null && !isOfSupir);
    } catch {
      return false; // who opens it in earnest tells why
    }
  },
  async config(access, path) {
    const folder = await openDiffBirFolder(access, path);
    try {
      return configOf(folder).config;
    } finally {
      await folder.close();
    }
  },
  open: DiffBirModel.openFolder,
  networks: ({ base, cleaner }) => new DiffBir(base, cleaner && cleanerOf(cleaner)),
  choose: (given, config) => checked(chooseFrom(METHOD, given, config)),
  label: ({ sampler, steps, seed }) => `${sampler}, ${steps} steps, seed ${seed}`,
  steps: (chosen, config) =>
    stepsOfRun((network, run) => {
      const { parameterization, ...options } = chosen;
      const begin = isFromPicture(options) ? { step: leftOut(chosen), latent: new Float32Array(1) } : undefined;
      const diffusion = diffusionOf(parameterization === 'auto' ? config.parameterization : parameterization);
      return sampleDiffBir(options.sampler, network, diffusion, { ...options, ...run, begin });
    }),
  sizes(photo, options, config) {
    const { cleaned, result } = cleanedSizes(photo, config.cleaner!, cleaningOf(config, options));
    checkSize(result.width, result.height, `${photo.name ?? 'photo'}: the result`);
    const working = up(cleaned, paddingOf(options));
    checkSize(working.width, working.height, `${photo.name ?? 'photo'}: the picture at work`);
    return { working, result };
  },
  stages: ({ start }) => [CLEAN, ENCODE, ...(start === 'photo' ? [PHOTO] : []), TEXT, SAMPLE, DECODE],
  async inputs(model, photo, { result }, options, events) {
    for (const warning of options.parameterization === 'auto' ? model.warnings : []) await events.warning?.(warning);
    const words = [options.prompt, options.positive].filter((text) => text !== '').join(', ');
    const [positive, negative] = [await cleanedPrompt(words), await cleanedPrompt(options.negative)];
    for (const text of isGuided(options) ? [positive, negative] : [positive]) {
      const cut = model.cutOff(text);
      if (cut)
        await events.warning?.({
          code: 'prompt-cut',
          message: `The prompt is longer than ${model.config.base.text.context_length} tokens; its end is ignored: "${shown(cut, 400)}"`,
        });
    }
    return { photo: opaque(photo), result, positive: model.tokens(positive), negative: model.tokens(negative) };
  },
  rounding: 'truncate',
  result: ({ image, stage1 }) => ({ image: image!, stage1: stage1! }),
};
