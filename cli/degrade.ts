/** `degrade <photos...> -o <path>`: damages photos on purpose, to have pairs for training and evaluation. */
import { Command, Option } from 'commander';
import { factsOf, UserError } from '../core/errors.ts';
import { TorchRandom } from '../core/random.ts';
import { host } from '../host/node.ts';
import { decode } from '../image/decode.ts';
import { DEGRADATION, type Degradation, degradationOf, degrade, drawDegradation } from '../image/degrade.ts';
import { words } from './messages.ts';
import { givenOptions, optionFlags } from './option-flags.ts';
import { PartialFailure } from './partial-failure.ts';
import { photoFiles } from './photo-files.ts';
import { writePicture } from './picture-files.ts';
import { COMMAND } from './program.ts';
import { number } from './restore-options.ts';

const HELP = `
Damage comes in this order: blur, loss of resolution, noise, JPEG. Without any it is the paper's: blur 2 and a quarter of the size. The same
seed and the same list of photos give the same pixels everywhere.

Examples:
  $ ${COMMAND} degrade photos -o damaged
  $ ${COMMAND} degrade photo.png -o small.png --blur 2 --scale 4 --keep-small
  $ ${COMMAND} degrade photos -o damaged --blur 0 2 --scale 1 4 --noise 0 20 --jpeg 40 95 --seed 7

Exit codes: 0 done, 1 some photos of several failed, 2 bad input or option.`;

interface Flags {
  output: string;
  seed: number;
  keepSmall?: boolean;
  recursive?: boolean;
  nameTemplate: string;
  format: string;
  quality: number;
  json?: boolean;
}

export function degradeCommand(): Command {
  const command = new Command('degrade')
    .description('Damages photos on purpose: blur, loss of resolution, noise, JPEG.')
    .argument('<photos...>', 'PNG, JPEG, WebP, TIFF, AVIF or HEIC files, folders, or patterns such as "album/*.jpg"')
    .requiredOption('-o, --output <path>', 'where to write: a .png, .jpg, .webp, .tif or .avif file, or a folder for several photos');
  for (const option of optionFlags(DEGRADATION)) command.addOption(option);
  return command
    .option('--keep-small', 'do not enlarge the reduced photo again; noise and JPEG are then its own')
    .option('--seed <n>', 'of what is drawn from ranges, and of the noise', number, 0)
    .option('--recursive', 'look into folders within folders')
    .option('--name-template <name>', 'name of a result in the output folder, without ending', '{name}')
    .addOption(new Option('--format <ending>', 'file format in the output folder').choices(['png', 'jpg', 'webp']).default('png'))
    .option('--quality <n>', 'of JPEG, WebP and AVIF files, 1 to 100', number, 95)
    .option('--json', 'print a line of JSON for every photo, with what was drawn')
    .addHelpText('after', HELP)
    .action(degradePhotos);
}

async function degradePhotos(named: string[], flags: Flags, command: Command): Promise<void> {
  const ranges = { ...degradationOf(givenOptions(DEGRADATION, command)), ...(flags.keepSmall ? { enlarge: false } : {}) };
  const { photos, single } = photoFiles(named, flags);
  const failures: string[] = [];
  for (const [i, { input, output }] of photos.entries()) {
    try {
      const degradation: Degradation = drawDegradation(new TorchRandom(flags.seed + i), ranges);
      const photo = await decode(await host.readFile(input), input);
      if (photo.note) process.stderr.write(`${input}: ${photo.note}\n`);
      const damaged = { ...degrade(photo, degradation), metadata: photo.metadata };
      await writePicture(output, damaged, flags.quality);
      const { width, height } = damaged;
      console.log(flags.json ? JSON.stringify({ input, output, width, height, degradation }) : `${output}: ${width}x${height}`);
    } catch (error) {
      if (single || !(error instanceof UserError)) throw error;
      failures.push(input);
      if (flags.json) console.log(JSON.stringify({ input, output, error: error.message, ...factsOf(error) }));
      else process.stderr.write(`${words(error)}\n`);
    }
  }
  if (failures.length)
    throw new PartialFailure(`${failures.length} of ${photos.length} photos could not be damaged: ${failures.join(', ')}`);
}
