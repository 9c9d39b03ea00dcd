/** `inspect <file|folder|url>...`: what files of weights are, what they hold, and what is missing to restore with them. Reads indices only. */
import { Command } from 'commander';
import { SUPIR_SDXL } from '../models/config.ts';
import { Supir } from '../models/supir.ts';
import { expectedKeys } from '../weights/attach.ts';
import { COMPONENTS, type Component, componentOf, isIgnored } from '../weights/layouts.ts';
import { describeMissing, sourcesOf } from '../weights/model-files.ts';
import { type Part, type Recognized, recognize } from '../weights/recognize.ts';
import { elementCount, type TensorFile } from '../weights/tensor-file.ts';
import { openInputs } from './weights-input.ts';

const EXAMPLES = `
Examples:
  $ npm run -s supir -- inspect sd_xl_base_1.0_0.9vae.safetensors SUPIR-v0Q.ckpt
  $ npm run -s supir -- inspect models/juggernaut-diffusers --tree 3`;

/** Missing or unknown names shown. */
const SHOWN = 5;

interface Flags {
  tree?: string | true;
  json?: boolean;
}

interface PartReport extends Part {
  title: string;
  /** Tensors of the published component that the file lacks. */
  missing: string[];
  /** Tensors whose shapes are not the published ones. */
  otherShapes: number;
}

interface FileReport {
  file: string;
  title: string;
  refusal: string | null;
  tensors: number;
  parameters: number;
  bytes: number;
  parts: PartReport[];
  unknown: string[];
  ignored: string[];
  combine: string;
  metadata: Record<string, string>;
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('Says what files of weights are, what they hold, and what is missing.')
    .argument('<file...>', 'files (.safetensors, .ckpt, .pt, .bin, .index.json), folders or web addresses')
    .option('--tree [depth]', 'print the names as a tree, to a depth (default: all of it)')
    .option('--json', 'print a JSON object')
    .addHelpText('after', EXAMPLES)
    .action((paths: string[], flags: Flags) => inspect(paths, flags));
}

async function inspect(paths: string[], flags: Flags): Promise<void> {
  const files = await openInputs(paths);
  const recognized = files.map(recognize);
  const expected = expectedKeys(new Supir(SUPIR_SDXL));
  const reports = files.map((file, i) => report(file, recognized[i], expected));
  const usable = recognized.filter(({ refusal }) => !refusal);
  const missing = describeMissing(sourcesOf(usable)) ?? null;
  for (const file of files) await file.close?.();
  if (flags.json) {
    console.log(JSON.stringify({ files: reports, together: { complete: missing === null, missing } }, null, 1));
    return;
  }
  for (const [i, found] of reports.entries()) {
    console.log(describe(found, found.refusal ?? (missing === null && files.length > 1 ? '' : found.combine)));
    if (flags.tree) console.log(tree(recognized[i].model, flags.tree === true ? Number.POSITIVE_INFINITY : Number(flags.tree)));
  }
  if (usable.length > 0) console.log(missing ?? 'Together they are a complete model.');
}

function report(
  file: TensorFile,
  { title, refusal, parts, unknown, model }: Recognized,
  expected: Map<string, readonly number[]>,
): FileReport {
  const infos = file.names().map((name) => file.info(name));
  const total = (count: (info: (typeof infos)[number]) => number) => infos.reduce((sum, info) => sum + count(info), 0);
  return {
    file: file.name,
    title,
    refusal,
    tensors: infos.length,
    parameters: total(({ shape }) => elementCount(shape)),
    bytes: total(({ begin, end }) => end - begin),
    parts: parts.map((part) => ({ ...part, title: COMPONENTS[part.component].title, ...compare(model, part.component, expected) })),
    unknown,
    ignored: model.names().filter(isIgnored),
    combine: refusal ? '' : advice(parts),
    metadata: Object.fromEntries(file.metadata),
  };
}

function compare(
  model: TensorFile,
  component: Component,
  expected: Map<string, readonly number[]>,
): Pick<PartReport, 'missing' | 'otherShapes'> {
  const names = [...expected.keys()].filter((name) => componentOf(name) === component);
  const missing = names.filter((name) => !model.has(name));
  const otherShapes = names.filter((name) => model.has(name) && String(model.info(name).shape) !== String(expected.get(name))).length;
  return { missing, otherShapes };
}

function advice(parts: readonly Part[]): string {
  const has = (component: Component) => parts.some((part) => part.component === component);
  const isSdxl = (['unet', 'vae', 'clip_l', 'big_g'] as const).every(has);
  const isSupir = (['control_model', 'project_modules', 'denoise_encoder'] as const).every(has);
  if (isSdxl && isSupir) return 'It restores by itself.';
  if (isSdxl) return 'Combine it with a SUPIR checkpoint (SUPIR-v0Q or SUPIR-v0F).';
  if (isSupir) return 'Combine it with an SDXL checkpoint (sd_xl_base_1.0_0.9vae or a fine-tune).';
  const note =
    has('vae') && parts.length === 1
      ? " Whether a VAE is SDXL's or that of Stable Diffusion 1.5 cannot be told: they differ in values only."
      : '';
  return `Give it after a full checkpoint, whose own it replaces: ${parts.map(({ component }) => COMPONENTS[component].title).join(', ')}.${note}`;
}

const count = (n: number, what: string): string => `${grouped(n)} ${what}${n === 1 ? '' : 's'}`;

const grouped = (n: number): string => n.toLocaleString('en');

/** Bytes in the largest unit of 1000 below them. */
export function size(bytes: number): string {
  const exponent = Math.min(3, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  return `${exponent === 0 ? bytes : (bytes / 1000 ** exponent).toFixed(2)} ${['B', 'kB', 'MB', 'GB'][exponent]}`;
}

function describe(found: FileReport, advice: string): string {
  const lines = [
    `${found.file}: ${found.title}, ${count(found.tensors, 'tensor')}, ${count(found.parameters, 'parameter')}, ${size(found.bytes)}`,
  ];
  const isOther = found.parts.length > 0 && found.parts.every(({ otherShapes }) => otherShapes > 0);
  for (const { title, tensors, parameters, dtypes, layout, missing, otherShapes } of found.parts) {
    const cells = [title.padEnd(28), grouped(tensors).padStart(6), grouped(parameters).padStart(14), dtypes.join(' ').padEnd(8), layout];
    lines.push(`  ${cells.join('  ')}`);
    if (otherShapes > 0 && !isOther)
      lines.push(`    ${grouped(otherShapes)} tensors have other shapes than the published model's: it needs a config.json of its own.`);
    else if (missing.length > 0 && !isOther) lines.push(`    ${count(missing.length, 'tensor')} missing: ${shown(missing)}`);
  }
  if (isOther) lines.push("  Its shapes are not the published model's: a config.json beside it must tell the sizes.");
  if (found.unknown.length > 0) lines.push(`  of no part of the model: ${count(found.unknown.length, 'tensor')}: ${shown(found.unknown)}`);
  if (found.ignored.length > 0) lines.push(`  passed over: ${shown(found.ignored)}`);
  if (advice) lines.push(`  ${advice}`);
  return lines.join('\n');
}

const shown = (names: readonly string[]): string =>
  names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ` and ${grouped(names.length - SHOWN)} more` : '');

interface Branch {
  children: Map<string, Branch>;
  tensors: number;
  parameters: number;
  leaf: string;
}

function tree(file: TensorFile, depth: number): string {
  const branch = (): Branch => ({ children: new Map(), tensors: 0, parameters: 0, leaf: '' });
  const root = branch();
  for (const name of file.names()) {
    const { dtype, shape } = file.info(name);
    let at = root;
    for (const key of name.split('.')) {
      const child = at.children.get(key) ?? branch();
      at.children.set(key, child);
      child.tensors++;
      child.parameters += elementCount(shape);
      at = child;
    }
    at.leaf = `${dtype} [${shape}]`;
  }
  return [...lines(root, '  ', depth)].join('\n');
}

function* lines({ children }: Branch, indent: string, depth: number): Generator<string> {
  if (depth < 1) return;
  for (const [key, child] of children) {
    yield `${indent}${key}  ${child.leaf || `${count(child.tensors, 'tensor')}, ${count(child.parameters, 'parameter')}`}`;
    yield* lines(child, `${indent}  `, depth - 1);
  }
}
