/** A model folder opened for restoring: config.json with sizes and file names, the checkpoint files it names, and the tokenizer. */
import type { Device } from '../core/device.ts';
import { UserError } from '../core/errors.ts';
import type { TokenPair } from '../models/conditioner.ts';
import { parseConfig, type SupirConfig } from '../models/config.ts';
import { Supir } from '../models/supir.ts';
import { ClipTokenizer } from '../models/tokenizer.ts';
import type { ByteSource } from '../weights/byte-source.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { Networks } from './networks.ts';

/** Opens a file of the folder by name. */
export type OpenFile = (name: string) => Promise<ByteSource>;

export class SupirModel {
  readonly config: SupirConfig;
  readonly networks: Networks;
  /** The SDXL checkpoint's file name and the model's name, which tell what kind of base it is. */
  readonly baseNames: readonly string[];
  private readonly tokenizer: ClipTokenizer;
  private readonly sources: ByteSource[];

  private constructor(
    config: SupirConfig,
    networks: Networks,
    baseNames: readonly string[],
    tokenizer: ClipTokenizer,
    sources: ByteSource[],
  ) {
    this.config = config;
    this.baseNames = baseNames;
    this.networks = networks;
    this.tokenizer = tokenizer;
    this.sources = sources;
  }

  /**
   * Reads config.json, the tokenizer and the checkpoints' indices; weights are read when first needed.
   * Throws UserError for missing files, wrong entries, and checkpoints that do not fit the configuration.
   */
  static async open(device: Device, open: OpenFile): Promise<SupirModel> {
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
    const supir = new Supir(config).attach(await Checkpoint.open(sources));
    return new SupirModel(config, new Networks(device, supir), [named('sdxl'), config.name], tokenizer, sources);
  }

  /** Token ids for both towers. Texts longer than the context keep their beginning. */
  tokens(text: string): TokenPair {
    const length = this.config.text.context_length;
    return {
      tower1: [...this.tokenizer.encodePadded(text, { length, pad: 'eot' })],
      tower2: [...this.tokenizer.encodePadded(text, { length, pad: 'zero' })],
    };
  }

  /** How many tokens of a text do not fit and are cut. */
  tokensCut(text: string): number {
    return Math.max(0, this.tokenizer.encode(text).length - (this.config.text.context_length - 2));
  }

  /** Frees the weights and closes the files. */
  async close(): Promise<void> {
    this.networks.supir.release(this.networks.device);
    for (const source of this.sources) await source.close?.();
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
