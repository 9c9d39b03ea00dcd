/** docs/options.md, made from the tables of options: what the command line, the page, recipes and files of settings take. */
import { EVALUATION, EVALUATION_GROUPS } from '../evaluate/options.ts';
import { spelled } from '../options/spelling.ts';
import { optionTables } from '../options/table.ts';
import { CLEAN_OPTIONS, DIFFBIR_OPTIONS, DIFFBIR_PRESETS } from '../restore/diffbir-options.ts';
import { OPTION_GROUPS, OPTIONS } from '../restore/options.ts';
import { PRESETS } from '../restore/presets.ts';
import { AUTOENCODER, LORA, TRAINING, TRAINING_GROUPS } from '../train/options.ts';

function presetTable(presets: Readonly<Record<string, { help: string; values: object }>>): string {
  const rows = Object.entries(presets).map(([name, { help, values }]) => {
    const list = Object.entries(values).map(([key, value]) => `${spelled(key, 'kebab')} ${value === '' ? 'none' : value}`);
    return `| \`${name}\` | ${help} | ${list.join(', ')} |`;
  });
  return ['| preset | | settings |', '|---|---|---|', ...rows].join('\n');
}

export function optionsPage(): string {
  return `# Options

<!-- Written by \`npm run docs:options\` from restore/options.ts, restore/diffbir-options.ts, train/options.ts and evaluate/options.ts; change those. -->

An option has one name, which changes mechanically between cases: \`--cfg-start\` on the command line and in the page, \`cfgStart\` in TypeScript and in
recipes, \`cfg_start\` in config.json and in files of settings. Wherever options are read from a file, any of these cases will do, and so will the former
names that the tables call "also read". What is no option, or not of the type or range in the table, is refused by name.

## Restoration

For \`restore\`; \`plan\` and \`evaluate\` take those of sampling and guidance. What is not given is the preset's, else what the model recommends
(config.json, \`recommended\`), else the default below, which is SUPIR's.

${optionTables(OPTIONS, OPTION_GROUPS)}
### Presets

\`--preset <name>\` chooses settings that go together. A model folder may bring its own, which then take the place of SUPIR's; \`restore --model <folder>
--help\` lists them. In its config.json:

\`\`\`json
"recommended": { "steps": 10, "cfg": 2 },
"presets": { "soft": { "help": "closer to the photo", "values": { "steps": 8, "restore_cfg": 2 } } }
\`\`\`

SUPIR's, for models that bring none:

${presetTable(PRESETS)}

## Restoration by DiffBIR

For \`restore\` with a model folder of DiffBIR ([methods.md](methods.md)). Defaults are those of the published program; files that tell their version by their
names recommend its preset.

${optionTables(DIFFBIR_OPTIONS, OPTION_GROUPS)}
### Presets of DiffBIR

${presetTable(DIFFBIR_PRESETS)}

## A cleaner alone

For \`restore\` with the file of a cleaner, and with \`--method clean\`.

${optionTables(CLEAN_OPTIONS, OPTION_GROUPS)}

## Training

For \`train\`, and for the file of its \`--config\`, a JSON object such as \`{ "steps": 2000, "min_snr": 5 }\`.

${optionTables({ ...TRAINING, ...LORA, ...AUTOENCODER }, TRAINING_GROUPS)}
## Evaluation

For \`evaluate\`. Options of the restorations that are compared are those of the table above.

${optionTables(EVALUATION, EVALUATION_GROUPS)}`.replace(/\n*$/, '\n');
}
