/** The golden operations that run on the host: random numbers, embeddings, schedules, guidance, tiles, images, colour fix and metrics. */
import { TorchRandom } from '../core/random.ts';
import { gaussianBlur } from '../image/blur.ts';
import { adainColorFix, waveletBlur, waveletColorFix, waveletDecomposition } from '../image/color-fix.ts';
import type { FloatImage, Image } from '../image/image.ts';
import { psnr, ssim } from '../image/metrics.ts';
import { finish, fixResize, prepare, upscaleImage } from '../image/prepare.ts';
import { resize, resizeBicubic } from '../image/resize.ts';
import { sizeEmbedding, timestepEmbedding } from '../models/timestep-embedding.ts';
import { scalingAt } from '../sampler/denoiser.ts';
import { classifierFree, linearScale } from '../sampler/guidance.ts';
import { karrasSigmas, NoiseSchedule } from '../sampler/schedule.ts';
import { tileWeights, tileWindows } from '../sampler/tiles.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, toChannelsFirst, toChannelsLast } from './golden.ts';

const schedule = new NoiseSchedule();

async function numbers(entry: CaseEntry, context: VerifyContext, name: string): Promise<number[]> {
  return Array.from((await context.input(entry, name)).data);
}

/** A stored (H, W, 3) u8 tensor. */
async function image(entry: CaseEntry, context: VerifyContext, name: string): Promise<Image> {
  const { data, shape } = await context.input(entry, name);
  return { width: shape[1], height: shape[0], data: Uint8Array.from(data) };
}

/** A stored (N, C, H, W) or (C, H, W) tensor as N images. */
async function floatImages(entry: CaseEntry, context: VerifyContext, name: string): Promise<FloatImage[]> {
  const golden = await context.input(entry, name);
  const { data, shape } = toChannelsLast({ data: golden.data, shape: golden.shape.length === 3 ? [1, ...golden.shape] : golden.shape });
  const [n, height, width, channels] = shape;
  const size = height * width * channels;
  return Array.from({ length: n }, (_, i) => ({ width, height, channels, data: data.subarray(i * size, (i + 1) * size) }));
}

/** Images of one size -> (N, C, H, W) values */
function planes(images: FloatImage[]): Float32Array {
  const { width, height, channels } = images[0];
  const data = new Float32Array(images.length * width * height * channels);
  images.forEach((each, i) => {
    data.set(each.data, i * each.data.length);
  });
  return toChannelsFirst(data, [images.length, height, width, channels]);
}

const fraction = ({ width, height, data }: Image): FloatImage => ({
  width,
  height,
  channels: 3,
  data: Float32Array.from(data, (v) => v / 255),
});

/** `torch.manual_seed(seed)`, then the listed draws in order; each but a reseed is an output. */
async function draws({ config, outputs }: CaseEntry): Promise<Results> {
  const list = config.draws as { kind: 'reseed' | 'uint32' | 'rand' | 'randn' | 'randn_like'; shape?: number[] }[];
  let random = new TorchRandom(config.seed);
  const drawn: ArrayLike<number>[] = [];
  for (const { kind, shape = [] } of list) {
    const n = shape.reduce((a, b) => a * b, 1);
    if (kind === 'reseed') random = new TorchRandom(config.seed);
    else if (kind === 'uint32') drawn.push(Array.from({ length: n }, () => random.uint32()));
    else drawn.push(kind === 'rand' ? random.rand(n) : random.randn(n));
  }
  return Object.fromEntries(Object.keys(outputs).map((name, i) => [name, drawn[i]]));
}

/** x holds two negative images, then two positive ones. */
async function guided(entry: CaseEntry, context: VerifyContext, scale: (image: number) => number): Promise<Results> {
  const x = Float32Array.from(await numbers(entry, context, 'x'));
  const size = x.length / 4;
  const part = (i: number) => x.slice(i * size, (i + 1) * size);
  return { out: [0, 1].flatMap((i) => [...classifierFree(part(i), part(i + 2), scale(i))]) };
}

async function quantise(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const scalings = (await numbers(entry, context, 'sigma')).map((sigma) => scalingAt(schedule, sigma));
  const timesteps = scalings.map(({ timestep }) => timestep);
  return {
    idx: timesteps,
    timestep: timesteps,
    sigma: scalings.map(({ sigma }) => sigma),
    c_skip: scalings.map(({ cSkip }) => cSkip),
    c_out: scalings.map(({ cOut }) => cOut),
    c_in: scalings.map(({ cIn }) => cIn),
  };
}

async function weightsOfTile({ config }: CaseEntry): Promise<Results> {
  const n: number = config.tile_size;
  const weights = tileWeights(n, n);
  return { weights, row64: weights.slice(64 * n, 65 * n), column64: Array.from({ length: n }, (_, y) => weights[y * n + 64]) };
}

async function sizesEmbedded(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { data, shape } = await context.input(entry, 'x');
  const [rows, k] = shape;
  const lists = Array.from({ length: rows }, (_, r) => Array.from(data.subarray(r * k, (r + 1) * k)));
  return { emb: sizeEmbedding(lists, entry.config.outdim) };
}

async function colorFixed(entry: CaseEntry, context: VerifyContext, fix: (a: FloatImage, b: FloatImage) => FloatImage): Promise<Results> {
  const [contents, styles] = [await floatImages(entry, context, 'content'), await floatImages(entry, context, 'style')];
  return { out: planes(contents.map((content, i) => fix(content, styles[i]))) };
}

async function decomposition(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const parts = (await floatImages(entry, context, 'x')).map((x) => waveletDecomposition(x));
  return { high: planes(parts.map(({ high }) => high)), low: planes(parts.map(({ low }) => low)) };
}

async function prepared(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { upscale, min_size: minSize, fix_resize: shortSide } = entry.config;
  const result = prepare(await image(entry, context, 'image'), { upscale, minSize, shortSide });
  return { x_u8: result.image.data, h0_w0: [result.height0, result.width0] };
}

async function finished(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const [x] = await floatImages(entry, context, 'x');
  const { w0, h0 } = entry.config;
  return { resized: planes([resizeBicubic(x, w0, h0)]), u8: finish(x, w0, h0).data };
}

async function blurred(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { sigma, kernel_size: kernelSize, padding } = entry.config;
  const border = padding.startsWith('symmetric') ? 'symmetric' : 'reflect';
  return { out: planes([gaussianBlur(fraction(await image(entry, context, 'image')), sigma, { kernelSize, border })]) };
}

async function similarity(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { channels, gaussian_weights: gaussian } = entry.config;
  const [a, b] = [await image(entry, context, 'a'), await image(entry, context, 'b')];
  return { value: [entry.op === 'psnr' ? psnr(a, b, channels) : ssim(a, b, { channels, window: gaussian ? 'gaussian' : 'uniform' })] };
}

export const hostOperations: Record<string, Operation> = {
  torch_cpu_rand: draws,
  torch_cpu_randn: draws,
  timestep_embedding: async (entry, context) => ({ emb: timestepEmbedding(await numbers(entry, context, 't'), entry.config.dim) }),
  concat_timestep_embedder_nd: sizesEmbedded,
  sigmas_ddpm: async ({ config }) => ({ sigmas: schedule.steps(config.n) }),
  sigmas_karras: async ({ config }) => ({ sigmas: karrasSigmas(config.n, config.sigma_min, config.sigma_max, config.rho) }),
  denoiser_sigmas: async () => ({ sigmas_ascending: schedule.sigmas }),
  quantise_sigma: quantise,
  linear_cfg_scale: async (entry, context) => ({
    scale: (await numbers(entry, context, 'sigma')).map((sigma) => linearScale(entry.config.scale, entry.config.scale_min, sigma)),
  }),
  guider_linear_cfg: async (entry, context) => {
    const sigmas = await numbers(entry, context, 'sigma');
    return guided(entry, context, (i) => linearScale(entry.config.scale, entry.config.scale_min, sigmas[i]));
  },
  guider_vanilla_cfg: (entry, context) => guided(entry, context, () => entry.config.scale),
  tile_windows: async ({ config: { h, w, tile_size, tile_stride } }) => ({
    windows: tileWindows(h, w, tile_size, tile_stride).flatMap(({ y0, y1, x0, x1 }) => [y0, y1, x0, x1]),
  }),
  tile_weights: weightsOfTile,
  wavelet_reconstruction: (entry, context) => colorFixed(entry, context, (a, b) => waveletColorFix(a, b, entry.config.levels)),
  adain: (entry, context) => colorFixed(entry, context, adainColorFix),
  wavelet_decomposition: decomposition,
  wavelet_blur: async (entry, context) => ({
    out: planes((await floatImages(entry, context, 'x')).map((x) => waveletBlur(x, entry.config.radius))),
  }),
  pil2tensor: prepared,
  tensor2pil: finished,
  upscale_image: async (entry, context) => {
    const { upscale, min_size: minSize, unit_resolution: multiple } = entry.config;
    return { u8: upscaleImage(await image(entry, context, 'image'), { upscale, minSize, multiple }).data };
  },
  fix_resize: async (entry, context) => ({
    u8: fixResize(await image(entry, context, 'image'), entry.config.size, entry.config.unit_resolution).data,
  }),
  pil_resize: async (entry, context) => {
    const { w, h, filter } = entry.config;
    return { u8: resize(await image(entry, context, 'image'), w, h, filter).data };
  },
  torch_bicubic: async (entry, context) => {
    const { w, h, antialias } = entry.config;
    return { out: planes([resizeBicubic(fraction(await image(entry, context, 'image')), w, h, { antialias })]) };
  },
  gaussian_blur: blurred,
  psnr: similarity,
  ssim: similarity,
};
