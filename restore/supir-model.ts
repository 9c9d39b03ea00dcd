/**
 * SUPIR as a model on a device: opened from a folder whose config.json tells sizes and file names, or from files of the published model in any
 * layout, which need nothing beside them; and its networks as calls on host arrays, of which each plans its graph for the size at hand, runs it and
 * frees its buffers. Arrays are dense and channels-last. Latents are in unit scale, as SUPIR's sampler sees them (the autoencoder's times scale_factor).
 */

import { factsOf, UserError } from '../core/errors.ts';
import type { Tensor } from '../core/tensor.ts';
import { shown } from '../core/text.ts';
import type { Device } from '../gpu/device.ts';
import type { TokenPair } from '../models/conditioner.ts';
import { CONFIG_LIMITS, parseModelFiles, SUPIR_SDXL, type SupirConfig } from '../models/config.ts';
import { Supir } from '../models/supir.ts';
import { ClipTokenizer, TOKENIZER_LIMITS } from '../models/tokenizer.ts';
import type { EncoderName } from '../models/vae.ts';
import type { ByteSource } from '../weights/byte-source.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { type FolderAccess, isWeights, openWeights } from '../weights/folder.ts';
import { readJson } from '../weights/json-bounds.ts';
import { openModelFiles, openModelFolder } from '../weights/model-files.ts';
import { openTensorFile } from '../weights/open.ts';
import { recognize } from '../weights/recognize.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import { compileDenoiser, tracedDenoiser } from './deep-features.ts';
import { recommendedByLora } from './few-step.ts';
import { type LatentMoments, splitMoments } from './latents.ts';
import { Model } from './model.ts';
import { readModelConfig } from './model-config.ts';
import { type DenoiserOptions, DenoisingNetwork, type TextConditioning, textInputs, type Values } from './networks.ts';
import type { ModelOptions } from './stage.ts';
import { tapped } from './tap.ts';
import { runAutoencoder, type TilingEvents, VAE_TILING } from './tiled-vae.ts';

/** Names of a model folder's files. Throws UserError where it is a file, with what that is, and where it is not there. */
export async function filesIn(access: FolderAccess, path: string): Promise<string[]> {
  if (!isWeights(path)) return access.list(path);
  const file = await openWeights(access, path);
  await file.close?.();
  throw new UserError(
    `${shown(path)} is one file (a ${recognize(file).title}), and SUPIR restores with two: give a folder that holds SDXL's checkpoint and SUPIR's.`,
  );
}

/** Opens a file of the folder by name. */
export type OpenFile = (name: string) => Promise<ByteSource>;

export class SupirModel extends Model<Supir> {
  private readonly tokenizer: ClipTokenizer | null;

  /** `networks` with their weights attached; without a tokenizer texts are given as token ids. */
  constructor(device: Device, networks: Supir, tokenizer: ClipTokenizer | null = null, checkpoint: Checkpoint | null = null) {
    super(device, networks, checkpoint);
    this.tokenizer = tokenizer;
  }

  /**
   * Opens a folder: by its config.json where it has one, else as the published SDXL and SUPIR checkpoints that lie in it.
   * Throws UserError as `open` and `openFiles`.
   */
  static async openFolder(device: Device, access: FolderAccess, path: string, options: ModelOptions = {}): Promise<SupirModel> {
    if ((await filesIn(access, path)).includes('config.json'))
      return SupirModel.open(device, (name) => access.fileSource(`${path}/${name}`), options);
    try {
      return await SupirModel.ofPublished(device, await openModelFolder(access, path), options);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      throw new UserError(`${error.message} (${path} has no config.json, so the published model's sizes are expected.)`, {
        ...factsOf(error),
        cause: error,
      });
    }
  }

  /**
   * Opens checkpoints of the published sizes, in load order: SDXL whole or in parts, and SUPIR. Which file is what is told by its contents.
   * Throws UserError naming what is missing, of no use, or of another size.
   */
  static async openFiles(device: Device, files: readonly TensorFile[], options: ModelOptions = {}): Promise<SupirModel> {
    return SupirModel.ofPublished(device, openModelFiles(files), options);
  }

  private static async ofPublished(device: Device, checkpoint: Checkpoint, { weights }: ModelOptions): Promise<SupirModel> {
    try {
      const networks = new Supir(SUPIR_SDXL).attach(checkpoint, { dtype: weights });
      const { clipTokenizerJson } = await import('../models/clip-vocabulary.ts');
      return new SupirModel(device, networks, new ClipTokenizer(await clipTokenizerJson()), checkpoint);
    } catch (error) {
      await checkpoint.close();
      throw error;
    }
  }

  /**
   * Reads config.json, the tokenizer and the checkpoints' indices; weights are read when first needed.
   * Throws UserError for missing files, wrong entries, and checkpoints that do not fit the configuration.
   */
  static async open(device: Device, open: OpenFile, { weights }: ModelOptions = {}): Promise<SupirModel> {
    const json = await readJson(await open('config.json'), CONFIG_LIMITS);
    const config = readModelConfig(json, 'config.json');
    const names = parseModelFiles(json, 'config.json');
    const tokenizer = new ClipTokenizer(await readJson(await open(names.tokenizer), TOKENIZER_LIMITS));
    const { sot, eot, tower1, tower2 } = config.text;
    if (tokenizer.start !== sot || tokenizer.end !== eot)
      throw new UserError(
        `${names.tokenizer} starts texts with token ${tokenizer.start} and ends them with ${tokenizer.end}; config.json says ${sot} and ${eot}. Are they of one model?`,
      );
    const rows = Math.min(tower1.vocab, tower2.vocab);
    if (tokenizer.highest >= rows)
      throw new UserError(
        `${names.tokenizer} has a token of number ${tokenizer.highest}, and the model's tables have ${rows} rows. Are they of one model?`,
      );
    const opened: Pick<ByteSource, 'close'>[] = [];
    try {
      const files: TensorFile[] = [];
      for (const name of [names.sdxl, names.supir]) {
        const source = await open(name);
        opened.push(source);
        files.push(await openTensorFile(source));
      }
      const checkpoint = openModelFiles(files);
      return new SupirModel(device, new Supir(config).attach(checkpoint, { dtype: weights }), tokenizer, checkpoint);
    } catch (error) {
      for (const source of opened) await source.close?.();
      throw error;
    }
  }

  /** Sizes and recommendations; those of a LoRA that distils to few steps before the model's own. */
  get config(): SupirConfig {
    const { config } = this.networks;
    const recommended = [...this.loras].map(({ name }) => recommendedByLora(name)).filter((each) => each !== undefined);
    return recommended.length === 0 ? config : { ...config, recommended: Object.assign({}, config.recommended, ...recommended) };
  }

  /** File names of the SDXL checkpoint and of LoRAs, and the model's name, which tell what kind of base it is. */
  get baseNames(): readonly string[] {
    const base = this.checkpoint.fileOf('model.diffusion_model.time_embed.0.weight');
    return [base, this.networks.config.name, ...[...this.loras].map(({ name }) => name)];
  }

  /** Token ids for both towers. Texts longer than the context keep their beginning. */
  tokens(text: string): TokenPair {
    const length = this.networks.config.text.context_length;
    return {
      tower1: [...this.words.encodePadded(text, { length, pad: 'eot' })],
      tower2: [...this.words.encodePadded(text, { length, pad: 'zero' })],
    };
  }

  /** The end of a text that does not fit the context and is ignored; empty where all fits. */
  cutOff(text: string): string {
    return this.words.cutOff(text, this.networks.config.text.context_length);
  }

  private get words(): ClipTokenizer {
    if (!this.tokenizer) throw new UserError('This model was made without a tokenizer: give token ids.');
    return this.tokenizer;
  }

  /** x (N, H, W, 3) in [-1, 1], sides multiples of the latent factor -> mean and log variance, each (N, H / f, W / f, z), not scaled. */
  async encode(x: Values, which: EncoderName, tiling = VAE_TILING, events: TilingEvents = {}): Promise<LatentMoments> {
    const encode = (tensor: Tensor) => this.networks.first_stage_model.encode(tensor, which);
    return splitMoments(await runAutoencoder(this.device, 'encoder', encode, x, tiling, events));
  }

  /** Latent (N, h, w, z) in unit scale -> image (N, f h, f w, 3), not clamped. */
  async decode(latent: Values, tiling = VAE_TILING, events: TilingEvents = {}): Promise<Values> {
    const { scale_factor } = this.config.vae;
    const z = latent.data.map((value) => value / scale_factor);
    const decode = (tensor: Tensor) => this.networks.first_stage_model.decode(tensor);
    return runAutoencoder(this.device, 'decoder', decode, { data: z, shape: latent.shape }, tiling, events);
  }

  /** Token ids of one text -> what they condition. `sizes` as in Conditioner.inputs; `signal` stops the loading of weights. */
  async condition(tokens: TokenPair, sizes?: number[], signal?: AbortSignal): Promise<TextConditioning> {
    const { conditioner } = this.networks;
    const graph = conditioner.forward();
    const { context, vector } = await this.evaluate({ ...graph }, await conditioner.inputs(tokens, sizes), signal);
    return { context: { data: context, shape: graph.context.shape }, vector: { data: vector, shape: graph.vector.shape } };
  }

  /**
   * Plans UNet and control network for N latents of h x w and returns what a sampler calls, once a step.
   * hint (N, h, w, z): the degraded image's latent. Conditionings hold N texts each, or one for all; both of one length.
   * Without a negative one there is no guidance: the positive branch answers for both, at half the work.
   * Throws UserError when a tap wants none of the activations that there are.
   */
  async denoiser(
    hint: Values,
    negative: TextConditioning | null,
    positive: TextConditioning,
    { moduleScales = null, tap = null, cachedWindows = 0, signal }: DenoiserOptions = {},
  ): Promise<DenoisingNetwork> {
    const constants = { hint: hint.data, ...textInputs(hint.shape[0], negative, positive) };
    const build = () => this.networks.denoiserGraph(hint.shape, positive.context.shape[1], negative ? 2 : 1, moduleScales !== null);
    const { device, networks } = this;
    const { graph, results } = tracedDenoiser(networks.model.diffusion_model, cachedWindows > 0, build);
    const wanted = tap ? tapped(tap, networks, graph, results) : {};
    const { program, features } = await compileDenoiser<'eps'>(device, this.loras.apply({ ...wanted, ...graph }), cachedWindows, signal);
    return new DenoisingNetwork(program, constants, this.loras, this.config.unet.model_channels, moduleScales, tap, features);
  }
}
