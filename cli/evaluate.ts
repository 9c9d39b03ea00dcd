/** `evaluate <photos...> -o <folder>`: compares methods on photos that are damaged on purpose. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../core/errors.ts';
import { evaluateMethods, type Method, type Photo, type Row } from '../evaluate/evaluate.ts';
import { figure } from '../evaluate/figure.ts';
import { LpipsMetric } from '../evaluate/lpips.ts';
import { BICUBIC, folderMethod, type SupirMethod, supirMethod } from '../evaluate/methods.ts';
import { csv, markdown, summarize } from '../evaluate/tables.ts';
import { openDevice } from '../gpu/device.ts';
import { host } from '../host/node.ts';
import { encodePng } from '../image/encode.ts';
import { chooseOptions, DEFAULTS, type GivenOptions } from '../restore/options.ts';
import type { LoraChoice } from '../restore/restorer.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { type DegradationFlags, degradationOf, degradationOptions } from './degrade-options.ts';
import { Interrupted, onInterrupt } from './interrupt.ts';
import { configOf } from './model-config.ts';
import { photoFiles } from './photo-files.ts';
import { lora, modelOption, number, samplingOptions } from './restore-options.ts';

const HELP = `
Photos are damaged (as in the paper, unless told otherwise), restored by every method, and compared with what they were: PSNR over RGB and over
luma, SSIM with a Gaussian window, MS-SSIM, GMSD, LPIPS where its weights are given, sharpness (1 is the truth's), noise, and seconds. The folder given with -o receives tables.md, results.csv,
results.json, figure.png and every picture. Methods are bicubic (the damaged photo itself), stage1, supir, supir with each --lora, each folder
of --results, and those of --methods, a JSON file such as
  [{"name": "5 steps", "options": {"steps": 5}}, {"name": "strong", "lora": ["faces.safetensors:1.5"], "model": "other-model"}]

Intervals are of the mean over photos, by Student's t. A photo's prompt is the .txt file beside it, else --prompt, else empty.

Examples:
  $ npm run -s supir -- evaluate photos -o out/evaluation
  $ npm run -s supir -- evaluate photos -o out/evaluation --lora demo/loras/landscape.safetensors --lora demo/loras/portrait.safetensors
  $ npm run -s supir -- evaluate photos -o out/noisy --blur 0.8 --noise 20 --jpeg 50 --crop 256 --group faces=anna,otto
  $ npm run -s supir -- evaluate photos -o out/evaluation --lpips alexnet.pth lpips-alex.safetensors --results other=other/results

Exit codes: 0 done, 2 bad input or option, 3 no adapter or the GPU failed, 130 interrupted (what was there by then is in the tables).`;

interface Flags extends DegradationFlags {
  output: string;
  model: string;
  lora?: LoraChoice[];
  methods?: string;
  results?: { name: string; value: string }[];
  group?: { name: string; value: string }[];
  baseline: string;
  crop: number;
  damageSeed: number;
  lpips?: string[];
  figureRows: number;
  prompt?: string;
  recursive?: boolean;
  resume?: boolean;
  json?: boolean;
}

/** name=value; added to those before. */
function named(text: string, before: { name: string; value: string }[] = []): { name: string; value: string }[] {
  const [, name, value] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (!name) throw new InvalidArgumentError('It must be name=value.');
  return [...before, { name, value }];
}

export function evaluateCommand(): Command {
  const command = new Command('evaluate')
    .description('Compares methods of restoration on photos that are damaged on purpose: tables, intervals, pictures.')
    .argument('<photos...>', 'undamaged PNG, JPEG or WebP files, folders, or patterns')
    .requiredOption('-o, --output <folder>', 'folder of the results')
    .addOption(modelOption())
    .addOption(new Option('--lora <file:scale>', 'a method more: supir with this LoRA; may be given several times').argParser(lora))
    .option('--methods <file>', 'further methods, in JSON')
    .addOption(new Option('--results <name=folder>', "another program's results; may be given several times").argParser(named))
    .option('--baseline <name>', 'the method that others are compared with', 'supir')
    .addOption(new Option('--group <name=photos>', 'tables of some photos too, names with commas; several times').argParser(named));
  for (const option of degradationOptions()) command.addOption(option);
  command
    .option('--damage-seed <n>', 'of the damage', number, 0)
    .option('--crop <pixels>', "take each photo's middle, at most so many pixels a side; 0 takes all", number, 0)
    .option('--lpips <files...>', "torchvision's AlexNet or VGG16, and the LPIPS heads for it")
    .option('--figure-rows <n>', 'photos in figure.png', number, 8)
    .option('--prompt <text>', 'what photos without a caption show')
    .option('--seed <n>', 'seed of the sampler', number)
    .option('--recursive', 'look into folders within folders')
    .option('--resume', 'keep the results that the folder has already, of the same damage and methods')
    .option('--json', 'print results.json');
  for (const option of samplingOptions()) command.addOption(option);
  return command.addHelpText('after', HELP).action(evaluate);
}

async function evaluate(given: string[], flags: Flags & GivenOptions): Promise<void> {
  const degradation = degradationOf(flags);
  const placing = { output: `${flags.output}/`, nameTemplate: '{name}', format: 'png', recursive: flags.recursive };
  const files = photoFiles(given, placing).photos;
  const photos: Photo[] = [];
  for (const { input, caption } of files) {
    const prompt = existsSync(caption) ? (await readFile(caption, 'utf8')).trim() : (flags.prompt ?? '');
    photos.push({ name: basename(input, extname(input)), path: input, prompt });
  }
  const groups = Object.fromEntries((flags.group ?? []).map(({ name, value }) => [name, value.split(',')]));
  const unknown = Object.values(groups)
    .flat()
    .filter((name) => !photos.some((photo) => photo.name === name));
  if (unknown.length > 0) throw new UserError(`--group names photos that are not there: ${unknown.join(', ')}.`);
  const interruption = onInterrupt(() => undefined);
  const methods = await methodsOf(flags, interruption.signal);
  if (!methods.some(({ name }) => name === flags.baseline))
    throw new UserError(
      `There is no method '${flags.baseline}' to compare with; there are: ${methods.map(({ name }) => name).join(', ')}.`,
    );
  const settings = {
    degradation,
    seed: flags.damageSeed,
    crop: flags.crop,
    multiple: (await configOf(flags.model)).image_multiple,
    photos: photos.map(({ name, prompt }) => ({ name, prompt })),
  };
  const identities = Object.fromEntries(methods.map(({ name, identity }) => [name, identity ?? null]));
  const known = flags.resume ? await knownRows(flags.output, settings, identities) : [];
  const say = (text: string) => void (flags.json || process.stderr.write(`${text}\n`));
  const write = (file: string, text: string) => host.writeFileAtomic(`${flags.output}/${file}`, new TextEncoder().encode(text));
  const rows: Row[] = [];
  const results = () => {
    const summaries = rows.some(({ method }) => method === flags.baseline) ? summarize(rows, flags.baseline, groups) : [];
    return { settings, methods: identities, baseline: flags.baseline, rows, summaries };
  };
  const metric = flags.lpips ? await openLpips(flags.lpips) : null;
  let failure: unknown = null;
  try {
    await evaluateMethods(host, flags.output, photos, methods, {
      ...settings,
      known,
      perceptual: metric && ((a, b) => metric.distance(a, b)),
      now: () => performance.now(),
      stopped: () => interruption.signal.aborted,
      async onPicture(row, done, of) {
        rows.push(row);
        const { method, photo, psnr, ssim, seconds } = row;
        say(`${done} of ${of}: ${method}, ${photo}: ${psnr.toFixed(2)} dB, SSIM ${ssim.toFixed(3)}, ${seconds.toFixed(1)} s`);
        if (!known.includes(row)) await write('results.json', JSON.stringify(results(), null, 1));
      },
    });
  } catch (error) {
    failure = error; // after the tables of what was there by then
  } finally {
    interruption.done();
    metric?.close();
    metric?.device.close();
  }
  if (rows.length > 0) {
    const { summaries } = results();
    const tables = markdown(rows, summaries, flags.baseline);
    await write('results.csv', csv(rows));
    await write('tables.md', tables);
    const shown = (summaries[0]?.photos ?? []).slice(0, flags.figureRows);
    if (shown.length > 0)
      await host.writeFileAtomic(`${flags.output}/figure.png`, encodePng(await figure(host, flags.output, rows, shown, 256)));
    console.log(flags.json ? JSON.stringify(results(), null, 1) : tables);
  }
  if (interruption.signal.aborted)
    throw Object.assign(new Interrupted(), {
      message: `Interrupted; ${rows.length} pictures are in the tables of ${flags.output}, and --resume goes on from there.`,
    });
  if (failure) throw failure;
}

/** Rows of an earlier evaluation of the same pairs by the same methods. */
async function knownRows(folder: string, settings: object, identities: Record<string, string | null>): Promise<Row[]> {
  const path = `${folder}/results.json`;
  if (!(await host.exists(path))) return [];
  const before = JSON.parse(new TextDecoder().decode(await host.readFile(path)));
  if (JSON.stringify(before.settings) !== JSON.stringify(settings))
    throw new UserError(`${path} is of other photos or other damage. Leave --resume out to begin anew, or choose another folder.`);
  return (before.rows as Row[]).filter(({ method }) => identities[method] && identities[method] === before.methods[method]);
}

/** On a device of its own: methods open and close theirs. */
async function openLpips(paths: readonly string[]): Promise<LpipsMetric> {
  const checkpoint = await Checkpoint.open(await Promise.all(paths.map((path) => host.fileSource(path))));
  return LpipsMetric.of(await openDevice({ gpu: await host.gpu(), settle: host.settle }), checkpoint);
}

/** What the JSON file of --methods holds. */
interface GivenMethod {
  name: string;
  model?: string;
  lora?: string[];
  options?: GivenOptions;
}

async function methodsOf(flags: Flags & GivenOptions, signal: AbortSignal): Promise<Method[]> {
  const supir = async ({ model = flags.model, ...method }: Omit<SupirMethod, 'model'> & { model?: string }) => {
    const options = { ...flags, prompt: undefined, ...method.options };
    chooseOptions(options, await configOf(model)); // refuses impossible ones before any work
    return supirMethod(host, { ...method, model, options }, signal);
  };
  const methods: Method[] = [BICUBIC, await supir({ name: 'stage1', options: { stage1Only: true } }), await supir({ name: 'supir' })];
  for (const choice of flags.lora ?? []) {
    const scale = choice.scale === 1 ? '' : `:${choice.scale}`;
    methods.push(await supir({ name: `${basename(choice.path, extname(choice.path))}${scale}`, loras: [choice] }));
  }
  for (const method of flags.methods === undefined ? [] : parseMethods(await host.readFile(flags.methods), flags.methods))
    methods.push(await supir({ ...method, loras: (method.lora ?? []).flatMap((text) => loraOf(text, flags.methods!)) }));
  for (const { name, value } of flags.results ?? []) methods.push(await folderMethod(host, name, value));
  const names = methods.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i || name === 'truth' || name === 'damaged');
  if (twice !== undefined) throw new UserError(`The method name '${twice}' is taken; give the method another one.`);
  return methods;
}

function loraOf(text: string, file: string): LoraChoice[] {
  try {
    return lora(text);
  } catch (error) {
    throw new UserError(`${file}: '${text}' in 'lora' is wrong. ${(error as Error).message}`);
  }
}

function parseMethods(bytes: Uint8Array, file: string): GivenMethod[] {
  let methods: unknown;
  try {
    methods = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new UserError(`${file} is not JSON: ${(error as Error).message}`);
  }
  const isText = (value: unknown) => typeof value === 'string';
  const good = (method: GivenMethod) =>
    isText(method?.name) && isText(method.model ?? '') && (method.lora ?? []).every(isText) && typeof (method.options ?? {}) === 'object';
  if (!Array.isArray(methods) || !methods.every(good))
    throw new UserError(`${file} must be a list of methods with a name and any of model, lora (a list of file:scale) and options.`);
  for (const { name, options } of methods as GivenMethod[]) {
    const unknown = Object.keys(options ?? {}).find((key) => !(key in DEFAULTS || key === 'preset'));
    if (unknown !== undefined)
      throw new UserError(`${file}: method '${name}' has an unknown option '${unknown}'; there are: ${Object.keys(DEFAULTS).join(', ')}.`);
  }
  return methods;
}
