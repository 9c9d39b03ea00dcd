/**
 * SUPIR's restoration as a list of stages. (arXiv 2401.13627, sec. 3)
 *
 * 1. encode: the denoise encoder reads the degraded image; its mean is the control latent.
 * 2. stage1: decoding that gives the stage-1 image: degradation removed, nothing invented.
 * 3. reencode: SDXL's own encoder reads the stage-1 image, which is what restoration guidance pulls to.
 * 4. text: the text towers read the prompts.
 * 5. sample: the sampler turns noise, or a picture under noise, into the restored latent. (photo, before: the photo as SDXL's encoder reads it, for that.)
 * 6. decode: it becomes a picture, which takes its colours from the stage-1 image.
 */
import { ShapeError } from '../core/errors.ts';
import { TorchCudaRandom } from '../core/philox.ts';
import type { Plan, PlanOptions } from '../core/plan.ts';
import { TorchRandom } from '../core/random.ts';
import { input, type Shape, type Tensor } from '../core/tensor.ts';
import { sentence, shown } from '../core/text.ts';
import { adainColorFix, labColorFix, waveletColorFix } from '../image/color-fix.ts';
import { type FloatImage, type Image, toUnit } from '../image/image.ts';
import { opaque } from '../image/opaque.ts';
import { gammaCorrected, prepareDeep, preparedSizes } from '../image/prepare.ts';
import { resize } from '../image/resize.ts';
import { plan } from '../kernels/fusion.ts';
import type { TokenPair } from '../models/conditioner.ts';
import { CONFIG_LIMITS, latentFactor, SUPIR_SDXL, type SupirConfig } from '../models/config.ts';
import { cleanedPrompt } from '../models/prompt-cleaning.ts';
import { Supir } from '../models/supir.ts';
import type { EncoderName } from '../models/vae.ts';
import type { Network } from '../sampler/denoiser.ts';
import { reusingSteps } from '../sampler/step-caching.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { readJson } from '../weights/json-bounds.ts';
import { describeMissing, partsAdvice, sourcesOf } from '../weights/model-files.ts';
import { recognize } from '../weights/recognize.ts';
import { autoencoderPlan, tilingEvents } from './autoencoder-stage.ts';
import { chooseOptions } from './choose-options.ts';
import { cachedRuns, reusedWhere, tracedDenoiser } from './deep-features.ts';
import { unsuitable } from './few-step.ts';
import { channelsLastNoise, drawnAhead, map, sampleMoments } from './latents.ts';
import { readModelConfig } from './model-config.ts';
import { images, type TextConditioning, type Values } from './networks.ts';
import { DEFAULTS, isCached, isGuided, moduleScalesOf, OPTIONS, type RestoreOptions, vaeTilingOf } from './options.ts';
import { Results, runStages } from './pipeline.ts';
import { PRESETS } from './presets.ts';
import type { SamplerState } from './run-state.ts';
import { plannedSteps, sample, stepsLeftOut } from './sampling.ts';
import type { Job, Method, RestoreEvents, Size, Stage, StagePlan } from './stage.ts';
import { filesIn, SupirModel } from './supir-model.ts';
import { framed } from './target-size.ts';
import { checkPrompts, samplingWindows, tiledDenoiser } from './tiled-denoiser.ts';

export interface SupirInputs {
  /** Degraded images (N, H, W, 3) in [-1, 1]; sides multiples of the model's image_multiple. */
  image: Values;
  /** One text for the whole image, or one for each tile of the latent, row by row. */
  positive: TokenPair | TokenPair[];
  negative: TokenPair;
}

/** Latents in unit scale, channels-last. */
export interface SupirMade {
  zLq: Values;
  /** Of the photo as it is; where sampling begins with it. */
  zPhoto?: Values;
  stage1: Values;
  /** Of the stage-1 image, not scaled. */
  moments: { mean: Values; logvar: Values };
  /** One, or one for each tile. */
  positives: TextConditioning[];
  /** Null without guidance. */
  negative: TextConditioning | null;
  zStage1: Values;
  latent: Values;
  /** (N, H, W, 3) in [-1, 1], not clamped, colours fixed. */
  image: Values;
}

export interface SupirKind {
  model: SupirModel;
  options: RestoreOptions;
  inputs: SupirInputs;
  made: SupirMade;
}

interface SupirJob extends Job<SupirKind> {
  /** Stands in for the networks that a sampler calls. */
  wrap?: (network: Network) => Network;
}

type SupirStage = Stage<SupirKind>;

const imageShape = ({ width, height }: Size): Shape => [1, height, width, 3];

function latentShape(config: SupirConfig, { width, height }: Size): Shape {
  const factor = latentFactor(config);
  return [1, height / factor, width / factor, config.vae.z_channels];
}

/** A half of the autoencoder: `build` of `shape`, in tiles where it must. */
function autoencoder(
  half: 'encoder' | 'decoder',
  shape: (config: SupirConfig, size: Size) => Shape,
  build: (networks: Supir, x: Tensor) => Tensor,
): Pick<SupirStage, 'build' | 'plan' | 'isTiled'> {
  return {
    isTiled: true,
    build: (networks, _, size) => ({ y: build(networks, input('x', shape(networks.config, size))) }),
    plan({ model: { device, networks }, options, size, budget }): StagePlan {
      const graph = (x: Tensor) => build(networks, x);
      return autoencoderPlan(device, half, graph, shape(networks.config, size), vaeTilingOf(options), budget);
    },
  };
}

const encoder = (which: EncoderName) =>
  autoencoder(
    'encoder',
    (_, size) => imageShape(size),
    ({ first_stage_model }, x) => first_stage_model.encode(x, which),
  );

const decoder = autoencoder('decoder', latentShape, ({ first_stage_model }, z) => first_stage_model.decode(z));

/** In which tiles the autoencoder goes in a stage, and what is told of it. */
const tilesOf = ({ options, events }: SupirJob, stage: string) => [vaeTilingOf(options), tilingEvents(events, stage)] as const;

/** The photo's latent in unit scale, by one of the two encoders. */
async function latentOfPhoto(job: SupirJob, which: EncoderName, stage: string): Promise<Values> {
  const { mean } = await job.model.encode(job.inputs.image, which, ...tilesOf(job, stage));
  const { scale_factor } = job.model.config.vae;
  return map(mean, (value) => value * scale_factor);
}

const ENCODE: SupirStage = {
  name: 'encode',
  graph: 'denoise_encoder',
  isSeeded: false,
  ...encoder('denoise_encoder'),
  run: async (job) => ({ zLq: await latentOfPhoto(job, 'denoise_encoder', 'encode') }),
};

const STAGE1: SupirStage = {
  name: 'stage1',
  makesStage1: true,
  graph: 'decoder',
  isSeeded: false,
  ...decoder,
  async run(job, { zLq }) {
    const stage1 = await job.model.decode(zLq, ...tilesOf(job, 'stage1'));
    await job.events.picture?.('stage1', stage1, zLq);
    return { stage1 };
  },
};

const REENCODE: SupirStage = {
  name: 'reencode',
  graph: 'encoder',
  isSeeded: false,
  ...encoder('encoder'),
  run: async (job, { stage1 }) => ({ moments: await job.model.encode(stage1, 'encoder', ...tilesOf(job, 'reencode')) }),
};

/** The photo as it is, by SDXL's encoder: what sampling may begin with. */
const PHOTO: SupirStage = {
  name: 'photo',
  graph: 'encoder',
  isSeeded: false,
  ...encoder('encoder'),
  run: async (job) => ({ zPhoto: await latentOfPhoto(job, 'encoder', 'photo') }),
};

const TEXT: SupirStage = {
  name: 'text',
  graph: 'text',
  isSeeded: false,
  build: ({ conditioner }) => ({ ...conditioner.forward() }),
  plan({ model, options }) {
    const texts = Math.max(1, options.tilePrompts.length) + (isGuided(options) ? 1 : 0);
    return {
      tiling: 'whole',
      parts: texts,
      hostBytes: 0,
      programs: [{ plan: planned(model, { ...model.networks.conditioner.forward() }), runs: texts }],
    };
  },
  async run({ model, inputs, options, events: { signal } }) {
    const positives: TextConditioning[] = [];
    for (const text of [inputs.positive].flat()) positives.push(await model.condition(text, undefined, signal));
    return { positives, negative: isGuided(options) ? await model.condition(inputs.negative, undefined, signal) : null };
  },
};

/** Steps that are sampled. */
const stepsOf = (options: RestoreOptions): number => options.steps - stepsLeftOut(options, options.steps);

const SAMPLE: SupirStage = {
  name: 'sample',
  graph: 'denoiser',
  isSeeded: true,
  build: (networks, options, size) => denoiserGraph(networks, options, latentShape(networks.config, size)),
  plan({ model, options, size }) {
    const latent = latentShape(model.config, size);
    const windows = samplingWindows(model, latent, options.tile, options.tileStride);
    const [{ y0, y1, x0, x1 }] = windows ?? [{ y0: 0, y1: latent[1], x0: 0, x1: latent[2] }];
    const window = [1, y1 - y0, x1 - x0, latent[3]];
    const graph = denoiserGraph(model.networks, options, window);
    const cached = isCached(options);
    const denoiser = orSmallerTile(Math.max(window[1], window[2]), () => planned(model, graph, reusedWhere(cached)));
    const reuses = reusingSteps(stepsOf(options), options.cache);
    const count = windows?.length ?? 1;
    const program = { plan: denoiser, runs: stepsOf(options) * count };
    return {
      tiling: windows ? 'windows' : 'whole',
      parts: stepsOf(options),
      hostBytes: 0,
      ...(cached ? { reuses } : {}),
      programs: [cached ? { ...program, ...cachedRuns(graph, count, reuses) } : program],
    };
  },
  begunAt: ({ resume, options }) => (resume ? (resume.startStep - stepsLeftOut(options, options.steps)) / stepsOf(options) : 0),
  async run({ model, options, events, resume, wrap }: SupirJob, { zLq, zPhoto, moments, positives, negative }) {
    const random = new TorchRandom(options.seed);
    // The published program draws the stage-1 latent's noise on the CPU also where it has a GPU.
    const samplerRandom = options.rng === 'torch-cuda' ? new TorchCudaRandom(options.seed) : random;
    const zStage1 = sampleMoments(moments, channelsLastNoise(random, zLq.shape), model.config.vae.scale_factor);
    const windows = samplingWindows(model, zLq.shape, options.tile, options.tileStride);
    const settings = {
      moduleScales: moduleScalesOf(options, model.networks.projectModules),
      tap: events.trace,
      cachedWindows: isCached(options) ? (windows?.length ?? 1) : 0,
      signal: events.signal,
    };
    const denoiser = windows
      ? await tiledDenoiser(model, zLq, negative, positives, windows, settings)
      : await model.denoiser(zLq, negative, positives[0], settings);
    try {
      const data = await sample(wrap?.(denoiser.network) ?? denoiser.network, options, {
        noise: drawnAhead(() => channelsLastNoise(samplerRandom, zLq.shape)),
        noiseEveryStep: windows !== null,
        center: zStage1.data,
        begin: { noise: null, photo: zPhoto?.data ?? null, stage1: zStage1.data }[options.start],
        onStep: events.step,
        signal: events.signal,
        ...resume,
      });
      return { zStage1, latent: { data, shape: zLq.shape } };
    } finally {
      denoiser.dispose();
    }
  },
};

const DECODE: SupirStage = {
  name: 'decode',
  graph: 'decoder',
  isSeeded: true,
  ...decoder,
  async run(job, { latent, stage1 }) {
    return { image: fixColors(await job.model.decode(latent, ...tilesOf(job, 'decode')), stage1, job.options.colorFix) };
  },
};

/** Without guidance, in one piece. */
const PLAIN: RestoreOptions = { ...DEFAULTS, cfg: 1, cfgStart: 1, tile: 0 };

function denoiserInputs(config: SupirConfig, size: Size): Record<string, Tensor> {
  const { unet, text } = config;
  const latent = latentShape(config, size);
  return {
    x: input('x', latent),
    hint: input('hint', latent),
    timestep: input('timestep', [1, unet.model_channels]),
    context: input('context', [1, text.context_length, unet.context_dim]),
    vector: input('vector', [1, unet.adm_in_channels]),
  };
}

export const SUPIR: Method<SupirKind> = {
  name: 'SUPIR',
  options: OPTIONS,
  presets: PRESETS,
  needs: 'SDXL (a single file or a diffusers folder) and SUPIR-v0Q or v0F',
  published: SUPIR_SDXL,
  main: { graph: 'denoiser', title: 'Control network and UNet as one sampling step runs them' },
  plain: PLAIN,
  parts: {
    unet: {
      build(networks, size) {
        const { x, timestep, context, vector } = denoiserInputs(networks.config, size);
        return { eps: networks.model.diffusion_model.forward(x, timestep, context, vector, null) };
      },
    },
    control: {
      build(networks, size) {
        const { x, hint, timestep, context, vector } = denoiserInputs(networks.config, size);
        const features = networks.model.control_model.forward(x, hint, timestep, context, vector);
        return Object.fromEntries(features.map((feature, i) => [`feature${i}`, feature]));
      },
    },
  },
  assess(files) {
    const found = files.map(recognize);
    return {
      files: found.map(({ title, refusal, parts }) => (refusal ? null : { title, advice: partsAdvice(parts) })),
      missing: describeMissing(sourcesOf(found.filter(({ refusal }) => !refusal))) ?? null,
    };
  },
  joined(files) {
    const found = files.map(recognize);
    return found.every(({ refusal }) => !refusal) ? new Checkpoint(found.map(({ model }) => model)) : null;
  },
  // What its folders lack, its own opening tells.
  recognises: async () => true,
  async config(access, folder) {
    if (!(await filesIn(access, folder)).includes('config.json')) return SUPIR_SDXL;
    return readModelConfig(await readJson(await access.fileSource(`${folder}/config.json`), CONFIG_LIMITS), `${folder}/config.json`);
  },
  open: SupirModel.openFolder,
  networks: (config) => new Supir(config),
  choose: chooseOptions,
  label({ stage1Only, steps, seed, ablate }) {
    const off = ablate.length > 0 ? `, without module ${ablate.join(', ')}` : '';
    return stage1Only ? 'stage 1 only' : `${steps} steps, seed ${seed}${off}`;
  },
  steps: plannedSteps,
  sizes({ width: w, height: h, name, result }, { upscale, minSize }, { image_multiple: multiple }) {
    const { width, height, width0, height0 } = preparedSizes(w, h, { upscale, minSize, multiple, name, result });
    return { working: { width, height }, result: { width: width0, height: height0 } };
  },
  tiles(model, photo, options) {
    const { working } = this.sizes(framed(photo, options).framed, options, model.config);
    const [, height, width] = latentShape(model.config, working);
    const windows = samplingWindows(model, latentShape(model.config, working), options.tile, options.tileStride) ?? [];
    return windows.map(({ x0, y0, x1, y1 }) => ({ x: x0 / width, y: y0 / height, width: (x1 - x0) / width, height: (y1 - y0) / height }));
  },
  stages({ stage1Only, start }) {
    if (stage1Only) return [ENCODE, STAGE1];
    return [ENCODE, STAGE1, REENCODE, ...(start === 'photo' ? [PHOTO] : []), TEXT, SAMPLE, DECODE];
  },
  async inputs(model, photo, { working: { width, height } }, options, events) {
    const warning = unsuitable(options, model.baseNames, model.config);
    if (warning) await events.warning?.(warning);
    const image = { data: unitOf(photo, { width, height }, options.gamma), shape: [1, height, width, 3] };
    const prompts = options.tilePrompts.length > 0 ? options.tilePrompts : [options.prompt];
    const texts = await Promise.all(prompts.map((prompt) => cleanedPrompt(prompt + options.positive)));
    // Without guidance nobody reads it.
    const negative = isGuided(options) ? await cleanedPrompt(options.negative) : '';
    const inputs = { image, positive: texts.map((text) => model.tokens(text)), negative: model.tokens(negative) };
    if (options.stage1Only) return inputs;
    for (const text of isGuided(options) ? [...texts, negative] : texts) {
      const cut = model.cutOff(text);
      if (cut)
        await events.warning?.({
          code: 'prompt-cut',
          message: `The prompt is longer than ${inputs.negative.tower1.length} tokens; its end is ignored: "${shown(cut, 400)}"`,
        });
    }
    checkTexts(model, inputs, options);
    return inputs;
  },
  result: ({ stage1, image }) => ({ image: image ?? stage1!, stage1: stage1! }),
};

/** The network's input: of the photo's bytes as the published demo makes it, or of all the bits that the photo has. */
function unitOf(photo: Image, { width, height }: Size, gamma: number): Float32Array {
  const deep = prepareDeep(photo, width, height);
  if (deep) return deep.data.map((value) => 2 * value ** gamma - 1);
  const prepared = resize(opaque(photo), width, height, 'bicubic');
  return toUnit(gamma === 1 ? prepared : gammaCorrected(prepared, gamma)).data;
}

/** Runs all stages on images of one size. Throws as `runStages`, and UserError for texts that do not suit the tiles. */
export async function restoreImages(
  model: SupirModel,
  inputs: SupirInputs & { resume?: SamplerState | null },
  options: RestoreOptions,
  events: RestoreEvents = {},
  wrap?: (network: Network) => Network,
): Promise<Partial<SupirMade> & Pick<SupirMade, 'image' | 'stage1' | 'zLq'>> {
  if (!options.stage1Only) checkTexts(model, inputs, options);
  const job: SupirJob = { model, inputs, options, events, resume: inputs.resume ?? null, wrap };
  const { made } = await runStages(SUPIR.stages(options), job, new Results<SupirMade>());
  return { ...made, zLq: made.zLq!, ...SUPIR.result(made) };
}

function checkTexts(model: SupirModel, { image, positive }: SupirInputs, options: RestoreOptions): void {
  const [, height, width] = image.shape;
  const windows = samplingWindows(model, latentShape(model.config, { width, height }), options.tile, options.tileStride);
  checkPrompts([positive].flat().length, windows);
}

function denoiserGraph(networks: Supir, options: RestoreOptions, shape: Shape): Record<string, Tensor> {
  const scales = moduleScalesOf(options, networks.projectModules);
  const build = () => networks.denoiserGraph(shape, networks.config.text.context_length, isGuided(options) ? 2 : 1, scales !== null);
  return tracedDenoiser(networks.model.diffusion_model, isCached(options), build).graph;
}

const planned = ({ loras, device }: SupirModel, graph: Record<string, Tensor>, options: PlanOptions = {}): Plan =>
  plan(loras.apply(graph), device.facts, device.gpu.limits, options);

/** What `plan` returns; where a tensor is too large for the adapter, says which tile to try. */
function orSmallerTile(side: number, plan: () => Plan): Plan {
  try {
    return plan();
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    const tile = Math.ceil(side / 32) * 16;
    throw new ShapeError(`The stage 'sample' does not fit: ${sentence(error.message)} Try a tile of ${tile}.`, {
      code: 'sampling-too-large',
      option: 'tile',
      values: { tile },
      cause: error,
    });
  }
}

function fixColors(content: Values, style: Values, fix: RestoreOptions['colorFix']): Values {
  if (fix === 'none') return content;
  const apply = { wavelet: waveletColorFix, adain: adainColorFix, lab: labColorFix }[fix];
  const fixed = new Float32Array(content.data.length);
  images(content).forEach((image: FloatImage, i) => {
    fixed.set(apply(image, images(style)[i]).data, i * image.data.length);
  });
  return { shape: content.shape, data: fixed };
}
