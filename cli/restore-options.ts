/** The options of `restore`, as commander reads them. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { DEMO } from '../host/demo.ts';
import { LoraScale } from '../models/lora-scale.ts';
import { keyOf, keysOf, type Option as OptionOfTable } from '../options/schema.ts';
import { spelled } from '../options/spelling.ts';
import { type Captioner, captionServer } from '../restore/caption.ts';
import { ALL_OPTIONS, type AnyMethod, METHODS, OPTION_ORDER } from '../restore/methods.ts';
import type { CommonOptions } from '../restore/options.ts';
import { CAPTION_FROM, type CaptionFrom, type LoraChoice } from '../restore/restorer.ts';
import type { WeightDType } from '../weights/attach.ts';
import { words } from './messages.ts';
import { METHOD_NAMES, presetsFor } from './model-config.ts';
import { argument, givenOptions, optionFlags } from './option-flags.ts';
import { FORMAT_NAMES, type FormatName } from './picture-files.ts';
import { COMMAND } from './program.ts';
import { parseShard, type Shard } from './shard.ts';
import { memoryOption, weightsOption } from './weights-input.ts';

const EXAMPLES = `
Examples:
  $ ${COMMAND} restore old.jpg -o new.png
  $ ${COMMAND} restore old.jpg -o new.png --upscale 2 --prompt "a lighthouse at dusk. " --seed 7
  $ ${COMMAND} restore old.jpg -o print.png --size 2048x1365 --fill
  $ ${COMMAND} restore old.jpg -o soft.png --start photo --strength 0.3
  $ ${COMMAND} restore old.jpg -o new.png --region 120,80,300,200 --region 600,40,90,90
  $ ${COMMAND} restore old.jpg -o new.png --mask scratches.png --feather 4
  $ ${COMMAND} restore group.jpg -o new.png --faces --face-lora portrait.safetensors:0.8
  $ ${COMMAND} restore album -o restored --caption-url http://localhost:11434/v1 --caption-model qwen3-vl
  $ ${COMMAND} restore old.jpg -o clean.png --stage1-only
  $ ${COMMAND} restore old.jpg -o new.png --memory 4 --dry-run
  $ ${COMMAND} restore old.jpg -o new.png --steps 2 --profile trace.json
  $ ${COMMAND} restore album --recursive -o restored --skip-existing --state .state
  $ ${COMMAND} restore album --recursive -o restored --shard auto/8 --skip-existing --log part.jsonl
  $ ${COMMAND} restore album --recursive -o restored --claim --gpu 1
  $ ${COMMAND} restore old.jpg --from new.png -o again.png
  $ ${COMMAND} restore old.jpg -o new.png --model diffbir --preset v2.1-denoise
  $ ${COMMAND} restore scan.tif -o new.tif --bits 16 --gamma 0.8 --color-fix lab
  $ ${COMMAND} restore old.jpg -o large.png --model RealESRGAN_x4plus.pth

The method follows from what the model folder holds: SUPIR, DiffBIR (base, IRControlNet and cleaner), or a cleaner alone (ESRGAN, SwinIR, SCUNet; also a
file by itself). --method clean takes the cleaner of a DiffBIR folder.
Options are spelled alike everywhere: --cfg-start here, cfg_start in config.json, cfgStart in recipes; the project's docs/options.md has
them all. Settings that are not given are those of the preset, else those that the model recommends (config.json), else SUPIR's own, shown above.
With several photos -o is a folder. Without --prompt a photo takes its caption from the text file beside it (old.jpg: old.txt), else from the captioner that
--caption-url names; \`${COMMAND} caption album\` writes such files. The quality words
(--positive) follow a typed prompt as it is, so end it with a blank, as above; a caption from a file is separated from them.
{name} in the names of --stage1, --compare, --preview, --report, --trace-to and --profile stands for the result's name, so that each of several results has its own;
where -o is a folder, those that are given without a folder of their own lie in it.
Exit codes: 0 done, 1 some photos of several failed, 2 bad input or option, 3 no adapter or the GPU failed, 130 interrupted.`;

export interface RestoreFlags {
  output: string;
  model: string;
  method?: string;
  lora?: LoraChoice[];
  faceLora?: LoraChoice[];
  mask?: string;
  captionUrl?: string;
  captionModel?: string;
  captionFrom: CaptionFrom;
  captionTiles?: boolean;
  captionTimeout: number;
  loraMerge?: boolean;
  weights?: WeightDType;
  stage1?: string;
  from?: string;
  state?: string;
  recursive?: boolean;
  overwrite?: boolean;
  skipExisting?: boolean;
  nameTemplate: string;
  format: FormatName;
  quality: number;
  bits: 8 | 16;
  shard?: Shard;
  /** A folder, or true for one in the output folder. */
  claim?: string | true;
  log?: string;
  numSamples: number;
  compare?: string;
  preview?: string;
  report?: string;
  trace?: string[];
  traceTo?: string;
  memory?: number;
  dryRun?: boolean;
  profile?: string;
  json?: boolean;
  quiet?: boolean;
}

/** A number, or commander's error. */
export const number = argument((text) => {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new UserError('It must be a number.');
  return value;
});

function seconds(text: string): number {
  const value = number(text);
  if (!(value >= 1 && value <= 3600)) throw new InvalidArgumentError('It must be a number from 1 to 3600.');
  return value;
}

function quality(text: string): number {
  const value = number(text);
  if (!Number.isInteger(value) || value < 1 || value > 100) throw new InvalidArgumentError('It must be an integer from 1 to 100.');
  return value;
}

function samples(text: string): number {
  const value = number(text);
  if (!Number.isInteger(value) || value < 1 || value > 100) throw new InvalidArgumentError('It must be an integer from 1 to 100.');
  return value;
}

function bits(text: string): number {
  if (text !== '8' && text !== '16') throw new InvalidArgumentError('It must be 8 or 16.');
  return number(text);
}

/** file:scale, or file alone for 1; added to those before. Paths may have colons. */
export function lora(text: string, before: LoraChoice[] = []): LoraChoice[] {
  const at = text.search(/:[^:/\\]*$/);
  const [path, scale] = at < 0 ? [text, '1'] : [text.slice(0, at), text.slice(at + 1)];
  try {
    new LoraScale(scale);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
  if (!path) throw new InvalidArgumentError('It must be file:scale, such as faces.safetensors:0.8.');
  return [...before, { path, scale: Number.isNaN(Number(scale)) ? scale : Number(scale) }];
}

/** --model, of every command that needs one. */
export function modelOption(): Option {
  const text = 'folder with config.json and the checkpoints it names, or with published checkpoints; or the file of a cleaner';
  return new Option('--model <folder>', text).default(DEMO);
}

/** --method, of every command that knows several. */
export function methodOption(what: string): Option {
  return new Option('--method <name>', `${what} (default: what the model folder is for)`).choices(METHOD_NAMES);
}

/** What decides the steps of sampling, of any method. */
export function samplingFlags(): Option[] {
  const preset = new Option(
    '--preset <name>',
    "settings that go together: those of the model, or its method's; listed at the end of this help",
  );
  return [preset, ...flagsOfMethods(({ group }) => group === 'sampling')];
}

/** Flags of every method's options, each once; its default is called by the first method that has it. */
export function flagsOfMethods(isWanted: (option: OptionOfTable, key: string) => boolean): Option[] {
  return OPTION_ORDER.flatMap(({ name, options }, i) => {
    const before = OPTION_ORDER.slice(0, i);
    const isOwn = (key: string) => !before.some((method) => keyOf(method.options, key) !== undefined);
    const keys = keysOf(options).filter((key) => isOwn(key) && isWanted(options[key], key));
    return optionFlags(ALL_OPTIONS, keys, name);
  });
}

/** Options of any method, before the method is known. */
export type GivenAny = Partial<CommonOptions> & { preset?: string; prompt?: string; tilePrompts?: readonly string[] };

/** The options of a restoration that were given on the command line. */
export function givenBy(command: Command): GivenAny {
  const { preset } = command.opts<{ preset?: string }>();
  return { ...givenOptions(ALL_OPTIONS, command), ...(preset === undefined ? {} : { preset }) };
}

/** Throws UserError naming the first option that another method has and this one does not. */
export function checkKnown({ name, options }: AnyMethod, given: GivenAny): void {
  const foreign = Object.keys(given).find((key) => key !== 'preset' && keyOf(options, key) === undefined);
  if (foreign === undefined) return;
  const owners = METHODS.filter((method) => keyOf(method.options, foreign) !== undefined).map((method) => method.name);
  throw new UserError(
    `--${spelled(foreign, 'kebab')} is an option of ${owners.join(' and ')}, and this model is restored with ${name}: leave it out.`,
    {
      code: 'foreign-option',
      option: foreign,
    },
  );
}

/** The presets of the model that is named, for the end of the help. */
export function presetHelp({ command }: { command: Command }): string {
  const { model } = command.opts<{ model: string }>();
  let found: ReturnType<typeof presetsFor>;
  try {
    found = presetsFor(model).filter(({ presets }, _, all) => all.length === 1 || Object.keys(presets).length > 0);
  } catch (error) {
    return `\nPresets: those of ${model} cannot be told. ${words(error as Error)}`;
  }
  const which = `the model ${model === DEMO ? 'that ships with the program' : model}`;
  return found
    .map(({ method, presets }) => presetList(found.length > 1 ? `${which}, where it is of ${method}` : which, presets))
    .join('\n');
}

function presetList(which: string, presets: ReturnType<typeof presetsFor>[number]['presets']): string {
  const entries = Object.entries(presets);
  const width = Math.max(0, ...entries.map(([name]) => shown(name, 40).length)) + 2;
  const told = entries.map(([name, { help, values }]) => {
    const list = Object.entries(values).map(([key, value]) => `${spelled(key, 'kebab')} ${shown(value, 40)}`);
    return `  ${shown(name, 40).padEnd(width)}${shown(help)} (${list.join(', ')})`;
  });
  return ['', `Presets of ${which}:`, ...(told.length > 0 ? told : ['  none'])].join('\n');
}

/** Who is asked what photos show. */
export function captionFlags(): Option[] {
  return [
    new Option(
      '--caption-url <address>',
      `ask a vision model what a photo shows, where no prompt and no text file says it: the address of an API as OpenAI's, such as http://localhost:11434/v1 (Ollama); a key is read from ${CAPTION_KEY}`,
    ),
    new Option('--caption-model <name>', 'the model, as that server calls it'),
    new Option('--caption-timeout <seconds>', 'how long one caption may take').argParser(seconds).default(120),
  ];
}

/** The captioner that the flags name; null where they name none. Throws UserError where one of the two is missing. */
export function captionerOf({ captionUrl: url, captionModel: model, captionTimeout: timeout }: Partial<RestoreFlags>): Captioner | null {
  if (url === undefined && model === undefined) return null;
  if (url === undefined || model === undefined)
    throw new UserError('--caption-url says who is asked for captions and --caption-model by which name: give both.');
  const key = process.env[CAPTION_KEY];
  return captionServer({ url, model, timeout, ...(key ? { key } : {}) });
}

/** Environment variable with the captioner's key. */
export const CAPTION_KEY = 'SUPIR_CAPTION_KEY';

/** The command without its action. */
export function restoreDefinition(): Command {
  const command = new Command('restore')
    .description('Restores photos: removes blur, noise and compression, and fills in detail.')
    .argument('<photos...>', 'PNG, JPEG, WebP, TIFF, AVIF or HEIC files, folders, or patterns such as "album/*.jpg"')
    .requiredOption('-o, --output <path>', 'where to write: a .png, .jpg, .webp, .tif or .avif file, or a folder for several photos')
    .addOption(modelOption())
    .addOption(methodOption('how to restore'))
    .addOption(
      new Option(
        '--lora <file:scale>',
        'apply a LoRA; 1 is as trained, 0.2..1 changes over the steps, 0.8,0@text is by block; may be given several times',
      ).argParser(lora),
    )
    .addOption(
      new Option(
        '--face-lora <file:scale>',
        'a LoRA for the faces that --faces finds, and for nothing else; may be given several times',
      ).argParser(lora),
    )
    .option('--lora-merge', 'change the weights by the LoRAs instead: quicker, and their scales are fixed')
    .addOption(weightsOption());
  for (const option of [...samplingFlags(), ...flagsOfMethods(({ group }) => group !== 'sampling')]) command.addOption(option);
  command.option(
    '--mask <file>',
    "restore what is white in this picture of the same size, and leave the rest as it is, bit for bit; {name} stands for the photo's name",
  );
  for (const option of captionFlags()) command.addOption(option);
  return command
    .addOption(
      new Option('--caption-from <what>', 'what the captioner is shown: the photo, or the stage-1 image, in which the damage is gone')
        .choices([...CAPTION_FROM])
        .default('photo'),
    )
    .option('--caption-tiles', 'ask it for each tile of sampling too, where there are several')
    .option('--stage1 <file>', 'write the stage-1 image too')
    .addOption(
      new Option('--num-samples <n>', 'restore with n seeds, one after another: name-1.png and so on, and name-samples.png with all')
        .argParser(samples)
        .default(1),
    )
    .option('--compare <file>', 'write photo, stage 1 and result side by side (.png), or a page with a slider between them (.html)')
    .option('--preview <folder>', 'write the stage-1 image and a quick picture of every step there')
    .option('--report <file>', 'write how far the result is from the photo (.json), and a picture of what changed beside it')
    .addOption(
      new Option(
        '--trace <names>',
        'research: keep activations of the networks that sample, or of a cleaner alone, such as "*.output_blocks.*,*.middle_block", at every step',
      ).argParser((text) => text.split(',')),
    )
    .option('--trace-to <folder>', 'where to: a safetensors file of each step, and pictures of the channels')
    .option('--from <file>', 'take all settings from the recipe inside a PNG that this program wrote')
    .option('--state <folder>', 'keep the last step there, and go on from it after an interruption')
    .option('--recursive', 'look into folders within folders')
    .option('--skip-existing', 'of several photos, leave those whose result is there already')
    .option('--overwrite', 'of several photos, replace results that are there already; one photo always does')
    .option('--name-template <name>', 'name of a result in the output folder, without ending', '{name}')
    .addOption(new Option('--format <ending>', 'file format in the output folder').choices(FORMAT_NAMES).default('png'))
    .addOption(new Option('--quality <n>', 'of JPEG, WebP and AVIF files, 1 to 100').argParser(quality).default(95))
    .addOption(new Option('--bits <8|16>', 'bits a sample of PNG and TIFF files; for 16, AVIF has 12').argParser(bits).default(8))
    .addOption(
      new Option(
        '--shard <i/n>',
        "of several photos, part i of n, by each photo's path in the album; auto or auto/n takes i from Slurm or Kubernetes; see docs/cluster.md",
      ).argParser(argument((text) => parseShard(text, process.env))),
    )
    .option(
      '--claim [folder]',
      'share the photos with other processes that were given the same: each takes the next one that no other has, and results that are there stay',
    )
    .option('--log <file>', 'append a line of JSON for every photo')
    .addOption(memoryOption('chosen by the adapter and the machine'))
    .option('--dry-run', 'tell what it would take, memory, reading and time, and restore nothing')
    .option('--profile <file.json>', 'print time per kernel, and write every dispatch as a trace that ui.perfetto.dev opens')
    .option('--quiet', 'no progress')
    .option('--json', 'print a line of JSON for every photo on standard output; no progress')
    .addHelpText('after', presetHelp)
    .addHelpText('after', EXAMPLES);
}
