/** The options of `train`, as commander reads them, and its --config file. */
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../core/errors.ts';
import { LORA_TARGETS, type LoraTargetName } from '../train/lora.ts';
import type { LoraTrainingOptions } from '../train/lora-training.ts';
import type { WeightDType } from '../weights/attach.ts';
import { type DegradationFlags, degradationOptions } from './degrade-options.ts';
import { modelOption, number } from './restore-options.ts';
import { weightsOption } from './weights-input.ts';

export interface TrainFlags extends DegradationFlags {
  output: string;
  model: string;
  config?: string;
  name?: string;
  mode: LoraTrainingOptions['mode'];
  steps: number;
  batch: number;
  accumulate: number;
  rate: number;
  warmup: number;
  decay: 'constant' | 'cosine';
  betas: [number, number];
  weightDecay: number;
  lambda: number;
  clip: number;
  ema?: number;
  minSnr?: number;
  noiseOffset: number;
  seed: number;
  size?: number;
  crops: number;
  shortSide: number;
  caption?: string;
  validation?: string;
  sample?: string[];
  /** Of the model under a LoRA; what is trained itself is f32. */
  weights?: WeightDType;
  saveEvery: number;
  validateEvery: number;
  checkpointing: boolean;
  resume?: boolean;
  json?: boolean;
}

export interface LoraFlags extends TrainFlags {
  rank: number;
  alpha?: number;
  targets: LoraTargetName[];
  zero: 'A' | 'B';
  format: 'kohya' | 'peft';
  dtype: 'f16' | 'f32';
}

export type NetworkFlags = TrainFlags & { kl: number };

function betas(text: string): [number, number] {
  const [first, second, ...rest] = text.split(',').map(number);
  if (second === undefined || rest.length > 0) throw new InvalidArgumentError('It must be two numbers, such as 0.9,0.999.');
  return [first, second];
}

/** What all trainings take. `mode`: the default of --mode. */
export function trainDefinition(name: string, description: string, mode: TrainFlags['mode']): Command {
  const command = new Command(name)
    .description(description)
    .argument('<photos>', 'folder of PNG or JPEG files')
    .requiredOption('-o, --output <folder>', 'folder of the results')
    .option('--config <file>', 'a JSON file of options by their long names; the command line wins over it')
    .addOption(modelOption())
    .option('--name <name>', `the result's file name (default: ${name})`)
    .addOption(
      new Option('--mode <mode>', 'what the loss sees: SDXL alone, or the whole of SUPIR on degraded photos')
        .choices(['denoising', 'restoration'])
        .default(mode),
    )
    .option('--steps <n>', 'updates', number, 1000)
    .option('--batch <n>', 'photos in a pass', number, 1)
    .option('--accumulate <n>', 'passes in an update', number, 1)
    .option('--rate <x>', 'learning rate', number, 1e-4)
    .option('--warmup <n>', 'steps up to the learning rate', number, 0)
    .addOption(new Option('--decay <course>', 'of the learning rate').choices(['constant', 'cosine']).default('constant'))
    .addOption(new Option('--betas <b1,b2>', "decay of AdamW's moments").argParser(betas).default([0.9, 0.999]))
    .option('--weight-decay <x>', "AdamW's", number, 0.01)
    .option('--lambda <x>', 'weight of the sum of squares of what is trained in the loss', number, 0)
    .option('--clip <norm>', 'largest norm of the gradient; 0 for none', number, 1)
    .option('--ema <decay>', 'saves a moving average of the weights, commonly 0.999', number)
    .option('--min-snr <gamma>', 'min-SNR weighting, commonly 5', number)
    .option('--noise-offset <x>', 'shifts whole channels of the noise, commonly 0.05', number, 0)
    .option('--seed <n>', 'of all that is drawn', number, 1)
    .option('--size <pixels>', 'side of the training images; default: 64, or 512 for published models', number)
    .option('--crops <n>', 'square crops from each photo; 0 takes the whole photo, scaled', number, 0)
    .option('--short-side <pixels>', 'with --crops: larger photos are reduced to this short side first; 0 leaves them', number, 0)
    .option('--caption <text>', 'for photos without a caption')
    .option('--validation <folder>', 'photos to judge by; the best result by them is kept too')
    .option('--sample <photos...>', 'photos that are damaged and restored at every validation, as pictures of the progress')
    .option('--save-every <n>', 'steps between saves', number, 100)
    .option('--validate-every <n>', 'steps between validations', number, 100)
    .option('--no-checkpointing', 'keep all activations: faster, about twice the memory')
    .option('--resume', 'go on from the state in the folder')
    .option('--json', 'a JSON line a step');
  for (const option of degradationOptions()) command.addOption(option);
  return command.exitOverride();
}

export function loraDefinition(): Command {
  return trainDefinition('lora', 'Trains a LoRA of the UNet on photos, for plain denoising or for restoration.', 'denoising')
    .option('--rank <n>', 'columns of A and B', number, 8)
    .option('--alpha <x>', 'the change is multiplied by alpha / rank; default: rank', number)
    .addOption(
      new Option('--targets <names...>', 'which layers')
        .choices(Object.keys(LORA_TARGETS))
        .default(['attention', 'feedForward', 'projection']),
    )
    .addOption(new Option('--zero <factor>', 'which factor starts at zero').choices(['A', 'B']).default('B'))
    .addOption(weightsOption())
    .addOption(new Option('--format <layout>', 'names in the file').choices(['kohya', 'peft']).default('kohya'))
    .addOption(new Option('--dtype <type>', 'of the file').choices(['f16', 'f32']).default('f16'));
}

/** The flags, with what --config gives for those that the command line left out. Throws UserError for unknown options and wrong values. */
export function withConfig<Flags extends TrainFlags>(flags: Flags, command: Command): Flags {
  const file = flags.config;
  if (file === undefined) return flags;
  let given: unknown;
  try {
    given = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UserError(`${file} cannot be read as JSON: ${(error as Error).message}`);
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw new UserError(`${file} must be an object of options.`);
  for (const [key, value] of Object.entries(given)) {
    const option = command.options.find((each) => each.name() === key || each.attributeName() === key);
    if (!option || option.name() === 'config')
      throw new UserError(`${file}: there is no option '${key}'. See train ${command.name()} --help.`);
    const name = option.attributeName();
    if (command.getOptionValueSource(name) === 'cli') continue;
    if (option.isBoolean() || option.negate) {
      if (typeof value !== 'boolean') throw new UserError(`${file}: '${key}' must be true or false.`);
      command.setOptionValue(name, value);
      continue;
    }
    try {
      const parse = (text: string, before?: unknown): unknown => (option.parseArg ? option.parseArg(text, before as never) : text);
      const texts = [value].flat().map(String);
      command.setOptionValue(
        name,
        option.variadic ? texts.reduce<unknown>((all, text) => parse(text, all) ?? all, undefined) : parse(texts.join(',')),
      );
    } catch (error) {
      throw new UserError(`${file}: '${key}' is ${JSON.stringify(value)}. ${(error as Error).message}`);
    }
  }
  return command.opts() as Flags;
}
