/** What files of DiffBIR hold (arXiv 2308.15070), told by names and shapes of tensors: a base, IRControlNet, a cleaner, or all three in one. */
import type { CleanerConfig } from '../models/diffbir.ts';
import { type RrdbConfig, unshuffleOf } from '../models/rrdb-net.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { openClipRules, unetRules, vaeRules } from '../weights/diffusers.ts';
import { recognize } from '../weights/recognize.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import type { Rule } from '../weights/translate.ts';
import { toOther, toSingle } from '../weights/translate.ts';
import type { Assessment } from './stage.ts';

export interface DiffBirFile {
  /** Stable Diffusion 2 under its single file's names. */
  base?: TensorFile;
  /** IRControlNet, at the root. */
  control?: TensorFile;
  cleaner?: { file: TensorFile; config: CleanerConfig };
  /** What it is, where it looks like one of these and cannot be used. */
  refusal?: string;
}

/** The parts of a model, and what to look for when one is missing. */
export const PARTS = {
  base: {
    title: 'Stable Diffusion 2.1 base',
    files: 'v2-1_512-ema-pruned.ckpt for v1 and v2, sd2.1-base-zsnr-laionaes5.ckpt for v2.1',
  },
  control: { title: 'an IRControlNet', files: 'v1_general.pth, v2.pth or DiffBIR_v2.1.pt, whichever goes with the base' },
  cleaner: {
    title: 'a cleaner',
    files: 'general_swinir_v1.ckpt for v1, BSRNet.pth or scunet_color_real_psnr.pth for v2, realesrgan_s4_swinir_100k.pth for v2.1',
  },
} as const;
export type PartName = keyof typeof PARTS;

const BASE = /^(model\.diffusion_model|first_stage_model|cond_stage_model\.model)\./;

/** Looks at the index of a file; an empty answer for one that has nothing to do with DiffBIR. */
export function diffBirFile(stored: TensorFile): DiffBirFile {
  const file = stored.names()[0]?.startsWith('module.') ? below(stored, 'module.') : stored;
  const names = file.names();
  const found: DiffBirFile = {};
  if (names.some((name) => /^model\.diffusion_model\./.test(name)) && names.some((name) => /^cond_stage_model\.model\./.test(name)))
    found.base = chosen(file, (name) => (BASE.test(name) ? name : null));
  for (const prefix of ['', 'control_model.']) {
    if (!file.has(`${prefix}zero_convs.0.0.weight`)) continue;
    const first = `${prefix}input_blocks.0.0.weight`;
    const [channels, inputs] = file.has(first) ? file.info(first).shape : [];
    if (inputs === 8 && channels > 0 && !names.some((name) => name.startsWith(`${prefix}input_hint_block.`))) {
      found.control = below(file, prefix, found.base !== undefined);
    } else found.refusal = 'It is a ControlNet of another kind, and DiffBIR needs IRControlNet, which reads the latent of a picture.';
  }
  for (const prefix of ['', 'preprocess_model.']) {
    const cleaner = cleanerFile(prefix ? below(file, prefix, true) : file);
    if (typeof cleaner === 'string') found.refusal = cleaner;
    else if (cleaner) found.cleaner = cleaner;
  }
  return found;
}

/** The tensors below a prefix, without it; the others are left out where `only` says so. */
function below(file: TensorFile, prefix: string, only = true): TensorFile {
  if (prefix === '') return file;
  return chosen(file, (name) => (name.startsWith(prefix) ? name.slice(prefix.length) : only ? null : name));
}

function chosen(file: TensorFile, rename: (name: string) => string | null): TensorFile {
  const rules = file.names().flatMap((name): Rule[] => {
    const other = rename(name);
    return other === null ? [] : [{ single: name, other }];
  });
  return toOther(file, rules);
}

/** How many numbers, from 0 on, the pattern's group has among the names. */
const count = (names: readonly string[], pattern: RegExp): number => new Set(names.flatMap((name) => pattern.exec(name)?.[1] ?? [])).size;

/** A cleaner and its sizes; why it cannot be used; undefined where the file holds none. */
function cleanerFile(file: TensorFile): { file: TensorFile; config: CleanerConfig } | string | undefined {
  const names = file.names();
  const shape = (name: string): readonly number[] => (file.has(name) ? file.info(name).shape : []);
  if (file.has('m_head.0.weight') && names.some((name) => name.startsWith('m_body.0.trans_block.'))) {
    const blocks = ['m_down1', 'm_down2', 'm_down3', 'm_body', 'm_up3', 'm_up2', 'm_up1'].map((stage) =>
      count(names, new RegExp(`^${stage}\\.(\\d+)\\.trans_block\\.`)),
    );
    if (shape('m_head.0.weight')[1] !== 3) return 'It is a SCUNet for pictures without colour.';
    return { file, config: { kind: 'scunet', dim: shape('m_head.0.weight')[0], config: blocks } };
  }
  const group = /^layers\.(\d+)\.residual_group\./;
  if (names.some((name) => group.test(name))) {
    const table = (layer: number) => shape(`layers.${layer}.residual_group.blocks.0.attn.relative_position_bias_table`);
    const first = shape('conv_first.1.weight');
    if (first.length !== 4 || !file.has('conv_hr.weight'))
      return "It is a SwinIR of another kind: those of DiffBIR read blocks of 8x8 pixels ('conv_first.1.weight').";
    const layers = Array.from({ length: count(names, group) }, (_, layer) => layer);
    const mlp = shape('layers.0.residual_group.blocks.0.mlp.fc1.weight');
    const config: CleanerConfig = {
      kind: 'swinir',
      embed_dim: first[0],
      depths: layers.map((layer) => count(names, new RegExp(`^layers\\.${layer}\\.residual_group\\.blocks\\.(\\d+)\\.`))),
      num_heads: layers.map((layer) => table(layer)[1] ?? 1),
      window_size: (Math.sqrt(table(0)[0] ?? 1) + 1) / 2,
      mlp_ratio: (mlp[0] ?? 0) / first[0],
      unshuffle_scale: Math.sqrt(first[1] / 3),
    };
    const derived = /\.(attn_mask|relative_position_index)$/;
    return { file: chosen(file, (name) => (derived.test(name) ? null : name)), config };
  }
  const spelling = RRDB_SPELLINGS.find(({ mark }) => file.has(mark));
  if (!spelling) return undefined;
  const single = spelling.rename ? chosen(file, spelling.rename(names)) : file;
  const sizes = rrdbSizes(single);
  return typeof sizes === 'string' ? sizes : { file: single, config: { kind: 'rrdb', ...sizes } };
}

/** RRDBNet's names: BSRNet's, which are the network's own; Real-ESRGAN's; and those of the first ESRGAN, numbered through. */
const RRDB_SPELLINGS: readonly { mark: string; rename?: (names: readonly string[]) => (name: string) => string | null }[] = [
  { mark: 'RRDB_trunk.0.RDB1.conv1.weight' },
  {
    mark: 'body.0.rdb1.conv1.weight',
    rename: () => (name) =>
      name
        .replace(/^body\.(\d+)\.rdb(\d)\./, 'RRDB_trunk.$1.RDB$2.')
        .replace(/^conv_body\./, 'trunk_conv.')
        .replace(/^conv_up(\d)\./, 'upconv$1.')
        .replace(/^conv_hr\./, 'HRconv.'),
  },
  {
    mark: 'model.1.sub.0.RDB1.conv1.0.weight',
    rename: (names) => {
      const last = count(names, /^model\.1\.sub\.(\d+)\./) - 1;
      const tail = [...new Set(names.flatMap((name) => Number(/^model\.(\d+)\./.exec(name)?.[1] ?? [])))]
        .filter((at) => at > 1)
        .sort((a, b) => a - b);
      const ends = new Map(tail.map((at, i) => [at, ['conv_last', 'HRconv'][tail.length - 1 - i] ?? `upconv${i + 1}`]));
      return (name) =>
        name
          .replace(/^model\.0\./, 'conv_first.')
          .replace(/^model\.1\.sub\.(\d+)\.(RDB\d\.conv\d)\.0\./, 'RRDB_trunk.$1.$2.')
          .replace(`model.1.sub.${last}.`, 'trunk_conv.')
          .replace(/^model\.(\d+)\./, (all, at) => (ends.has(Number(at)) ? `${ends.get(Number(at))}.` : all));
    },
  },
];

function rrdbSizes(file: TensorFile): RrdbConfig | string {
  const [nf, inputs] = file.has('conv_first.weight') ? file.info('conv_first.weight').shape : [];
  const outputs = file.has('conv_last.weight') ? file.info('conv_last.weight').shape[0] : 0;
  const unshuffle = { 3: 1, 12: 2, 48: 4 }[inputs ?? 0];
  if (unshuffle === undefined || outputs !== 3) return `It is an RRDBNet for pictures of ${inputs} channels; those of 3 are cleaned.`;
  const scale = 2 ** count(file.names(), /^upconv(\d)\.weight$/) / unshuffle;
  if (scale < 1) return `It is an RRDBNet that makes pictures smaller, by ${1 / scale}.`;
  const nb = count(file.names(), /^RRDB_trunk\.(\d+)\./);
  return {
    nf,
    nb,
    gc: file.info('RRDB_trunk.0.RDB1.conv1.weight').shape[0],
    scale,
    ...(unshuffle === unshuffleOf({ nf, nb, gc: 0, scale }) ? {} : { unshuffle }),
  };
}

/** A cleaner in words. */
export function cleanerTitle(config: CleanerConfig): string {
  if (config.kind === 'rrdb') return `RRDBNet (ESRGAN, BSRNet), x${config.scale}`;
  return config.kind === 'swinir' ? 'SwinIR' : 'SCUNet';
}

/** A file in words, as they fit after "is a"; null where it is none. */
export function diffBirTitle({ base, control, cleaner }: DiffBirFile): string | null {
  const parts = [
    ...(base ? ['Stable Diffusion 2'] : []),
    ...(control ? ['IRControlNet'] : []),
    ...(cleaner ? [`cleaner ${cleanerTitle(cleaner.config)}`] : []),
  ];
  if (parts.length === 0) return null;
  return control || cleaner ? `part of DiffBIR: ${parts.join(', ')}` : `checkpoint of ${parts.join(', ')}`;
}

/** The three folders of diffusers (unet/, vae/, text_encoder/) as one file; null where one is missing. */
export function diffusersBase(components: readonly TensorFile[]): TensorFile | null {
  const find = (mark: RegExp) => components.find((file) => file.names().some((name) => mark.test(name)));
  const [unet, vae, text] = [
    find(/^down_blocks\.\d+\.resnets\./),
    find(/^decoder\.(mid_block|up_blocks)\./),
    find(/^text_model\.encoder\./),
  ];
  if (!unet || !vae || !text) return null;
  return new Checkpoint([
    toSingle(unet, unetRules(unet.names())),
    toSingle(vae, vaeRules(vae.names())),
    toSingle(text, openClipRules(text.names(), 'cond_stage_model.model')),
  ]);
}

/** What a file of diffusers' folders is, where its shapes are those of Stable Diffusion 2. */
function diffusersTitle(file: TensorFile): string | null {
  const width = (name: string, axis: number) => (file.has(name) ? file.info(name).shape[axis] : undefined);
  const cross = file.names().find((name) => /^down_blocks\.\d+\..*attn2\.to_k\.weight$/.test(name));
  if (cross && width(cross, 1) === 1024) return 'UNet of Stable Diffusion 2';
  return width('text_model.final_layer_norm.weight', 0) === 1024 ? 'text tower of Stable Diffusion 2' : null;
}

/** What DiffBIR sees in files: parts of its own, and which of the three are missing. */
export function assessDiffBir(files: readonly TensorFile[]): Assessment {
  const found = files.map(diffBirFile);
  const components = files.map(diffusersTitle);
  const isDiffusers = components.some((title) => title !== null) && diffusersBase(files) !== null;
  const missing = (Object.keys(PARTS) as PartName[]).filter(
    (part) => !found.some((file) => file[part]) && !(part === 'base' && isDiffusers),
  );
  const lack = (parts: readonly PartName[]) => parts.map((part) => `${PARTS[part].title} (${PARTS[part].files})`).join(', and ');
  return {
    files: found.map((file, i) => {
      const title = components[i] ?? diffBirTitle(file);
      return title === null ? null : { title, advice: adviceOn(file, title, missing.length === 0) };
    }),
    missing: missing.length === 0 ? null : `DiffBIR lacks ${lack(missing)}.`,
  };
}

function adviceOn({ base, control, cleaner }: DiffBirFile, title: string, isComplete: boolean): string {
  if (base && control && cleaner) return 'It restores by itself, by the method DiffBIR.';
  if (isComplete) return '';
  if (!base && !control && !cleaner) return `The ${title} needs the two other folders of diffusers, an IRControlNet and a cleaner.`;
  const needs = [base ? '' : PARTS.base.title, control ? '' : PARTS.control.title, cleaner ? '' : PARTS.cleaner.title].filter(Boolean);
  const alone = cleaner ? 'It cleans or enlarges by itself. ' : '';
  return `${alone}DiffBIR restores with it and ${needs.join(' and ')} in one folder; it is no part of SUPIR, which needs SDXL.`;
}

/** What a cleaner alone sees in files: one cleaner, and no other part of a model beside it. */
export function assessCleaner(files: readonly TensorFile[]): Assessment {
  const found = files.map(diffBirFile);
  const others = found.some(({ base, control }) => base || control) || files.some((file) => isOfModel(file));
  const cleaners = found.filter(({ cleaner }) => cleaner);
  if (others || cleaners.length !== 1)
    return { files: files.map(() => null), missing: 'There is no cleaner alone: an ESRGAN, BSRNet, SCUNet, or SwinIR of DiffBIR.' };
  return {
    files: found.map((file) => (file.cleaner ? { title: diffBirTitle(file)!, advice: adviceOn(file, '', false) } : null)),
    missing: null,
  };
}

/** Whether SUPIR could use a file. */
export const isOfModel = (file: TensorFile): boolean => !diffBirFile(file).cleaner && !recognize(file).refusal;

/**
 * Files of DiffBIR as one, under the names of the files of 2023, which held everything; null where one of them is none of its own. One file keeps its
 * names.
 */
export function joinedDiffBir(files: readonly TensorFile[]): TensorFile | null {
  const found = files.map(diffBirFile);
  const base = found.some((file) => file.base) ? null : files.some(diffusersTitle) ? diffusersBase(files) : null;
  const inBase = (file: TensorFile) => base !== null && !diffBirFile(file).control && !diffBirFile(file).cleaner;
  if (!files.every((file, i) => diffBirTitle(found[i]) !== null || inBase(file))) return null;
  const parts = found.flatMap((file): [PartName, TensorFile][] => [
    ...(file.base ? ([['base', file.base]] as [PartName, TensorFile][]) : []),
    ...(file.control ? ([['control', file.control]] as [PartName, TensorFile][]) : []),
    ...(file.cleaner ? ([['cleaner', file.cleaner.file]] as [PartName, TensorFile][]) : []),
  ]);
  if (base) parts.unshift(['base', base]);
  if (files.length === 1) return files[0];
  return new Checkpoint(parts.map(([part, file]) => chosen(file, (name) => `${PREFIXES[part]}${name}`)));
}

const PREFIXES: Record<PartName, string> = { base: '', control: 'control_model.', cleaner: 'preprocess_model.' };
