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
import { TorchRandom } from '../core/random.ts';
import { adainColorFix, waveletColorFix } from '../image/color-fix.ts';
import type { FloatImage } from '../image/image.ts';
import type { TokenPair } from '../models/conditioner.ts';
import type { Network } from '../sampler/denoiser.ts';
import { sampleEdm } from '../sampler/edm.ts';
import type { SamplerOptions, SamplerStep } from '../sampler/sampler.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import type { Networks, TextConditioning, Values } from './networks.ts';
import type { RestoreOptions } from './options.ts';

export type Stage = 'encode' | 'stage1' | 'reencode' | 'text' | 'plan' | 'sample' | 'decode';

/** Called as work goes on; awaited, so that a slow listener slows the work rather than queueing. */
export interface RestoreEvents {
  /** A stage begins. */
  stage?(stage: Stage): void | Promise<void>;
  /** The degradation-cleaned image is there. (N, H, W, 3) in [-1, 1], not clamped. */
  stage1?(image: Values): void | Promise<void>;
  /** A sampling step is done. */
  step?(step: SamplerStep): void | Promise<void>;
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
  positive: TextConditioning | null;
  negative: TextConditioning | null;
}

export interface RestoreInputs {
  /** Degraded images (N, H, W, 3) in [-1, 1]; sides multiples of the model's image_multiple. */
  image: Values;
  positive: TokenPair;
  negative: TokenPair;
}

/** A sampler run from its network and options; EDM unless told otherwise. */
export type Sample = (
  network: Network,
  schedule: NoiseSchedule,
  options: SamplerOptions & { center: Float32Array },
) => Promise<Float32Array>;

/** Runs all stages. Throws the signal's reason when aborted, DeviceError when the GPU fails; every GPU buffer but the weights is freed. */
export async function restoreImages(
  networks: Networks,
  inputs: RestoreInputs,
  options: RestoreOptions,
  events: RestoreEvents = {},
  sample: Sample = edm(options),
): Promise<RestoredImages> {
  const scale = networks.supir.config.vae.scale_factor;
  const random = new TorchRandom(options.seed);
  const begin = async (stage: Stage) => {
    events.signal?.throwIfAborted();
    await events.stage?.(stage);
  };

  await begin('encode');
  const { mean } = await networks.encode(inputs.image, 'denoise_encoder');
  const zLq = map(mean, (value) => value * scale);
  await begin('stage1');
  const stage1 = await networks.decode(zLq);
  await events.stage1?.(stage1);
  if (options.stage1Only) return { image: stage1, zLq, stage1, zStage1: null, latent: null, positive: null, negative: null };

  const noise = () => channelsLastNoise(random, zLq.shape);
  await begin('reencode');
  const zStage1 = sampleMoments(await networks.encode(stage1, 'encoder'), noise(), scale);

  await begin('text');
  const positive = await networks.condition(inputs.positive);
  const negative = await networks.condition(inputs.negative);

  await begin('plan');
  const denoiser = await networks.denoiser(zLq, negative, positive);
  let data: Float32Array;
  try {
    await begin('sample');
    data = await sample(denoiser.network, new NoiseSchedule(), {
      steps: options.steps,
      noise,
      cfg: options.cfg,
      cfgStart: options.cfgStart,
      controlScale: options.control,
      sNoise: options.sNoise,
      center: zStage1.data,
      onStep: events.step,
      signal: events.signal,
    });
  } finally {
    denoiser.dispose();
  }
  const latent = { data, shape: zLq.shape };

  await begin('decode');
  const image = fixColors(await networks.decode(latent), stage1, options.colorFix);
  return { image, zLq, stage1, zStage1, latent, positive, negative };
}

/** The default: EDM with the restoration's options. */
export function edm({ churn, restoration, controlLinear, controlStart }: RestoreOptions): Sample {
  return (network, schedule, options) =>
    sampleEdm(network, schedule, { ...options, sChurn: churn, restoreCfg: restoration, ...(controlLinear ? { controlStart } : {}) });
}

/** scale (mean + exp(logvar / 2) noise), logvar clamped to [-30, 20]. */
export function sampleMoments({ mean, logvar }: { mean: Values; logvar: Values }, noise: Float32Array, scale: number): Values {
  return map(mean, (value, i) => scale * (value + Math.exp(Math.min(20, Math.max(-30, logvar.data[i])) / 2) * noise[i]));
}

function map(values: Values, f: (value: number, i: number) => number): Values {
  return { shape: values.shape, data: values.data.map(f) };
}

/** Unit-normal noise drawn in the reference's order (N, C, H, W), laid out (N, H, W, C). */
function channelsLastNoise(random: TorchRandom, [n, h, w, c]: readonly number[]): Float32Array {
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
