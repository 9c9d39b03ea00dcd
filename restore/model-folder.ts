/**
 * A model opened for restoring: a folder whose config.json tells sizes and file names, or files of the published model in any layout, which need
 * nothing beside them.
 */

import { UserError } from '../core/errors.ts';
import { parameters } from '../core/module.ts';
import type { Device } from '../gpu/device.ts';
import type { TokenPair } from '../models/conditioner.ts';
import { parseConfig, SUPIR_SDXL, type SupirConfig } from '../models/config.ts';
import { type Merged, type MergedLora, mergeLora } from '../models/lora-merge.ts';
import { Supir } from '../models/supir.ts';
import { ClipTokenizer } from '../models/tokenizer.ts';
import type { WeightDType } from '../weights/attach.ts';
import type { ByteSource } from '../weights/byte-source.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import type { FolderAccess } from '../weights/folder.ts';
import { readLora } from '../weights/lora.ts';
import { openModelFiles, openModelFolder } from '../weights/model-files.ts';
import { openTensorFile } from '../weights/open.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import { fixedLoraScale, type LoraScaleText, withControl } from './lora-scales.ts';
import { Networks } from './networks.ts';
import { recommendedByLora } from './options.ts';

export interface ModelOptions {
  /** How matrices and convolutions lie on the GPU: f16, or rounded to blocks of 8 or 4 bits (q8, q4). Default: as the files hold them. */
  weights?: WeightDType;
}

/** Opens a file of the folder by name. */
export type OpenFile = (name: string) => Promise<ByteSource>;

export class SupirModel {
  readonly networks: Networks;
  private readonly ownConfig: SupirConfig;
  private readonly ownNames: readonly string[];
  /** LoRA files in force, with their strengths. */
  readonly loraFiles: { file: TensorFile; scale: LoraScaleText; merged: boolean }[] = [];
  private readonly toMerge: MergedLora[] = [];
  private merged: Merged | null = null;
  private readonly tokenizer: ClipTokenizer;
  readonly checkpoint: Checkpoint;

  private constructor(
    config: SupirConfig,
    networks: Networks,
    baseNames: readonly string[],
    tokenizer: ClipTokenizer,
    checkpoint: Checkpoint,
  ) {
    this.ownConfig = config;
    this.ownNames = baseNames;
    this.networks = networks;
    this.tokenizer = tokenizer;
    this.checkpoint = checkpoint;
  }

  /**
   * Opens a folder: by its config.json where it has one, else as the published SDXL and SUPIR checkpoints that lie in it.
   * Throws UserError as `open` and `openFiles`.
   */
  static async openFolder(device: Device, access: FolderAccess, path: string, options: ModelOptions = {}): Promise<SupirModel> {
    if ((await access.list(path)).includes('config.json'))
      return SupirModel.open(device, (name) => access.fileSource(`${path}/${name}`), options);
    try {
      return await SupirModel.ofPublished(device, await openModelFolder(access, path), options);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      throw new UserError(`${error.message} (${path} has no config.json, so the published model's sizes are expected.)`, { cause: error });
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
    const supir = new Supir(SUPIR_SDXL).attach(checkpoint, { dtype: weights });
    const { clipTokenizerJson } = await import('../models/clip-vocabulary.ts');
    const tokenizer = new ClipTokenizer(await clipTokenizerJson());
    const base = checkpoint.fileOf('model.diffusion_model.time_embed.0.weight');
    return new SupirModel(SUPIR_SDXL, new Networks(device, supir), [base], tokenizer, checkpoint);
  }

  /**
   * Reads config.json, the tokenizer and the checkpoints' indices; weights are read when first needed.
   * Throws UserError for missing files, wrong entries, and checkpoints that do not fit the configuration.
   */
  static async open(device: Device, open: OpenFile, { weights }: ModelOptions = {}): Promise<SupirModel> {
    const json = await readJson(await open('config.json'));
    const config = parseConfig(json, 'config.json');
    const files = (json as { files?: Record<string, unknown> }).files;
    const named = (key: string): string => {
      const name = files?.[key];
      if (typeof name !== 'string')
        throw new UserError(`config.json: 'files.${key}' must name a file of the model folder. See demo/config.json.`);
      return name;
    };
    const tokenizer = new ClipTokenizer((await readJson(await open(named('tokenizer')))) as object);
    if (tokenizer.start !== config.text.sot || tokenizer.end !== config.text.eot) {
      throw new UserError(
        `${named('tokenizer')} starts texts with token ${tokenizer.start} and ends them with ${tokenizer.end}; config.json says ${config.text.sot} and ${config.text.eot}. Are they of one model?`,
      );
    }
    const sources = [await open(named('sdxl')), await open(named('supir'))];
    const checkpoint = openModelFiles(await Promise.all(sources.map(openTensorFile)));
    const supir = new Supir(config).attach(checkpoint, { dtype: weights });
    return new SupirModel(config, new Networks(device, supir), [named('sdxl'), config.name], tokenizer, checkpoint);
  }

  /** Sizes and recommendations; those of a LoRA that distils to few steps before the model's own. */
  get config(): SupirConfig {
    const recommended = this.loraFiles.map(({ file }) => recommendedByLora(file.name)).filter((each) => each !== undefined);
    if (recommended.length === 0) return this.ownConfig;
    return { ...this.ownConfig, recommended: Object.assign({}, this.ownConfig.recommended, ...recommended) };
  }

  /** File names of the SDXL checkpoint and of LoRAs, and the model's name, which tell what kind of base it is. */
  get baseNames(): readonly string[] {
    return [...this.ownNames, ...this.loraFiles.map(({ file }) => file.name)];
  }

  /** Token ids for both towers. Texts longer than the context keep their beginning. */
  tokens(text: string): TokenPair {
    const length = this.config.text.context_length;
    return {
      tower1: [...this.tokenizer.encodePadded(text, { length, pad: 'eot' })],
      tower2: [...this.tokenizer.encodePadded(text, { length, pad: 'zero' })],
    };
  }

  /** The end of a text that does not fit the context and is ignored; empty where all fits. */
  cutOff(text: string): string {
    return this.tokenizer.cutOff(text, this.config.text.context_length);
  }

  /**
   * Applies a LoRA file to text towers, UNet and control network, beside those before it; with `merge` by changing the weights, which costs
   * nothing at run time and fixes its scale. Throws UserError listing keys that match no weight, and for a scale that is none.
   */
  async addLora(source: ByteSource, scale: LoraScaleText, merge = false): Promise<void> {
    const file = await openTensorFile(source);
    const { supir, device, loras } = this.networks;
    const weights = [...parameters(supir)].map(([, parameter]) => parameter);
    this.merged?.undo(device);
    const lora = withControl(await readLora(file, weights), scale, weights);
    if (merge) this.toMerge.push({ lora, scale: fixedLoraScale(scale) });
    else loras.add(device, lora, scale);
    this.merged = mergeLora(device, this.toMerge);
    this.loraFiles.push({ file, scale, merged: merge });
  }

  /** Another scale for LoRA file number `index`, from the next evaluation on, also while a restoration runs. Throws UserError where it was merged. */
  setLoraScale(index: number, scale: LoraScaleText): void {
    const entry = this.loraFiles[index];
    if (!entry) throw new UserError(`There is no LoRA number ${index}: ${this.loraFiles.length} are in force.`);
    if (entry.merged) throw new UserError(`${entry.file.name} was merged into the weights; its scale is fixed.`);
    const applied = this.loraFiles.filter(({ merged }) => !merged);
    this.networks.loras.set(applied.indexOf(entry), scale);
    entry.scale = scale;
  }

  /** Frees the weights and closes the files. */
  async close(): Promise<void> {
    this.networks.loras.release(this.networks.device);
    for (const { file } of this.loraFiles) await file.close?.();
    this.networks.supir.release(this.networks.device);
    await this.checkpoint.close();
  }
}

async function readJson(source: ByteSource): Promise<unknown> {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(await source.read(0, source.size)));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${source.name} is not JSON: ${(error as Error).message}`);
  } finally {
    await source.close?.();
  }
}
