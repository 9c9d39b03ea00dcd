/**
 * SUPIR's restoration, stage by stage, on host arrays. (arXiv 2401.13627, sec. 3)
 *
 * 1. The denoise encoder reads the degraded image; its mean is the control latent.
 * 2. Decoding that gives the stage-1 image: degradation removed, nothing invented.
 * 3. The stage-1 image, encoded by SDXL's own encoder and sampled, is what restoration guidance pulls to.
 * 4. The text towers read the prompts.
 * 5. The sampler turns noise into the restored latent, which is decoded.
 * 6. Colours are taken from the stage-1 image.
 */
import { TorchCudaRandom } from '../core/philox.ts';
import { TorchRandom } from '../core/random.ts';
import { adainColorFix, waveletColorFix } from '../image/color-fix.ts';
import type { FloatImage } from '../image/image.ts';
import type { TokenPair } from '../models/conditioner.ts';
import { latentFactor } from '../models/config.ts';
import type { Network } from '../sampler/denoiser.ts';
import { sampleDpmpp2m } from '../sampler/dpmpp-2m.ts';
import { sampleEdm } from '../sampler/edm.ts';
import { sampleEuler } from '../sampler/euler.ts';
import type { SamplerOptions, SamplerStep } from '../sampler/sampler.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import type { Networks, Tap, TextConditioning, Values } from './networks.ts';
import { isGuided, moduleScalesOf, type RestoreOptions, vaeTilingOf } from './options.ts';
import type { SamplerState } from './run-state.ts';
import { checkPrompts, samplingWindows, tiledDenoiser } from './tiled-denoiser.ts';

export type Stage = 'encode' | 'stage1' | 'reencode' | 'text' | 'plan' | 'sample' | 'decode';

/** Called as work goes on; awaited, so that a slow listener slows the work rather than queueing. */
export interface RestoreEvents {
  /** Something that the person should know and that does not stop the work. */
  warning?(text: string): void | Promise<void>;
  /** A stage begins. */
  stage?(stage: Stage): void | Promise<void>;
  /** The degradation-cleaned image is there, (N, H, W, 3) in [-1, 1], not clamped, and the latent (N, h, w, z) that it was decoded from. */
  stage1?(image: Values, latent: Values): void | Promise<void>;
  /** A tile of the autoencoder is done, of so many in this stage; not called when it runs whole. */
  tile?(done: number, of: number): void | Promise<void>;
  /** A sampling step is done. */
  step?(step: SamplerStep): void | Promise<void>;
  /** Takes activations out of UNet and control network. */
  trace?: Tap;
  signal?: AbortSignal;
}

export interface RestoredImages {
  /** (N, H, W, 3) in [-1, 1], not clamped, colours fixed. */
  image: Values;
  /** Intermediate results in unit scale, channels-last. */
  zLq: Values;
  stage1: Values;
  zStage1: Values | null;
  latent: Values | null;
  /** With a text for each tile, the first one's. */
  positive: TextConditioning | null;
  /** Null also without guidance. */
  negative: TextConditioning | null;
}

export interface RestoreInputs {
  /** Degraded images (N, H, W, 3) in [-1, 1]; sides multiples of the model's image_multiple. */
  image: Values;
  /** One text for the whole image, or one for each tile of the latent, row by row. */
  positive: TokenPair | TokenPair[];
  negative: TokenPair;
  /** Where an interrupted run of the same inputs and options goes on. */
  resume?: SamplerState | null;
}

/** A sampler run from its network and options; `center` and `noiseEveryStep` (of tiled sampling) matter to EDM only. */
export type Sample = (
  network: Network,
  schedule: NoiseSchedule,
  options: SamplerOptions & { center: Float32Array; noiseEveryStep: boolean; denoised?: Float32Array },
) => Promise<Float32Array>;

/** Runs all stages. Throws the signal's reason when aborted, DeviceError when the GPU fails; every GPU buffer but the weights is freed. */
export async function restoreImages(
  networks: Networks,
  inputs: RestoreInputs,
  options: RestoreOptions,
  events: RestoreEvents = {},
  sample: Sample = samplerOf(options),
): Promise<RestoredImages> {
  const scale = networks.supir.config.vae.scale_factor;
  const random = new TorchRandom(options.seed);
  // The published program draws the stage-1 latent's noise on the CPU also where it has a GPU.
  const samplerRandom = options.rng === 'torch-cuda' ? new TorchCudaRandom(options.seed) : random;
  const begin = async (stage: Stage) => {
    events.signal?.throwIfAborted();
    await events.stage?.(stage);
  };

  const tiling = vaeTilingOf(options);
  const denoiserOptions = { moduleScales: moduleScalesOf(options, networks.projectModules), tap: events.trace, signal: events.signal };
  const tileEvents = { signal: events.signal, onTile: events.tile };

  const [n, height, width] = inputs.image.shape;
  const factor = latentFactor(networks.supir.config);
  const windows = samplingWindows(networks, [n, height / factor, width / factor], options.tile, options.tileStride);
  if (!options.stage1Only) checkPrompts([inputs.positive].flat().length, windows);

  await begin('encode');
  const { mean } = await networks.encode(inputs.image, 'denoise_encoder', tiling, tileEvents);
  const zLq = map(mean, (value) => value * scale);
  await begin('stage1');
  const stage1 = await networks.decode(zLq, tiling, tileEvents);
  await events.stage1?.(stage1, zLq);
  if (options.stage1Only) return { image: stage1, zLq, stage1, zStage1: null, latent: null, positive: null, negative: null };

  await begin('reencode');
  const moments = await networks.encode(stage1, 'encoder', tiling, tileEvents);
  const zStage1 = sampleMoments(moments, channelsLastNoise(random, zLq.shape), scale);

  await begin('text');
  const positives: TextConditioning[] = [];
  for (const text of [inputs.positive].flat()) positives.push(await networks.condition(text, undefined, events.signal));
  const negative = isGuided(options) ? await networks.condition(inputs.negative, undefined, events.signal) : null;

  await begin('plan');
  const denoiser = windows
    ? await tiledDenoiser(networks, zLq, negative, positives, windows, denoiserOptions)
    : await networks.denoiser(zLq, negative, positives[0], denoiserOptions);
  let data: Float32Array;
  try {
    await begin('sample');
    data = await sample(denoiser.network, new NoiseSchedule(), {
      steps: options.steps,
      noise: () => channelsLastNoise(samplerRandom, zLq.shape),
      noiseEveryStep: windows !== null,
      cfg: options.cfg,
      cfgStart: options.cfgStart,
      controlScale: options.control,
      sNoise: options.sNoise,
      center: zStage1.data,
      onStep: events.step,
      signal: events.signal,
      ...inputs.resume,
    });
  } finally {
    denoiser.dispose();
  }
  const latent = { data, shape: zLq.shape };

  await begin('decode');
  const image = fixColors(await networks.decode(latent, tiling, tileEvents), stage1, options.colorFix);
  return { image, zLq, stage1, zStage1, latent, positive: positives[0], negative };
}

/** The sampler that the options name, with what only it understands. */
export function samplerOf({ sampler, churn, restoration, controlLinear, controlStart }: RestoreOptions): Sample {
  if (sampler === 'dpmpp2m') return sampleDpmpp2m;
  if (sampler === 'euler') return sampleEuler;
  const own = { sChurn: churn, restoreCfg: restoration, ...(controlLinear ? { controlStart } : {}) };
  return (network, schedule, options) => sampleEdm(network, schedule, { ...options, ...own });
}

/** scale (mean + exp(logvar / 2) noise), logvar clamped to [-30, 20]. */
export function sampleMoments({ mean, logvar }: { mean: Values; logvar: Values }, noise: Float32Array, scale: number): Values {
  return map(mean, (value, i) => scale * (value + Math.exp(Math.min(20, Math.max(-30, logvar.data[i])) / 2) * noise[i]));
}

function map(values: Values, f: (value: number, i: number) => number): Values {
  return { shape: values.shape, data: values.data.map(f) };
}

/** Unit-normal noise drawn in the reference's order (N, C, H, W), laid out (N, H, W, C). */
function channelsLastNoise(random: { randn(n: number): Float32Array }, [n, h, w, c]: readonly number[]): Float32Array {
  const drawn = random.randn(n * c * h * w);
  const noise = new Float32Array(drawn.length);
  for (let i = 0, from = 0; i < n; i++) {
    for (let channel = 0; channel < c; channel++) {
      for (let pixel = 0; pixel < h * w; pixel++, from++) noise[(i * h * w + pixel) * c + channel] = drawn[from];
    }
  }
  return noise;
}

function fixColors(content: Values, style: Values, fix: RestoreOptions['colorFix']): Values {
  if (fix === 'none') return content;
  const apply = fix === 'wavelet' ? waveletColorFix : adainColorFix;
  const fixed = new Float32Array(content.data.length);
  images(content).forEach((image, i) => {
    fixed.set(apply(image, images(style)[i]).data, i * image.data.length);
  });
  return { shape: content.shape, data: fixed };
}

/** The images of a batch (N, H, W, C), sharing its memory. */
export function images({ data, shape: [n, height, width, channels] }: Values): FloatImage[] {
  const size = height * width * channels;
  return Array.from({ length: n }, (_, i) => ({ width, height, channels, data: data.subarray(i * size, (i + 1) * size) }));
}
