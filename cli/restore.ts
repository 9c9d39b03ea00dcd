/** `restore <image> -o <file>`: one photo through the whole of SUPIR. */
import { accessSync, constants, existsSync, realpathSync, statSync } from 'node:fs';
import { dirname, extname, resolve } from 'node:path';
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
import {
  COLOR_FIXES,
  DEFAULTS,
  type GivenOptions,
  NEGATIVE_PROMPT,
  POSITIVE_PROMPT,
  PRESETS,
  type RestoreOptions,
  RNGS,
  SAMPLERS,
} from '../restore/options.ts';
import { duration, progress } from './progress.ts';

/** The model that ships with the program; compiled files lie one folder deeper than sources. */
const DEMO = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../demo' : '../../demo', import.meta.url));

const EXAMPLES = `
Examples:
  $ npm run -s supir -- restore old.jpg -o new.png
  $ npm run -s supir -- restore old.jpg -o new.png --upscale 2 --prompt "a lighthouse at dusk. " --seed 7
  $ npm run -s supir -- restore old.jpg -o clean.png --stage1-only

Settings that are not given are those of the preset, else those that the model recommends (config.json), else SUPIR's own, shown above.
Exit codes: 0 done, 2 bad input or option, 3 no adapter or the GPU failed, 130 interrupted.`;

/** What --json prints, on one line. */
export interface RestoreReport {
  output: string;
  /** The file of --stage1. */
  stage1?: string;
  /** Size of the result in pixels. */
  width: number;
  height: number;
  /** Size at which the networks worked, in pixels. */
  working: { width: number; height: number };
  /** From the start of the command, reading and compiling included. */
  seconds: number;
  adapter: string;
  /** Compiled GPU programs. */
  pipelines: number;
  /** Most bytes of GPU buffers that were alive at once. */
  peakGpuBytes: number;
  /** How many tokens of the prompt did not fit. */
  promptTokensCut: number;
  /** Sentences for a person. */
  warnings: string[];
  /** The settings that were in force. */
  options: RestoreOptions;
  /** With --profile. */
  kernels?: KernelTime[];
}

type Flags = GivenOptions & {
  output: string;
  model: string;
  stage1?: string;
  profile?: boolean;
  json?: boolean;
  quiet?: boolean;
};

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
    .addOption(new Option('--preset <name>', 'settings that go together').choices(Object.keys(PRESETS)))
    .addOption(new Option('--sampler <name>', `how noise becomes a picture (SUPIR: ${DEFAULTS.sampler})`).choices(SAMPLERS))
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
    .addOption(new Option('--rng <name>', `whose noise a seed gives (SUPIR: ${DEFAULTS.rng})`).choices(RNGS))
    .addOption(setting('--upscale <factor>', 'factor on width and height', 'upscale'))
    .addOption(
      new Option('--min-size <pixels>', "work with a short side of at least this (default: the model's, SUPIR: 1024)").argParser(number),
    )
    .addOption(setting('--tile <latent-pixels>', 'sample larger latents in tiles of this; 0 never does', 'tile'))
    .addOption(setting('--tile-stride <latent-pixels>', 'from one tile to the next; 0 is half a tile', 'tileStride'))
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
  checkOutputs(path, flags);
  const photo = await decode(await host.readFile(path), path);
  const warnings: string[] = [];
  const shown = flags.quiet || flags.json ? null : progress(path);
  const interruption = onInterrupt(() => shown?.stop());
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  if (flags.profile) device.profile = new Profile();
  try {
    const model = await SupirModel.open(device, (name) => host.fileSource(`${flags.model}/${name}`));
    const cut = model.tokensCut((flags.prompt ?? DEFAULTS.prompt) + (flags.positive ?? DEFAULTS.positive));
    const warning = (text: string) => {
      warnings.push(text);
      shown?.stop();
      if (!flags.json) process.stderr.write(`Warning: ${text}\n`);
    };
    if (cut) warning(`The prompt is ${cut} tokens too long; its end is ignored.`);
    const result = await restorePhoto(model, photo, flags, { ...shown, warning, signal: interruption.signal });
    const peak = device.memory.peak;
    await model.close();
    shown?.stop();
    await host.writeFileAtomic(flags.output, encoderFor(flags.output)(result.image));
    if (flags.stage1) await host.writeFileAtomic(flags.stage1, encoderFor(flags.stage1)(result.stage1));
    const { width, height } = result.image;
    const ms = performance.now() - begun;
    const kernels = device.profile?.kernels();
    if (flags.json) {
      const report: RestoreReport = {
        output: flags.output,
        ...(flags.stage1 ? { stage1: flags.stage1 } : {}),
        width,
        height,
        working: result.working,
        seconds: ms / 1000,
        adapter: device.facts.description || device.facts.device,
        pipelines: device.pipelineCount,
        peakGpuBytes: peak,
        promptTokensCut: cut,
        warnings,
        options: result.options,
        ...(kernels ? { kernels } : {}),
      };
      console.log(JSON.stringify(report));
    } else if (!flags.quiet) {
      if (kernels) console.log(table(kernels, device.pipelineCount));
      console.log(`${flags.output}: ${width}x${height}, ${duration(ms)}, ${Math.round(peak / 1e6)} MB of GPU memory at most`);
    }
  } finally {
    shown?.stop();
    interruption.done();
    device.close();
  }
}

/** Finds out before the work what would stop the result from being written after it. Throws UserError. */
function checkOutputs(input: string, { output, stage1 }: Flags): void {
  for (const path of stage1 === undefined ? [output] : [output, stage1]) {
    encoderFor(path);
    if (existsSync(path) && existsSync(input) && realpathSync(path) === realpathSync(input))
      throw new UserError(`Cannot write ${path}: it is the photo itself. Give the result another name.`);
    if (existsSync(path) && statSync(path).isDirectory()) throw new UserError(`Cannot write ${path}: it is a folder.`);
    let folder = dirname(resolve(path));
    while (!existsSync(folder)) folder = dirname(folder); // missing folders will be made
    if (!statSync(folder).isDirectory()) throw new UserError(`Cannot write ${path}: ${folder} is a file, not a folder.`);
    try {
      accessSync(folder, constants.W_OK);
    } catch {
      throw new UserError(`Cannot write ${path}: the folder ${folder} may not be written to.`);
    }
  }
  if (stage1 !== undefined && resolve(stage1) === resolve(output))
    throw new UserError(`-o and --stage1 both name ${output}; give them different names.`);
}

/** Ctrl-C and requests to end stop the work at its next step; a second one ends the process at once. */
function onInterrupt(restoreTerminal: () => void): { signal: AbortSignal; done(): void } {
  const controller = new AbortController();
  const interrupt = () => {
    if (!controller.signal.aborted) return controller.abort(new Interrupted());
    restoreTerminal();
    process.exit(130);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.on(name, interrupt);
  return {
    signal: controller.signal,
    done() {
      for (const name of signals) process.removeListener(name, interrupt);
    },
  };
}

/** Ctrl-C, or a request to end. */
export class Interrupted extends Error {
  override name = 'Interrupted';
  override message = 'Interrupted; nothing was written.';
}

function encoderFor(path: string): (image: Image) => Uint8Array<ArrayBuffer> {
  const extension = extname(path).toLowerCase();
  if (extension === '.png') return (image) => encodePng(image);
  if (extension === '.jpg' || extension === '.jpeg') return (image) => encodeJpeg(image, 95);
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
