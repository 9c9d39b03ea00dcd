/** `restore <image> -o <file>`: one photo through the whole of SUPIR. */
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { openDevice } from '../core/device.ts';
import { UserError } from '../core/errors.ts';
import { type KernelTime, Profile } from '../core/profiler.ts';
import { host } from '../host/node.ts';
import { decode } from '../image/decode.ts';
import { encodeJpeg, encodePng } from '../image/encode.ts';
import type { Image } from '../image/image.ts';
import { restorePhoto } from '../restore/job.ts';
import { SupirModel } from '../restore/model-folder.ts';
import { COLOR_FIXES, DEFAULTS, NEGATIVE_PROMPT, POSITIVE_PROMPT, type RestoreOptions } from '../restore/options.ts';
import { duration, progress } from './progress.ts';

/** The model that ships with the program; compiled files lie one folder deeper than sources. */
const DEMO = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../demo' : '../../demo', import.meta.url));

const EXAMPLES = `
Examples:
  $ npm run -s supir -- restore old.jpg -o new.png
  $ npm run -s supir -- restore old.jpg -o new.png --upscale 2 --prompt "a lighthouse at dusk. " --seed 7
  $ npm run -s supir -- restore old.jpg -o clean.png --stage1-only

Settings that are not given are those that the model recommends (config.json), else SUPIR's own, shown above.
Exit codes: 0 done, 2 bad input or option, 3 no adapter or the GPU failed, 130 interrupted.`;

interface Flags extends RestoreOptions {
  output: string;
  model: string;
  stage1?: string;
  profile?: boolean;
  json?: boolean;
  quiet?: boolean;
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

/** A numeric option whose default is shown but not set, so that the model's recommendation can come between. */
function setting(flags: string, text: string, key: keyof RestoreOptions): Option {
  return new Option(flags, `${text} (SUPIR: ${DEFAULTS[key]})`).argParser(number);
}

export function restoreCommand(): Command {
  return new Command('restore')
    .description('Restores a photo: removes blur, noise and compression, and fills in detail.')
    .argument('<image>', 'PNG or JPEG file')
    .requiredOption('-o, --output <file>', 'where to write the result: .png or .jpg')
    .option('--model <folder>', 'folder with config.json and the checkpoints it names', DEMO)
    .addOption(setting('--steps <n>', 'sampling steps', 'steps'))
    .addOption(setting('--cfg <scale>', 'guidance scale at the end', 'cfg'))
    .addOption(setting('--cfg-start <scale>', 'guidance scale at the start', 'cfgStart'))
    .addOption(setting('--control <scale>', 'control scale: how strongly the photo steers', 'control'))
    .option('--control-linear', 'let the control scale change over the run')
    .addOption(setting('--control-start <scale>', 'control scale at the start, with --control-linear', 'controlStart'))
    .addOption(
      setting('--restoration <power>', 'restoration guidance towards the stage-1 image; higher is weaker, -1 is off', 'restoration'),
    )
    .addOption(setting('--churn <amount>', 'noise added anew over the run', 'churn'))
    .addOption(setting('--s-noise <factor>', 'factor on added noise', 'sNoise'))
    .addOption(setting('--seed <n>', 'seed of the noise', 'seed'))
    .addOption(setting('--upscale <factor>', 'factor on width and height', 'upscale'))
    .addOption(
      new Option('--min-size <pixels>', "work with a short side of at least this (default: the model's, SUPIR: 1024)").argParser(number),
    )
    .option('--prompt <text>', 'what the photo shows')
    .option('--positive <text>', `quality words, put right behind the prompt (default: "${POSITIVE_PROMPT.slice(0, 40)}...")`)
    .option('--negative <text>', `what it should not look like (default: "${NEGATIVE_PROMPT.slice(0, 40)}...")`)
    .addOption(new Option('--color-fix <how>', `take colours from the stage-1 image (SUPIR: ${DEFAULTS.colorFix})`).choices(COLOR_FIXES))
    .option('--stage1-only', 'stop at the stage-1 image: no sampling')
    .option('--stage1 <file>', 'write the stage-1 image too')
    .option('--profile', 'print time per kernel')
    .option('--quiet', 'no progress')
    .option('--json', 'print a JSON object about the run on standard output; no progress')
    .addHelpText('after', EXAMPLES)
    .action((image: string, flags: Flags) => restore(image, flags));
}

async function restore(path: string, flags: Flags): Promise<void> {
  const begun = performance.now();
  const outputs = [flags.output, ...(flags.stage1 ? [flags.stage1] : [])];
  for (const output of outputs) encoderFor(output);
  const photo = await decode(await host.readFile(path), path);

  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort(new Interrupted());
  process.once('SIGINT', interrupt);
  const shown = flags.quiet || flags.json ? null : progress(path);
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  if (flags.profile) device.profile = new Profile();
  try {
    const model = await SupirModel.open(device, (name) => host.fileSource(`${flags.model}/${name}`));
    const cut = model.tokensCut((flags.prompt ?? '') + (flags.positive ?? POSITIVE_PROMPT));
    const result = await restorePhoto(model, photo, flags, { ...shown, signal: interrupted.signal });
    const peak = device.memory.peak;
    await model.close();
    shown?.stop();
    await host.writeFileAtomic(flags.output, encoderFor(flags.output)(result.image));
    if (flags.stage1) await host.writeFileAtomic(flags.stage1, encoderFor(flags.stage1)(result.stage1));
    const report = {
      output: flags.output,
      width: result.image.width,
      height: result.image.height,
      seconds: (performance.now() - begun) / 1000,
      adapter: device.facts.description || device.facts.device,
      pipelines: device.pipelineCount,
      peakGpuBytes: peak,
      promptTokensCut: cut,
      options: result.options,
      ...(device.profile ? { kernels: device.profile.kernels() } : {}),
    };
    if (flags.json) console.log(JSON.stringify(report));
    else if (!flags.quiet) {
      if (cut) process.stderr.write(`The prompt is ${cut} tokens too long; its end was ignored.\n`);
      if (device.profile) console.log(table(device.profile.kernels(), device.pipelineCount));
      console.log(
        `${flags.output}: ${report.width}x${report.height}, ${duration(performance.now() - begun)}, ${Math.round(peak / 1e6)} MB of GPU memory at most`,
      );
    }
  } finally {
    shown?.stop();
    process.removeListener('SIGINT', interrupt);
    device.close();
  }
}

/** Ctrl-C. */
export class Interrupted extends Error {
  override name = 'Interrupted';
  override message = 'Interrupted; nothing was written.';
}

function encoderFor(path: string): (image: Image) => Uint8Array<ArrayBuffer> {
  const extension = extname(path).toLowerCase();
  if (extension === '.png') return (image) => encodePng(image) as Uint8Array<ArrayBuffer>;
  if (extension === '.jpg' || extension === '.jpeg') return (image) => encodeJpeg(image, 95) as Uint8Array<ArrayBuffer>;
  throw new UserError(`Cannot write ${path}: the name must end in .png or .jpg.`);
}

function table(kernels: KernelTime[], pipelines: number): string {
  const rows = kernels.map(({ kernel, dispatches, ms, gflop }) =>
    [
      kernel.padEnd(40),
      String(dispatches).padStart(10),
      ms.toFixed(1).padStart(10),
      (gflop > 0 ? ((gflop / ms) * 1e3).toFixed(1) : '').padStart(10),
    ].join(' '),
  );
  const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
  return [
    `${'kernel'.padEnd(40)} dispatches         ms    GFLOP/s`,
    ...rows,
    `${pipelines} pipelines, ${total.toFixed(0)} ms in kernels`,
  ].join('\n');
}
