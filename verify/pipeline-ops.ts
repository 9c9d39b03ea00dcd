/** The golden operations that run many steps: a sampler with the networks, and the whole restoration from image to image. */

import { UserError } from '../core/errors.ts';
import { TorchRandom } from '../core/random.ts';
import { fromUnit } from '../image/image.ts';
import type { TokenPair } from '../models/conditioner.ts';
import type { TextConfig } from '../models/config.ts';
import { images, type TextConditioning, type Values } from '../restore/networks.ts';
import { type ColorFix, DEFAULTS, type RestoreOptions, vaeTilingOf } from '../restore/options.ts';
import { restoreImages, type SupirMade } from '../restore/supir.ts';
import { samplingWindows, tiledDenoiser } from '../restore/tiled-denoiser.ts';
import type { Network } from '../sampler/denoiser.ts';
import { sampleDpmpp2m } from '../sampler/dpmpp-2m.ts';
import { sampleEdm } from '../sampler/edm.ts';
import type { SamplerOptions, SamplerStep } from '../sampler/sampler.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, toChannelsFirst, toChannelsLast, unitImage } from './golden.ts';

const schedule = new NoiseSchedule();

/** Notes what each step sees and gives, under the names of the recorded runs. Latents are (N, h, w, z) of `shape`. */
class StepNotes {
  readonly results: Results = {};
  private readonly shape: readonly number[];
  private step = 0;

  constructor(shape: readonly number[]) {
    this.shape = shape;
  }

  /** The same network, with the noisy latent it is given noted. */
  watch(network: Network): Network {
    return (seen) => {
      const unscale = Math.sqrt(schedule.sigmas[seen.timestep] ** 2 + 1);
      this.results[`step${this.step}/x_in`] = this.first(seen.x.map((value) => value * unscale));
      return network(seen);
    };
  }

  readonly onStep = ({ denoised, latent, sigmaHat, controlScale }: SamplerStep): void => {
    const name = `step${this.step++}`;
    this.results[`${name}/denoised`] = this.first(denoised);
    this.results[`${name}/x_next`] = this.first(latent);
    this.results[`${name}/sigma_in`] = new Array(this.shape[0]).fill(sigmaHat);
    this.results[`${name}/control_scale`] = [controlScale];
  };

  private first(latent: Float32Array): Float32Array {
    return toChannelsFirst(latent, this.shape);
  }
}

async function sampler(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { config } = entry;
  const values = async (name: string): Promise<Values> => {
    const golden = await context.input(entry, name);
    return golden.shape.length === 4 ? toChannelsLast(golden) : { data: Float32Array.from(golden.data), shape: golden.shape };
  };
  const conditioning = async (prefix: string) => ({
    context: await values(`${prefix}_crossattn`),
    vector: await values(`${prefix}_vector`),
  });
  const noises = [await values('noised_z')];
  for (const name of entry.noise ?? []) noises.push(toChannelsLast(await context.folder.tensor(entry, name)));
  const center = await values('x_center');
  const notes = new StepNotes(center.shape);
  let drawn = 0;
  const options: SamplerOptions = {
    steps: config.steps,
    noise: () => {
      if (drawn === noises.length) throw new UserError(`${entry.id}: the sampler draws noise more than ${noises.length} times.`);
      return noises[drawn++].data;
    },
    cfg: config.cfg,
    cfgStart: config.cfg_start,
    controlScale: config.control_scale,
    sNoise: config.s_noise,
    onStep: notes.onStep,
  };
  const edmOptions = {
    ...options,
    sChurn: config.s_churn,
    sTmin: config.s_tmin,
    sTmax: config.s_tmax,
    restoreCfg: config.restore_cfg,
    restoreSigmaMin: config.restore_cfg_s_tmin,
    controlStart: config.linear_control ? config.control_start : undefined,
    center: center.data,
    noiseEveryStep: isTiled(entry),
  };
  const model = await context.model(entry);
  const windows = samplingWindows(model, center.shape, config.tile_size ?? 0, config.tile_stride ?? 0);
  const positives: TextConditioning[] = [];
  if (config.local) for (const i of windows!.keys()) positives.push(await conditioning(`tile${i}`));
  else positives.push(await conditioning('c'));
  const [control, negative] = [await values('control'), await conditioning('uc')];
  const denoiser = windows
    ? await tiledDenoiser(model, control, negative, positives, windows)
    : await model.denoiser(control, negative, positives[0]);
  try {
    const network = notes.watch(denoiser.network);
    const run = isDpmpp2m(entry) ? sampleDpmpp2m(network, schedule, options) : sampleEdm(network, schedule, edmOptions);
    const final = toChannelsFirst(await run, center.shape);
    if (drawn < noises.length)
      throw new UserError(`${entry.id}: the sampler drew noise ${drawn} times, and ${noises.length} are recorded.`);
    return { final, ...notes.results };
  } finally {
    denoiser.dispose();
  }
}

const isDpmpp2m = ({ config }: CaseEntry): boolean => config.kind.endsWith('RestoreDPMPP2MSampler');
const isTiled = ({ config }: CaseEntry): boolean => config.kind.startsWith('Tiled');

const COLOR_FIX: Record<string, ColorFix> = { Wavelet: 'wavelet', AdaIn: 'adain', None: 'none' };

async function batchifySample(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { config } = entry;
  await checkNoise(entry, context);
  const model = await context.model(entry);
  const ids = async (name: string) => Array.from((await context.input(entry, name)).data);
  const { text } = model.config;
  const options: RestoreOptions = {
    ...DEFAULTS,
    sampler: isDpmpp2m(entry) ? 'dpmpp2m' : 'edm',
    tile: config.tile?.tile_size ?? 0,
    tileStride: config.tile?.tile_stride ?? 0,
    vaeTiling: config.tile_vae ? 'published' : 'off',
    ...(config.tile_vae && { encoderTile: config.tile_vae[0], decoderTile: config.tile_vae[1] }),
    steps: config.steps,
    cfg: config.cfg_scale,
    cfgStart: config.use_linear_CFG ? config.cfg_scale_start : config.cfg_scale,
    controlScale: config.control_scale,
    controlLinear: config.use_linear_control_scale ?? false,
    controlStart: config.control_scale_start ?? 0,
    restoreCfg: config.restoration_scale,
    sChurn: config.s_churn,
    sNoise: config.s_noise,
    seed: config.seed,
    colorFix: COLOR_FIX[config.color_fix_type],
  };
  const texts: number[][] = [];
  for (let i = 0; i < (config.local ?? 1); i++) texts.push(await ids(config.local ? `p_ids_tile${i}` : 'p_ids'));
  const quality = await ids('p_p_ids');
  const inputs = {
    image: repeated(unitImage(await context.input(entry, 'image')), config.num_samples ?? 1),
    positive: texts.map((own) => padded([...own, ...quality], text)),
    negative: padded(await ids('n_p_ids'), text),
  };
  const notes = new StepNotes(config.noise_shapes[0].map((_: number, axis: number) => config.noise_shapes[0][[0, 2, 3, 1][axis]]));
  const result = await restoreImages(model, inputs, options, { step: notes.onStep }, (network) => notes.watch(network));
  const before: Results =
    'before_color_fix' in entry.outputs ? { before_color_fix: first(await model.decode(result.latent!, vaeTilingOf(options))) } : {};
  return { ...outputsOf(result), ...before, ...notes.results };
}

function outputsOf({ image, zLq, stage1, zStage1, latent, positives, negative }: Partial<SupirMade>): Results {
  return {
    samples: first(image!),
    samples_u8: images(image!).flatMap((each) => [...fromUnit(each, 'truncate').data]),
    z_denoise: first(zLq!),
    // The same image for every sample of a batch, recorded once.
    x_stage1: first({ data: images(stage1!)[0].data, shape: [1, ...stage1!.shape.slice(1)] }),
    z_stage1: first(zStage1!),
    latent: first(latent!),
    c_crossattn: positives![0].context.data,
    c_vector: positives![0].vector.data,
    uc_crossattn: negative!.context.data,
    uc_vector: negative!.vector.data,
  };
}

const first = ({ data, shape }: Values): Float32Array => toChannelsFirst(data, shape);

function repeated({ data, shape: [, ...rest] }: Values, times: number): Values {
  const batch = new Float32Array(times * data.length);
  for (let i = 0; i < times; i++) batch.set(data, i * data.length);
  return { data: batch, shape: [times, ...rest] };
}

/** A text's ids between start and end token, padded as each tower wants it. */
function padded(ids: number[], { sot, eot, context_length }: TextConfig): TokenPair {
  const framed = (filler: number) => [sot, ...ids, eot, ...new Array(context_length - ids.length - 2).fill(filler)];
  return { tower1: framed(eot), tower2: framed(0) };
}

/** Largest difference between our normals and PyTorch's: their logarithms and cosines are not ours. */
const NOISE_TOLERANCE = 5e-6;

/** The recorded noise is what the seed gives, drawn in this order: the stage-1 latent's, the start's, then the steps'. */
async function checkNoise(entry: CaseEntry, { folder }: VerifyContext): Promise<void> {
  const random = new TorchRandom(entry.config.seed);
  for (const name of entry.noise ?? []) {
    const { data } = await folder.tensor(entry, name);
    const drawn = random.randn(data.length);
    const wrong = data.findIndex((value, i) => !(Math.abs(value - drawn[i]) <= NOISE_TOLERANCE));
    if (wrong >= 0) throw new UserError(`${entry.id}: seed ${entry.config.seed} gives ${drawn[wrong]} for ${data[wrong]} in ${name}.`);
  }
}

export const pipelineOperations: Record<string, Operation> = { sampler, batchify_sample: batchifySample };
