/** The golden operations of DiffBIR that run many steps: samplers with the networks, the picture's way in and out, and whole restorations. */
import { UserError } from '../core/errors.ts';
import type { FloatImage, Image } from '../image/image.ts';
import { padToMultiple } from '../image/pad.ts';
import { type CleanerConfig, cleanerOf, DiffBir } from '../models/diffbir.ts';
import { SCUNET } from '../models/scunet.ts';
import { SWINIR } from '../models/swinir.ts';
import {
  cleanPicture,
  DiffBirNetworks,
  finishPicture,
  latentWindows,
  resizeShortSide,
  restoreDiffBir,
  sampleDiffBir,
} from '../restore/diffbir.ts';
import { type Guidance, guidanceTo, weightsOf } from '../restore/diffbir-guidance.ts';
import { DIFFBIR_SAMPLERS } from '../restore/diffbir-options.ts';
import type { Values } from '../restore/networks.ts';
import { VAE_TILING } from '../restore/tiled-vae.ts';
import type { Network } from '../sampler/denoiser.ts';
import type { Diffusion } from '../sampler/diffusion.ts';
import { alphasCumprod } from '../sampler/schedule.ts';
import { cropWindow, tiledNetwork } from '../sampler/tiles.ts';
import { attach } from '../weights/attach.ts';
import { BSRNET, type Cleaners } from './cleaner-ops.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { diffbirConfig } from './diffbir-ops.ts';
import { type CaseEntry, toChannelsFirst, toChannelsLast, unitImage } from './golden.ts';

function cleanerConfig(entry: CaseEntry, { folder }: VerifyContext, kind: 'bsrnet' | 'swinir' | 'scunet'): CleanerConfig {
  const { bsrnet, swinir, scunet } = (folder.index.models[entry.weights!.model!].config ?? {}) as Cleaners;
  if (kind === 'bsrnet') return { kind: 'rrdb', ...(bsrnet ? { ...bsrnet, scale: bsrnet.sf, unshuffle: 1 } : BSRNET) };
  return kind === 'swinir' ? { kind, ...(swinir ?? SWINIR) } : { kind, ...(scunet ?? SCUNET) };
}

/** Networks with the case's weights, freed after use. */
async function withNetworks<T>(
  entry: CaseEntry,
  context: VerifyContext,
  kind: 'bsrnet' | 'swinir' | 'scunet',
  use: (networks: DiffBirNetworks) => Promise<T>,
): Promise<T> {
  const model = new DiffBir(diffbirConfig(entry, context));
  const config = cleanerConfig(entry, context, kind);
  const net = cleanerOf(config);
  const parts = entry.weights!.parts!;
  const part = (name: string) => context.folder.modelCheckpoint(entry.weights!.model!, [name]);
  if (parts.includes('sd')) attach(model.base, '', await part('sd'));
  if (parts.includes('control')) attach(model.control, '', await part('control'));
  if (parts.includes(kind)) attach(net, '', await part(kind));
  const zeroSnr: boolean = entry.config.zero_snr ?? entry.config.version === 'v2.1';
  try {
    return await use(new DiffBirNetworks(context.device, model, { net, config }, zeroSnr ? 'v' : 'eps'));
  } finally {
    for (const root of [model.base, model.control, net]) context.device.residency.releaseAll(root);
  }
}

async function sampler(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { config } = entry;
  const kind = DIFFBIR_SAMPLERS.find((name) => name === config.kind);
  if (!kind) throw new UserError(`There is no sampler ${config.kind}; there are ${DIFFBIR_SAMPLERS.join(', ')}.`);
  return withNetworks(entry, context, 'swinir', async (networks) => {
    const latent = async (name: string) => toChannelsLast(await context.input(entry, name));
    const text = async (name: string): Promise<Values> => {
      const { data, shape } = await context.input(entry, name);
      return { data: Float32Array.from(data), shape };
    };
    const draws = [await latent('x_T')];
    for (const name of entry.noise ?? []) draws.push(toChannelsLast(await context.folder.tensor(entry, name)));
    const hint = await latent('c_img');
    const { shape } = draws[0];
    const [n, , , z] = shape;
    const size: number | undefined = config.tile_size;
    const windows = latentWindows(shape, size ? { size, stride: config.tile_stride } : null);
    const hints = windows?.map((window) => cropWindow(hint.data, shape, window));
    const tile = windows ? [n, size!, size!, z] : shape;
    const denoiser = networks.denoiser({ shape: tile, data: hints?.[0] ?? hint.data }, await text('uc_txt'), await text('c_txt'));
    const results: Results = {};
    let calls = 0;
    const noted: Network = async (asked) => {
      const { negative, positive } = await denoiser.evaluate(asked);
      const name = `step${calls++}`;
      results[`${name}/x`] = toChannelsFirst(asked.x, shape);
      results[`${name}/t`] = new Array(n).fill(asked.timestep);
      results[`${name}/out_pos`] = toChannelsFirst(positive, shape);
      if (`${name}/out_neg` in entry.outputs && !asked.unguided) results[`${name}/out_neg`] = toChannelsFirst(negative, shape);
      return { negative, positive };
    };
    const network = windows ? tiledNetwork((asked, index) => denoiser.evaluate(asked, hints![index]), windows, shape) : noted;
    let drawn = 0;
    const guidance = config.guidance ? await guidanceOf(entry, context, networks) : null;
    try {
      const diffusion: Diffusion = {
        parameterization: config.parameterization ?? networks.diffusion.parameterization,
        alphasCumprod: alphasCumprod({ zeroTerminalSnr: config.zero_snr }),
      };
      const final = await sampleDiffBir(kind, network, diffusion, {
        ...samplingOf(config),
        correct: guidance?.correct,
        controlScale: config.strength ?? 1,
        noise: () => {
          if (drawn === draws.length) throw new UserError(`${entry.id}: the sampler draws noise more than ${draws.length} times.`);
          return draws[drawn++].data;
        },
      });
      return { ...results, final: toChannelsFirst(final, shape) };
    } finally {
      denoiser.dispose();
      guidance?.dispose();
    }
  });
}

async function guidanceOf(entry: CaseEntry, context: VerifyContext, networks: DiffBirNetworks) {
  const { loss, scale, t_start: start, t_stop: stop, space, repeat } = entry.config.guidance;
  return guidanceTo(networks, unitImage(await context.input(entry, 'target')), { loss, scale, start, stop, space, repeat });
}

/** The step that guidance takes between pictures, without a decoder. */
async function guidanceDelta(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const target = unitImage(await context.input(entry, 'target'));
  const pred = toChannelsLast(await context.input(entry, 'pred'));
  const size = pred.data.length;
  const delta = (loss: Guidance['loss']) => {
    const weights = weightsOf(target, loss);
    const steps = pred.data.map(
      (value, i) => (-3000 * entry.config.scale * 2 * weights[Math.floor(i / 3)] * (value - target.data[i])) / size,
    );
    return toChannelsFirst(steps, pred.shape);
  };
  return { weight: weightsOf(target, 'w_mse'), delta_w_mse: delta('w_mse'), delta_mse: delta('mse') };
}

/** A case's sampling options in our names. */
function samplingOf(config: Record<string, number | boolean | undefined>) {
  return {
    steps: config.steps as number,
    cfg: config.cfg_scale as number,
    rescaleCfg: config.rescale_cfg as boolean | undefined,
    sChurn: config.s_churn as number | undefined,
    sTmin: config.s_tmin as number | undefined,
    sTmax: config.s_tmax as number | undefined,
    sNoise: config.s_noise as number | undefined,
    eta: config.eta as number | undefined,
    order: config.order as number | undefined,
  };
}

async function picture(entry: CaseEntry, context: VerifyContext): Promise<Image> {
  const { data, shape } = await context.input(entry, 'image');
  return { width: shape[1], height: shape[0], data: Uint8Array.from(data) };
}

/** A stored (1, C, H, W) tensor, or a u8 picture (H, W, 3) or (1, H, W, 3) as values in [0, 1]. */
async function floatImage(entry: CaseEntry, context: VerifyContext, name: string): Promise<FloatImage> {
  const golden = await context.input(entry, name);
  if (golden.shape[golden.shape.length - 1] === 3) {
    const [height, width] = golden.shape.slice(-3);
    return { width, height, channels: 3, data: Float32Array.from(golden.data, (value) => value / 255) };
  }
  const { data, shape } = toChannelsLast(golden);
  return { height: shape[1], width: shape[2], channels: shape[3], data };
}

const planes = ({ data, width, height, channels }: FloatImage) => toChannelsFirst(data, [1, height, width, channels]);

/** 0 to 1 -> bytes, cut and not rounded, as the published program writes them. */
const bytes = ({ data }: FloatImage) => Array.from(data, (value) => Math.trunc(Math.min(255, Math.max(0, value * 255))));

async function cleaned(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { cleaner, min_side: minSide, tile_size: size, tile_stride: stride, upscale = 1 } = entry.config;
  const photo = await picture(entry, context);
  const options = { upscale, cleanerEnlarges: cleaner === 'bsrnet', minSide, cleanerTiles: size ? { size, stride } : null };
  return withNetworks(entry, context, cleaner, async (networks) => ({ y: planes((await cleanPicture(networks, photo, options)).cleaned) }));
}

async function restore(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { config } = entry;
  const { text } = diffbirConfig(entry, context);
  const tokens = (ids: number[]) => {
    const cut = [text.sot, ...ids.slice(0, text.context_length - 2), text.eot];
    return [...cut, ...new Array<number>(text.context_length - cut.length).fill(0)];
  };
  const photo = await picture(entry, context);
  const tiles = (asked: boolean, size: number, stride: number, factor = 1) =>
    asked ? { size: size / factor, stride: stride / factor } : null;
  const published = {
    ...VAE_TILING,
    how: 'published' as const,
    encoderTile: config.vae_encoder_tiled ? config.vae_encoder_tile_size : Number.MAX_SAFE_INTEGER,
    decoderTile: config.vae_decoder_tiled ? config.vae_decoder_tile_size / 8 : Number.MAX_SAFE_INTEGER,
  };
  const widened = config.vae_encoder_tiled || config.cldm_tiled;
  return withNetworks(entry, context, config.cleaner, async (networks) => {
    const result = await restoreDiffBir(networks, photo, tokens(config.pos_tokens), tokens(config.neg_tokens), {
      upscale: config.upscale,
      cleanerEnlarges: config.cleaner === 'bsrnet',
      minSide: config.min_side,
      sampler: config.sampler,
      strength: config.strength,
      start: config.start_point_type === 'cond' ? 'condition' : 'noise',
      noiseAugmentation: config.noise_aug ?? 0,
      samples: config.n_samples ?? 1,
      seed: config.seed,
      sampling: samplingOf(config),
      cleanerTiles: tiles(config.cleaner_tiled, config.cleaner_tile_size, config.cleaner_tile_stride),
      latentTiles: tiles(config.cldm_tiled, config.cldm_tile_size, config.cldm_tile_stride, 8),
      vaeTiling: config.vae_encoder_tiled || config.vae_decoder_tiled ? published : VAE_TILING,
      padding: widened ? 8 : 64,
    });
    const latent = ({ data, shape }: Values) => toChannelsFirst(data, shape);
    return {
      image_u8: result.images.flatMap(bytes),
      sample: result.images.flatMap((image) => [...planes(image)]),
      cleaned: planes(result.cleaned),
      c_img: latent(result.condition),
      z: latent(result.latent),
      decoded: latent(result.decoded),
    };
  });
}

export const diffbirPipelineOperations: Record<string, Operation> = {
  diffbir_sampler: sampler,
  guidance_delta: guidanceDelta,
  cleaner: cleaned,
  diffbir_restore: restore,

  resize_short_edge: async (entry, context) => ({
    out: planes(resizeShortSide(await floatImage(entry, context, 'image'), entry.config.size)),
  }),

  pad_to_multiple: async (entry, context) => ({
    out: planes(padToMultiple(await floatImage(entry, context, 'image'), entry.config.multiple, 'zero')),
  }),

  async diffbir_finish(entry, context) {
    const { w, h } = entry.config;
    const finished = finishPicture(await floatImage(entry, context, 'sample'), await floatImage(entry, context, 'cond'), w, h);
    return { sample: planes(finished), u8: bytes(finished) };
  },
};
