/** `evaluate <photos...> -o <folder>`: compares methods on photos that are damaged on purpose. */
import { existsSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { sha256 } from '../core/digest.ts';
import { UserError } from '../core/errors.ts';
import { isRecord, kindOf, parseJsonBytes } from '../core/json.ts';
import { whyNotPlain } from '../core/plain-name.ts';
import { shown } from '../core/text.ts';
import { checkNames, type EvaluatedMethod, evaluateMethods, type Photo, picturePath, type Row } from '../evaluate/evaluate.ts';
import { figure } from '../evaluate/figure.ts';
import { LpipsMetric } from '../evaluate/lpips.ts';
import { BICUBIC, folderMethod, modelIdentity, type RestoringMethod, restoringMethod } from '../evaluate/methods.ts';
import { EVALUATION, type EvaluationOptions } from '../evaluate/options.ts';
import { csv, markdown, summarize } from '../evaluate/tables.ts';
import { openDevice } from '../gpu/device.ts';
import { host } from '../host/node.ts';
import { lock } from '../host/node-lock.ts';
import { readTextFile } from '../host/text-file.ts';
import { degradationOf } from '../image/degrade.ts';
import { encodePng } from '../image/encode.ts';
import { defaultsOf, keyOf, readOptions } from '../options/schema.ts';
import { captionPrompt } from '../restore/caption-prompt.ts';
import { ALL_OPTIONS, type AnyMethod } from '../restore/methods.ts';
import type { LoraChoice } from '../restore/restorer.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { fingerprint } from '../weights/fingerprint.ts';
import { Interrupted, onInterrupt } from './interrupt.ts';
import { METHOD_NAMES, methodAndConfig, methodsNamed } from './model-config.ts';
import { givenOptions, optionFlags } from './option-flags.ts';
import { checkWritable, pathKey, realPath } from './output-path.ts';
import { photoFiles } from './photo-files.ts';
import { COMMAND } from './program.ts';
import { checkKnown, flagsOfMethods, type GivenAny, givenBy, lora, modelOption, presetHelp, samplingFlags } from './restore-options.ts';

const HELP = `
Photos are damaged (as in the paper, unless told otherwise), restored by every method, and compared with what they were: PSNR over RGB and over
luma, SSIM with a Gaussian window, MS-SSIM, GMSD, LPIPS where its weights are given, sharpness (1 is the truth's), noise, seconds, and GPU memory.
The folder given with -o receives tables.md, results.csv, results.json, figure.png and every picture. Methods are bicubic (the damaged photo itself),
stage1, supir (or diffbir, whichever --model is of), that with each --lora, each folder of --results, and those of --methods, a JSON file such as
  [{"name": "5 steps", "options": {"steps": 5}}, {"name": "strong", "lora": ["faces.safetensors:1.5"], "model": "other-model"},
   {"name": "DiffBIR", "model": "diffbir", "options": {"preset": "v2.1-denoise"}}, {"name": "cleaner", "model": "diffbir", "method": "clean"}]
Settings on the command line are for the method of --model; others have those of the file.

Intervals are of the mean over photos, by Student's t. A photo's prompt is the .txt file beside it, else --prompt, else empty.

Examples:
  $ ${COMMAND} evaluate photos -o out/evaluation
  $ ${COMMAND} evaluate photos -o out/evaluation --lora demo/loras/landscape.safetensors --lora demo/loras/portrait.safetensors
  $ ${COMMAND} evaluate photos -o out/noisy --blur 0.8 --noise 20 --jpeg 50 --crop 256 --group faces=anna,otto
  $ ${COMMAND} evaluate photos -o out/evaluation --lpips alexnet.pth lpips-alex.safetensors --results other=other/results

Exit codes: 0 done, 2 bad input or option, 3 no adapter or the GPU failed, 130 interrupted (what was there by then is in the tables).`;

interface Flags {
  output: string;
  model: string;
  lora?: LoraChoice[];
  methods?: string;
  results?: { name: string; value: string }[];
  group?: { name: string; value: string }[];
  recursive?: boolean;
  resume?: boolean;
  json?: boolean;
}

/** What is wanted: the flags, the evaluation's options, and those of its restorations. */
interface Wanted extends Flags, EvaluationOptions {
  given: GivenAny;
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
    .argument('<photos...>', 'undamaged PNG, JPEG, WebP, TIFF, AVIF or HEIC files, folders, or patterns')
    .requiredOption('-o, --output <folder>', 'folder of the results')
    .addOption(modelOption())
    .addOption(new Option('--lora <file:scale>', 'a method more: supir with this LoRA; may be given several times').argParser(lora))
    .option('--methods <file>', 'further methods, in JSON')
    .addOption(new Option('--results <name=folder>', "another program's results; may be given several times").argParser(named))
    .addOption(new Option('--group <name=photos>', 'tables of some photos too, names with commas; several times').argParser(named));
  for (const option of optionFlags(EVALUATION)) command.addOption(option);
  command
    .option('--recursive', 'look into folders within folders')
    .option('--resume', 'keep the results that the folder has already, of the same damage and methods')
    .option('--json', 'print results.json');
  for (const option of [...samplingFlags(), ...flagsOfMethods((_, key) => key === 'seed')]) command.addOption(option);
  return command
    .addHelpText('after', presetHelp)
    .addHelpText('after', HELP)
    .action((photos: string[], flags: Flags, command: Command) => {
      const { prompt: _, ...given } = givenBy(command); // here it stands for missing captions
      const options = { ...defaultsOf(EVALUATION), ...givenOptions(EVALUATION, command) };
      return evaluate(photos, { ...flags, ...options, given });
    });
}

async function evaluate(named: string[], flags: Wanted): Promise<void> {
  const degradation = degradationOf(flags);
  const placing = { output: `${flags.output}/`, nameTemplate: '{name}', format: 'png', recursive: flags.recursive };
  const files = photoFiles(named, placing).photos;
  const photos: Photo[] = [];
  for (const { input, caption } of files) {
    const prompt = existsSync(caption) ? captionPrompt(await readTextFile(host, caption)) : (flags.prompt ?? '');
    photos.push({ name: basename(input, extname(input)), path: input, prompt });
  }
  checkNames([], photos);
  const groups = Object.fromEntries((flags.group ?? []).map(({ name, value }) => [name, value.split(',')]));
  const unknown = Object.values(groups)
    .flat()
    .filter((name) => !photos.some((photo) => photo.name === name));
  if (unknown.length > 0) throw new UserError(`--group names photos that are not there: ${unknown.join(', ')}.`);
  const interruption = onInterrupt(() => undefined);
  const { method: base, config } = await methodAndConfig(flags.model);
  const methods = await methodsOf(flags, base, interruption);
  if (!methods.some(({ name }) => name === flags.baseline))
    throw new UserError(
      `There is no method '${flags.baseline}' to compare with; there are: ${methods.map(({ name }) => name).join(', ')}.`,
    );
  checkNames(methods, photos);
  checkNothingOverwritten(flags, photos, methods);
  const perceptual = flags.lpips.length > 0 ? await openFiles(flags.lpips) : null;
  const contents = await Promise.all(photos.map(async ({ path }) => sha256(await host.readFile(path))));
  const settings = {
    degradation,
    seed: flags.damageSeed,
    crop: flags.crop,
    multiple: config.image_multiple,
    photos: photos.map(({ name, prompt }, i) => ({ name, prompt, sha256: contents[i] })),
    lpips: perceptual && (await fingerprint(perceptual)),
  };
  const identities = Object.fromEntries(methods.map(({ name, identity }) => [name, identity ?? null]));
  const unlock = await lock(join(flags.output, '.evaluation.lock'), `An evaluation in ${flags.output} is under way`);
  const { known, kept } = await knownRows(flags.resume ? flags.output : null, settings, identities).catch(async (error) => {
    await unlock();
    throw error;
  });
  const say = (text: string) => void (flags.json || process.stderr.write(`${text}\n`));
  const write = (file: string, text: string) => host.writeFileAtomic(`${flags.output}/${file}`, new TextEncoder().encode(text));
  const rows: Row[] = [];
  /** With what an earlier evaluation knew and this one has not come to yet. */
  const results = () => {
    const left = known.filter((row) => !rows.includes(row));
    const summaries = rows.some(({ method }) => method === flags.baseline) ? summarize(rows, flags.baseline, groups) : [];
    return { settings, methods: identities, baseline: flags.baseline, rows: [...rows, ...left], summaries, ...(kept ? { kept } : {}) };
  };
  let metric: LpipsMetric | null = null;
  let failure: unknown = null;
  try {
    metric = perceptual && (await lpipsMetric(perceptual));
    await evaluateMethods(host, flags.output, photos, methods, {
      ...settings,
      known,
      perceptual: metric && ((a, b) => metric!.distance(a, b)),
      now: () => performance.now(),
      stopped: () => interruption.aborted,
      onNote: (path, note) => say(`${shown(path)}: ${note}`),
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
    metric?.close();
    metric?.device.close();
  }
  try {
    await writeTables();
  } finally {
    await unlock();
  }
  if (interruption.aborted)
    throw new Interrupted(`${rows.length} pictures are in the tables of ${flags.output}, and --resume goes on from there.`);
  if (failure) throw failure;

  async function writeTables(): Promise<void> {
    if (rows.length === 0) return;
    await write('results.json', JSON.stringify(results(), null, 1));
    const { summaries } = results();
    const tables = markdown(rows, summaries, flags.baseline);
    await write('results.csv', csv(rows));
    await write('tables.md', tables);
    const shown = (summaries[0]?.photos ?? []).slice(0, flags.figureRows);
    if (shown.length > 0)
      await host.writeFileAtomic(`${flags.output}/figure.png`, encodePng(await figure(host, flags.output, rows, shown, 256)));
    console.log(flags.json ? JSON.stringify(results(), null, 1) : tables);
  }
}

/** Throws UserError where a picture or a table would be written over a photo, another program's result, or a file that is read. */
function checkNothingOverwritten(
  { output, methods: file, results = [], lpips }: Wanted,
  photos: Photo[],
  methods: EvaluatedMethod[],
): void {
  const read = new Map(
    [...photos.map(({ path }) => path), ...(file === undefined ? [] : [file]), ...lpips].map((path) => [pathKey(path), path]),
  );
  const tables = ['results.json', 'results.csv', 'tables.md', 'figure.png'].map((name) => join(output, name));
  const folders = ['truth', 'damaged', ...methods.map(({ name }) => name)];
  for (const path of [...tables, ...folders.flatMap((method) => photos.map(({ name }) => picturePath(output, method, name)))]) {
    const over = read.get(pathKey(path));
    if (over !== undefined) throw new UserError(`${shown(path)} would be written over ${shown(over)}. Choose another folder with -o.`);
    checkWritable(path);
  }
  for (const { value } of results) {
    const own = folders.find((method) => realPath(dirname(picturePath(output, method, 'x'))) === realPath(value));
    if (own !== undefined)
      throw new UserError(`Pictures of ${shown(own)} would be written into ${shown(value)}. Choose another folder with -o.`);
  }
}

/** What an earlier evaluation knew of methods that are not asked for now. */
interface Kept {
  methods: Record<string, unknown>;
  rows: Row[];
}

/** Rows of an earlier evaluation of the same pairs, in the folder where one is to be resumed: by the same methods, their pictures there still; and by others, which are kept. */
async function knownRows(
  folder: string | null,
  settings: object,
  identities: Record<string, string | null>,
): Promise<{ known: Row[]; kept: Kept | null }> {
  if (folder === null) return { known: [], kept: null };
  const path = `${folder}/results.json`;
  if (!(await host.exists(path))) return { known: [], kept: null };
  const before = parseResults(await host.readFile(path), path);
  if (JSON.stringify(before.settings) !== JSON.stringify(settings))
    throw new UserError(`${path} is of other photos or other damage. Leave --resume out to begin again, or choose another folder.`);
  const methods = { ...before.kept?.methods, ...before.methods };
  const rows = [...(before.kept?.rows ?? []), ...before.rows];
  const known: Row[] = [];
  for (const row of rows) {
    const { method, photo } = row;
    const isSame = Object.hasOwn(identities, method) && identities[method] !== null && identities[method] === methods[method];
    if (isSame && (await host.exists(picturePath(folder, method, photo)))) known.push(row);
  }
  const others = rows.filter(({ method }) => !Object.hasOwn(identities, method) && methods[method]);
  if (others.length === 0) return { known, kept: null };
  const names = new Set(others.map(({ method }) => method));
  return { known, kept: { methods: Object.fromEntries([...names].map((name) => [name, methods[name]])), rows: others } };
}

/** An earlier results.json. Throws UserError where it is none. */
function parseResults(
  bytes: Uint8Array,
  path: string,
): { settings: unknown; methods: Record<string, unknown>; rows: Row[]; kept: Kept | null } {
  const { settings, methods, rows, kept } = Object(parseJsonBytes(bytes, path)) as Record<string, unknown>;
  const isRow = (row: unknown) =>
    isRecord(row) && typeof row.method === 'string' && typeof row.photo === 'string' && typeof row.psnr === 'number';
  if (!isRecord(methods) || !Array.isArray(rows) || !rows.every(isRow))
    throw new UserError(`${path} holds no results of an evaluation. Leave --resume out to begin again, or choose another folder.`, {
      code: 'bad-results',
      file: path,
    });
  const isKept = isRecord(kept) && isRecord(kept.methods) && Array.isArray(kept.rows) && kept.rows.every(isRow);
  return { settings, methods, rows: rows as Row[], kept: isKept ? (kept as unknown as Kept) : null };
}

async function openFiles(paths: readonly string[]): Promise<Checkpoint> {
  return Checkpoint.open(await Promise.all(paths.map((path) => host.fileSource(path))));
}

/** On a device of its own: methods open and close theirs. */
async function lpipsMetric(checkpoint: Checkpoint): Promise<LpipsMetric> {
  return LpipsMetric.of(await openDevice({ gpu: await host.gpu(), settle: host.settle, debug: host.debug?.() }), checkpoint);
}

/** One of the methods that the file of --methods adds. */
interface GivenMethod {
  name: string;
  model?: string;
  /** How to restore, where the model folder is not to tell. */
  method?: string;
  loras: LoraChoice[];
  options: GivenAny;
}

async function methodsOf({ given, ...flags }: Wanted, base: AnyMethod, signal: AbortSignal): Promise<EvaluatedMethod[]> {
  const identities = new Map<string, Promise<string>>();
  const identityOf = (model: string) => identities.get(model) ?? identities.set(model, modelIdentity(host, model)).get(model)!;
  const restored = async ({
    model = flags.model,
    method: how,
    ...method
  }: Omit<RestoringMethod, 'model' | 'method'> & { model?: string; method?: string }) => {
    const { method: kind, config } = await methodAndConfig(model, how);
    // The command line's settings are those of the model that it names; another method has its own.
    const asked = kind === base ? { ...given, ...method.options } : { ...method.options };
    checkKnown(kind, asked);
    // Photos are damaged at their size; a preset or a model that enlarges is asked not to. Impossible options are refused before any work.
    const { upscale } = kind.choose(asked, config) as { upscale?: number };
    const options = upscale === 1 ? asked : { ...(upscale === undefined ? {} : { upscale: 1 }), ...asked };
    return restoringMethod(host, { ...method, model, method: kind, options }, signal, await identityOf(model));
  };
  const methods: EvaluatedMethod[] = [BICUBIC];
  if (keyOf(base.options, 'stage1Only') !== undefined)
    methods.push(await restored({ name: 'stage1', options: { stage1Only: true } as GivenAny }));
  methods.push(await restored({ name: base.name.toLowerCase() }));
  for (const choice of flags.lora ?? []) {
    const scale = choice.scale === 1 ? '' : `:${choice.scale}`;
    methods.push(await restored({ name: `${basename(choice.path, extname(choice.path))}${scale}`, loras: [choice] }));
  }
  for (const method of flags.methods === undefined ? [] : parseMethods(await host.readFile(flags.methods), flags.methods))
    methods.push(await restored(method));
  for (const { name, value } of flags.results ?? []) methods.push(await folderMethod(host, name, value));
  return methods;
}

/** Reads the file of --methods. Throws UserError naming the method and what in it is wrong. */
function parseMethods(bytes: Uint8Array, file: string): GivenMethod[] {
  const methods = parseJsonBytes(bytes, file);
  const wrong = (what: string): UserError => new UserError(`${file}: ${what}.`, { code: 'bad-methods', file });
  if (!Array.isArray(methods)) throw wrong(`it is ${kindOf(methods)}; it must be a list of methods`);
  return methods.map((method: unknown, i) => {
    if (!isRecord(method))
      throw wrong(`method ${i + 1} is ${kindOf(method)}; it must be an object with a name and any of model, lora and options`);
    const { name, model, method: how, lora: files = [], options = {}, ...others } = method;
    if (typeof name !== 'string' || name === '') throw wrong(`the name of method ${i + 1} is ${shown(name)}; it must be a text`);
    const why = whyNotPlain(name);
    if (why !== null) throw wrong(`the name of method ${i + 1}, '${shown(name)}', ${why}; it names a folder of its pictures`);
    const place = `method '${shown(name)}'`;
    const unknown = Object.keys(others)[0];
    if (unknown !== undefined) throw wrong(`${place} has '${shown(unknown)}'; there are name, model, method, lora and options`);
    if (how !== undefined && methodsNamed(String(how)).length === 0)
      throw wrong(`the method of ${place} is ${shown(how)}; there are: ${METHOD_NAMES.join(', ')}`);
    if (model !== undefined && typeof model !== 'string')
      throw wrong(`the model of ${place} is ${shown(model)}; it must be the name of a folder`);
    if (!Array.isArray(files) || !files.every((each) => typeof each === 'string'))
      throw wrong(`lora of ${place} is ${shown(files)}; it must be a list of texts such as "faces.safetensors:0.8"`);
    if (!isRecord(options)) throw wrong(`the options of ${place} are ${shown(options)}; they must be an object`);
    const { preset, ...rest } = options;
    if (preset !== undefined && typeof preset !== 'string') throw wrong(`the preset of ${place} is ${shown(preset)}; it must be a name`);
    const given = { ...readOptions(ALL_OPTIONS, rest, { file, place }), ...(preset === undefined ? {} : { preset }) };
    return {
      name,
      ...(model === undefined ? {} : { model }),
      ...(how === undefined ? {} : { method: String(how) }),
      loras: files.flatMap((text) => loraOf(text, file)),
      options: given,
    };
  });
}

function loraOf(text: string, file: string): LoraChoice[] {
  try {
    return lora(text);
  } catch (error) {
    throw new UserError(`${file}: '${shown(text)}' in 'lora' is wrong. ${(error as Error).message}`, { code: 'bad-methods', file });
  }
}
