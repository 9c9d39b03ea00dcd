/** The flags of `train`, and its --config file. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { UserError } from '../core/errors.ts';
import { parseJsonBytes } from '../core/json.ts';
import { defaultsOf, type OptionValues, readOptions, type Schema, text } from '../options/schema.ts';
import { AUTOENCODER, LORA, type Mode, TRAINING, type TrainingChoice } from '../train/options.ts';
import type { WeightDType } from '../weights/attach.ts';
import { givenOptions, optionFlags } from './option-flags.ts';
import { modelOption } from './restore-options.ts';

/** Everything that a training is told: where to, from which model, and the options in force. */
export interface TrainSettings extends Omit<TrainingChoice, 'mode'> {
  output: string;
  model: string;
  mode: Mode;
  /** Of the model under a LoRA. */
  weights?: WeightDType | null;
}
export type LoraSettings = TrainSettings & OptionValues<typeof LORA>;
export type NetworkSettings = TrainSettings & OptionValues<typeof AUTOENCODER>;

const TABLES = { lora: { ...TRAINING, ...LORA }, vae: { ...TRAINING, ...AUTOENCODER }, other: TRAINING };

/** The options of a training by its name. */
const tableOf = (name: string): Schema => TABLES[name as keyof typeof TABLES] ?? TABLES.other;

/** A command of `train` without its action. */
export function trainDefinition(name: string, description: string): Command {
  const command = new Command(name)
    .description(description)
    .argument('<photos>', 'folder of PNG, JPEG, WebP, TIFF, AVIF or HEIC files')
    .requiredOption('-o, --output <folder>', 'folder of the results')
    .option(
      '--config <file>',
      'a JSON file of options by their names, such as {"steps": 2000, "min_snr": 5}; the command line wins over it',
    )
    .addOption(modelOption());
  for (const option of optionFlags(tableOf(name))) command.addOption(option);
  return command.exitOverride();
}

/** The options in force: defaults, then the file of --config, then the command line. Throws UserError for unknown options and wrong values. */
export function settingsOf<Settings extends TrainSettings>(command: Command, mode: Mode): Settings {
  const table = tableOf(command.name());
  const { output, model, config } = command.opts<{ output: string; model: string; config?: string }>();
  const file = config === undefined ? {} : readFile(config, table);
  const fromFile = command.getOptionValueSource('model') === 'cli' ? undefined : file.model;
  const values: Record<string, unknown> = { ...defaultsOf(table), ...file, ...givenOptions(table, command) };
  return { ...values, output, model: fromFile ?? model, mode: values.mode ?? mode } as Settings;
}

/** A file of settings; it may name the model too. */
function readFile(path: string, table: Schema): Partial<OptionValues<Schema>> & { model?: string | null } {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw new UserError(
      `${path} cannot be read: ${(cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : 'it is no readable file'}.`,
      {
        code: 'unreadable',
        file: path,
        cause,
      },
    );
  }
  const model = text({ group: 'run', default: null, help: 'model folder' });
  return readOptions<Schema>({ ...table, model }, parseJsonBytes(bytes, path), { file: path }, 'snake');
}
