/** `train init`: a model of any sizes before its first training. */
import { dirname } from 'node:path';
import { Command } from 'commander';
import { parseJsonBytes } from '../core/json.ts';
import { openDevice } from '../gpu/device.ts';
import { host } from '../host/node.ts';
import { parseConfig, parseModelFiles } from '../models/config.ts';
import { loadPictures } from '../train/data.ts';
import { startLinear } from '../train/linear-start.ts';
import { writeNewModel } from '../train/model-files.ts';
import { untrained } from '../train/untrained.ts';
import { number } from './restore-options.ts';

const HELP = `
The sizes are those of a config.json, whose 'files' name the weights to be written and the tokenizer beside it. Weights are random, by the seed. With
--linear the autoencoder begins as the best linear one for the photos of a folder, which spares it the longest part of its training.

Examples:
  $ npm run -s supir -- train init -o out/new --config demo/config.json --seed 1
  $ npm run -s supir -- train init -o out/new --config demo/config.json --linear photos --crops 16

Exit codes: 0 done, 2 bad input or option, 3 no adapter or the GPU failed.`;

interface InitFlags {
  output: string;
  config: string;
  tokenizer?: string;
  seed: number;
  linear?: string;
  crops: number;
  size: number;
  steps: number;
  batch: number;
}

export function trainInitCommand(): Command {
  return new Command('init')
    .description('Writes an untrained model of the sizes of a config.json, to begin trainings with.')
    .requiredOption('-o, --output <folder>', 'folder of the model')
    .requiredOption('--config <file>', "a model's config.json")
    .option('--tokenizer <file>', 'default: the one that the config.json names, beside it')
    .option('--seed <n>', 'of all that is drawn', number, 1)
    .option('--linear <photos>', 'folder of photos: let the autoencoder begin as the best linear one for them')
    .option('--crops <n>', 'square crops from each of these photos', number, 8)
    .option('--size <pixels>', "the crops' side", number, 64)
    .option('--steps <n>', "updates of the linear decoder's fit", number, 1500)
    .option('--batch <n>', 'crops in an update', number, 8)
    .addHelpText('after', HELP)
    .exitOverride()
    .action(init);
}

async function init(flags: InitFlags): Promise<void> {
  const { output, config: path, seed, linear, crops, size, steps, batch } = flags;
  const bytes = await host.readFile(path);
  const json = parseJsonBytes(bytes, path);
  const config = parseConfig(json, path);
  const tokenizer = await host.readFile(flags.tokenizer ?? `${dirname(path)}/${parseModelFiles(json, path).tokenizer}`);
  const weights = untrained(config, seed);
  if (linear !== undefined) {
    const pictures = await loadPictures(host, linear, { size, multiple: config.image_multiple, crops, seed });
    const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
    try {
      await startLinear(device, config, weights, pictures, {
        steps,
        batch,
        seed,
        onStep({ step, loss }) {
          if (step % 100 === 0)
            process.stderr.write(`linear decoder, step ${step} of ${steps}: ${(10 * Math.log10(4 / loss)).toFixed(2)} dB\n`);
        },
      });
    } finally {
      device.close();
    }
  }
  await writeNewModel(host, output, bytes, tokenizer, weights);
  const count = [...weights.values()].reduce((sum, { values }) => sum + values.length, 0);
  console.log(`${output}: ${weights.size} tensors, ${count} weights`);
}
