/**
 * DiffBIR as a model on a device, opened from a folder that holds a base (Stable Diffusion 2.1), IRControlNet and a cleaner, in files of their own or
 * in one; which is which their contents tell. A config.json is needed only for other than the published sizes.
 */
import { UserError, type Warning } from '../core/errors.ts';
import { isRecord, parseJsonBytes } from '../core/json.ts';
import { plainName } from '../core/plain-name.ts';
import { shown } from '../core/text.ts';
import type { Device } from '../gpu/device.ts';
import { CONFIG_LIMITS } from '../models/config.ts';
import { type Cleaner, type CleanerConfig, cleanerOf, DiffBir } from '../models/diffbir.ts';
import { SD21, type StableDiffusionConfig } from '../models/stable-diffusion.ts';
import { SWINIR } from '../models/swinir.ts';
import { ClipTokenizer, TOKENIZER_LIMITS } from '../models/tokenizer.ts';
import type { Parameterization } from '../sampler/diffusion.ts';
import { attach, expectedKeys } from '../weights/attach.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { type FolderAccess, isWeights, openComponents, openFolder, openWeights } from '../weights/folder.ts';
import { readJson } from '../weights/json-bounds.ts';
import { recognize } from '../weights/recognize.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import { DiffBirNetworks } from './diffbir.ts';
import { type DiffBirFile, diffBirFile, diffusersBase, isOfModel, PARTS, type PartName } from './diffbir-files.ts';
import { DIFFBIR_PRESETS, type DiffBirChoice } from './diffbir-options.ts';
import { Model, type ModelConfig } from './model.ts';
import type { ModelOptions } from './stage.ts';

/** Sizes of the networks, and settings that the model recommends. */
export interface DiffBirConfig extends ModelConfig {
  base: StableDiffusionConfig;
  cleaner: CleanerConfig | null;
  /** What the base predicts, and how that is known. */
  parameterization: Parameterization;
}

/** A folder's files of DiffBIR; null for a part that none holds. */
export interface DiffBirFolder {
  path: string;
  config: Record<string, unknown> | null;
  base: TensorFile | null;
  control: TensorFile | null;
  cleaner: NonNullable<DiffBirFile['cleaner']> | null;
  /** Files that are none of them, with what they are, and whether SUPIR could use them. */
  others: { name: string; what: () => string; isOfModel: boolean }[];
  /** Closes its files, but those that hold the parts that are kept. */
  close(...kept: PartName[]): Promise<void>;
}

/** Reads the indices of a folder's files, or of one file. Throws UserError where two hold the same part. */
export async function openDiffBirFolder(access: FolderAccess, path: string): Promise<DiffBirFolder> {
  if (isWeights(path)) return sorted(path, null, [await openWeights(access, path)], []);
  const names = await access.list(path);
  const config = await folderConfig(access, path);
  const loose = names.some(isWeights) ? await openFolder(access, path, false) : [];
  const components = loose.some((file) => diffBirFile(file).base) ? [] : await openComponents(access, path);
  return sorted(path, config, loose, components);
}

/** What a folder's config.json holds; null where there is none. */
export async function folderConfig(access: FolderAccess, path: string): Promise<Record<string, unknown> | null> {
  if (isWeights(path) || !(await access.list(path)).includes('config.json')) return null;
  const source = await access.fileSource(`${path}/config.json`);
  try {
    if (source.size > CONFIG_LIMITS.bytes) return {};
    const json = parseJsonBytes(await source.read(0, source.size), 'config.json');
    return isRecord(json) ? json : {};
  } finally {
    await source.close?.();
  }
}

async function sorted(
  path: string,
  config: DiffBirFolder['config'],
  files: readonly TensorFile[],
  components: readonly TensorFile[],
): Promise<DiffBirFolder> {
  const folder: DiffBirFolder = {
    ...{ path, config, base: diffusersBase(components), control: null, cleaner: null, others: [] },
    async close(...kept) {
      const open = new Set(kept.flatMap((part) => holders.get(part) ?? []));
      for (const file of [...files, ...components]) if (!open.has(file)) await file.close?.();
    },
  };
  const holders = new Map<PartName, readonly TensorFile[]>(folder.base ? [['base', components]] : []);
  const take = <Part extends PartName>(part: Part, file: TensorFile, found: DiffBirFolder[Part]) => {
    const other = folder[part];
    if (other)
      throw new UserError(
        `${shown(path)} holds the ${PART_TITLES[part]} twice, the second time in ${shown(file.name)}: move one of them away, or give a folder of its own for each.`,
      );
    folder[part] = found;
    holders.set(part, [file]);
  };
  try {
    for (const file of files) {
      const { base, control, cleaner, refusal } = diffBirFile(file);
      if (base) take('base', file, base);
      if (control) take('control', file, control);
      if (cleaner) take('cleaner', file, cleaner);
      if (!base && !control && !cleaner)
        folder.others.push({ name: file.name, what: () => refusal ?? `It is a ${recognize(file).title}.`, isOfModel: isOfModel(file) });
    }
    return folder;
  } catch (error) {
    await folder.close();
    throw error;
  }
}

const PART_TITLES = { base: 'base (Stable Diffusion)', control: 'IRControlNet', cleaner: 'cleaner' };

export class DiffBirModel extends Model<DiffBir> {
  readonly config: DiffBirConfig;
  /** What should be known of the files. */
  readonly warnings: readonly Warning[];
  private readonly tokenizer: ClipTokenizer;
  private readonly names: readonly string[];

  private constructor(
    device: Device,
    networks: DiffBir,
    checkpoint: Checkpoint,
    config: DiffBirConfig,
    tokenizer: ClipTokenizer,
    names: readonly string[],
    warnings: readonly Warning[],
  ) {
    super(device, networks, checkpoint);
    this.config = config;
    this.tokenizer = tokenizer;
    this.names = names;
    this.warnings = warnings;
  }

  /** Throws UserError naming the part that is missing, of another model, or of other sizes than the configuration's. */
  static async openFolder(device: Device, access: FolderAccess, path: string, { weights }: ModelOptions = {}): Promise<DiffBirModel> {
    const folder = await openDiffBirFolder(access, path);
    try {
      const { base, control, cleaner } = checkParts(folder);
      const { config, warnings } = configOf(folder);
      const { name, base: sizes } = config;
      const networks = new DiffBir(sizes, cleanerOf(cleaner.config));
      checkPart(base, networks.base, 'Stable Diffusion 2.1');
      checkPart(control, networks.control, 'IRControlNet');
      checkPart(cleaner.file, networks.cleaner!, 'the cleaner');
      const checkpoint = new Checkpoint([base, control, cleaner.file]);
      for (const part of [networks.base, networks.control, networks.cleaner!]) attach(part, '', checkpoint, { dtype: weights });
      const tokenizer = new ClipTokenizer(await tokenizerJson(access, folder));
      if (tokenizer.highest >= sizes.text.vocab || tokenizer.start !== sizes.text.sot || tokenizer.end !== sizes.text.eot)
        throw new UserError('The tokenizer does not belong to the text tower: its tokens are others than config.json says.');
      await folder.close('base', 'control', 'cleaner');
      return new DiffBirModel(device, networks, checkpoint, config, tokenizer, [base.name, name], warnings);
    } catch (error) {
      await folder.close();
      throw error;
    }
  }

  get baseNames(): readonly string[] {
    return [...this.names, ...[...this.loras].map(({ name }) => name)];
  }

  /** The networks as calls, with what these options say of the base. */
  calls({ parameterization: chosen }: Pick<DiffBirChoice, 'parameterization'>): DiffBirNetworks {
    const parameterization = chosen === 'auto' ? this.config.parameterization : chosen;
    const cleaner: { net: Cleaner; config: CleanerConfig } = { net: this.networks.cleaner!, config: this.config.cleaner! };
    return new DiffBirNetworks(this.device, this.networks, cleaner, parameterization, this.loras);
  }

  /** Token ids of a text, padded with 0. Texts longer than the context keep their beginning. */
  tokens(text: string): number[] {
    return [...this.tokenizer.encodePadded(text, { length: this.config.base.text.context_length, pad: 'zero' })];
  }

  /** The end of a text that does not fit the context and is ignored; empty where all fits. */
  cutOff(text: string): string {
    return this.tokenizer.cutOff(text, this.config.base.text.context_length);
  }
}

async function tokenizerJson(access: FolderAccess, { path, config }: DiffBirFolder): Promise<unknown> {
  const file = isRecord(config?.files) ? config.files.tokenizer : undefined;
  if (file === undefined) return (await import('../models/clip-vocabulary.ts')).clipTokenizerJson();
  return readJson(await access.fileSource(`${path}/${plainName(file, "config.json: 'files.tokenizer'")}`), TOKENIZER_LIMITS);
}

/** Sizes and settings of a folder's model, and what should be known of it. Throws UserError where a part is missing. */
export function configOf(folder: DiffBirFolder): { config: DiffBirConfig; warnings: Warning[] } {
  const { base, control, cleaner } = checkParts(folder);
  const { parameterization, warnings } = parameterizationOf(folder, base, control);
  const { config } = folder;
  return {
    config: {
      name: typeof config?.name === 'string' ? shown(config.name, 200) : `DiffBIR with ${shown(control.name)}`,
      base: config?.base === undefined ? SD21 : sizesLike(SD21, config.base, 'base'),
      ...{ cleaner: cleaner.config, parameterization, image_multiple: 64, min_size: 512 },
      recommended: isRecord(config?.recommended) ? config.recommended : recommendedFor(parameterization, cleaner.config),
      ...(isRecord(config?.presets) ? { presets: config.presets } : {}),
    },
    warnings,
  };
}

/** The published model of v2.1. */
export const DIFFBIR_V21: DiffBirConfig = {
  ...{ name: 'DiffBIR v2.1', base: SD21, cleaner: { kind: 'swinir', ...SWINIR }, parameterization: 'v', image_multiple: 64, min_size: 512 },
  recommended: recommendedFor('v', { kind: 'swinir', ...SWINIR }),
};

function checkParts({ path, base, control, cleaner, others }: DiffBirFolder) {
  const beside = others.length > 0 ? ` Of no use for it: ${others.map(({ name, what }) => `${shown(name)} (${what()})`).join(', ')}` : '';
  const where = shown(path);
  if (!base)
    throw new UserError(
      `${where} has no base for DiffBIR: it needs Stable Diffusion 2.1 base (${PARTS.base.files}), and no other.${beside}`,
    );
  if (/768/.test(base.name))
    throw new UserError(
      `${shown(base.name)} is Stable Diffusion 2.1 for 768 pixels by its name. DiffBIR was trained on the base for 512 pixels: ${PARTS.base.files}.`,
    );
  if (!control) throw new UserError(`${where} has no IRControlNet for DiffBIR: add ${PARTS.control.files} (${PARTS.base.files}).${beside}`);
  if (!cleaner) throw new UserError(`${where} has no cleaner for DiffBIR: add ${PARTS.cleaner.files}.${beside}`);
  return { base, control, cleaner };
}

/** Throws UserError naming what is missing or of another shape; what a base has beyond is passed over. */
function checkPart(file: TensorFile, root: object, what: string): void {
  const wrong = [...expectedKeys(root)].filter(([name, shape]) => !file.has(name) || String(file.info(name).shape) !== String(shape));
  if (wrong.length === 0) return;
  const [[name, shape]] = wrong;
  const is = file.has(name) ? `[${file.info(name).shape}]` : 'missing';
  throw new UserError(
    `${shown(file.name)} is not ${what} of these sizes: "${name}" is ${is} and must be [${shape}]${wrong.length > 1 ? `, and ${wrong.length - 1} more tensors do not fit` : ''}.`,
  );
}

/**
 * What the base predicts. Shapes do not tell: the configuration does, else the names of the files, else that a base converted from diffusers, as the one
 * of v2.1 was, lacks the text tower's last block.
 */
function parameterizationOf({ config }: DiffBirFolder, base: TensorFile, control: TensorFile) {
  if (config && (config.parameterization === 'eps' || config.parameterization === 'v'))
    return { parameterization: config.parameterization as Parameterization, warnings: [] };
  const byBase = toldByBase(base);
  const byControl = toldByControl(control.name);
  const warnings: Warning[] = [];
  if (byBase && byControl && byBase !== byControl)
    warnings.push({
      code: 'mismatched-pair',
      option: 'parameterization',
      message: `By their names ${shown(base.name)} predicts ${WORDS[byBase]} and ${shown(control.name)} was trained for ${WORDS[byControl]}. Together they give noise: use ${PARTS.base.files}.`,
    });
  if (!byBase && !byControl)
    warnings.push({
      code: 'parameterization-unknown',
      option: 'parameterization',
      message: `Whether ${shown(base.name)} predicts noise (v1, v2) or velocity (v2.1) its name does not tell. Noise (eps) is taken; a result of mere noise means that it is the other.`,
    });
  return { parameterization: byBase ?? byControl ?? 'eps', warnings };
}

const WORDS: Record<Parameterization, string> = { eps: 'noise (eps)', v: 'velocity (v)' };

function toldByBase(base: TensorFile): Parameterization | null {
  const type = base.metadata.get('modelspec.prediction_type') ?? '';
  if (/^v/i.test(type) || /zsnr|zero[-_ ]?(terminal[-_ ]?)?snr|v[-_]?pred/i.test(base.name)) return 'v';
  if (/^eps/i.test(type) || /512[-_](ema|base|nonema)|2[-_.]?1[-_]base/i.test(base.name)) return 'eps';
  return null;
}

function toldByControl(name: string): Parameterization | null {
  if (/v2[._-]1/i.test(name)) return 'v';
  return /(^|[^a-z0-9])v[12]([^0-9a-z]|$)/i.test(name) ? 'eps' : null;
}

/** The published program's settings for such files; SCUNet keeps the size. */
function recommendedFor(parameterization: Parameterization, cleaner: CleanerConfig): Record<string, unknown> {
  const { sampler, steps, cfg, ...rest } = DIFFBIR_PRESETS[parameterization === 'v' ? 'v2.1' : 'v2'].values;
  return { ...{ sampler, steps, cfg }, ...rest, upscale: cleaner.kind === 'scunet' ? 1 : 4 };
}

/** Most that a size may be. */
const MOST = 2 ** 20;

/** An entry of config.json of the same form as the published model's: its numbers and lists of numbers, and no others. */
function sizesLike<T extends object>(published: T, json: unknown, place: string): T {
  const fail = (at: string, what: string): never => {
    throw new UserError(`config.json: '${at}' must be ${what}.`, { code: 'bad-config', file: 'config.json' });
  };
  if (!isRecord(json)) return fail(place, 'an object');
  const isSize = (value: unknown) => typeof value === 'number' && value >= 0 && value <= MOST;
  const entries = Object.entries(published).map(([key, like]) => {
    const [value, at] = [json[key], `${place}.${key}`];
    if (typeof like === 'number') return [key, isSize(value) ? value : fail(at, `a number up to ${MOST}`)];
    if (!Array.isArray(like)) return [key, sizesLike(like as object, value, at)];
    return [key, Array.isArray(value) && value.length <= 8 && value.every(isSize) ? value : fail(at, 'a list of at most 8 numbers')];
  });
  return Object.fromEntries(entries) as T;
}
