/** `train lora <photos> -o <folder>`: trains a LoRA of the UNet on a folder of photos with captions. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { openDevice } from '../core/device.ts';
import { UserError } from '../core/errors.ts';
import { host } from '../host/node.ts';
import { toUnit } from '../image/image.ts';
import { SupirModel } from '../restore/model-folder.ts';
import { type DataEncoder, type DataOptions, loadImages } from '../train/data.ts';
import { LORA_TARGETS, type LoraTargetName } from '../train/lora.ts';
import { LoraTraining, type LoraTrainingOptions } from '../train/lora-training.ts';
import { runTraining } from '../train/run.ts';
import { type DegradationFlags, degradationOf, degradationOptions } from './degrade-options.ts';
import { Interrupted } from './restore.ts';
import { number } from './restore-options.ts';

/** The model that ships with the program; compiled files lie one folder deeper than sources. */
const DEMO = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../demo' : '../../demo', import.meta.url));

const HELP = `
Each photo needs a caption in a .txt file of the same name, or --caption. The folder given with -o holds the LoRA (<name>.safetensors, which
other programs read too), the best one so far by validation, the state to resume from, a log (log.jsonl), the loss as a picture (loss.svg) and
the encoded photos. Ctrl-C saves and ends; --resume goes on as if nothing had happened.

Examples:
  $ npm run -s supir -- train lora photos/lakes -o out/lakes --steps 1000
  $ npm run -s supir -- train lora photos/faces -o out/faces --mode restoration --size 256 --blur 1 3 --jpeg 30 90 --rank 16
  $ npm run -s supir -- train lora photos/lakes -o out/lakes --steps 2000 --resume

Exit codes: 0 done, 2 bad input or option, 3 no adapter or the GPU failed, 130 interrupted.`;

interface Flags extends DegradationFlags {
  output: string;
  model: string;
  name: string;
  mode: LoraTrainingOptions['mode'];
  steps: number;
  batch: number;
  accumulate: number;
  rank: number;
  alpha?: number;
  targets: LoraTargetName[];
  zero: 'A' | 'B';
  rate: number;
  warmup: number;
  decay: 'constant' | 'cosine';
  weightDecay: number;
  lambda: number;
  minSnr?: number;
  noiseOffset: number;
  clip: number;
  ema?: number;
  seed: number;
  size?: number;
  crops: number;
  shortSide: number;
  caption?: string;
  validation?: string;
  format: 'kohya' | 'peft';
  dtype: 'f16' | 'f32';
  saveEvery: number;
  validateEvery: number;
  checkpointing: boolean;
  resume?: boolean;
  json?: boolean;
}

export function trainCommand(): Command {
  const lora = new Command('lora')
    .description('Trains a LoRA of the UNet on photos, for plain denoising or for restoration.')
    .argument('<photos>', 'folder of PNG or JPEG files, each with a .txt of its caption')
    .requiredOption('-o, --output <folder>', 'folder of the results')
    .option('-m, --model <folder>', 'model folder', DEMO)
    .option('--name <name>', "the LoRA's file name", 'lora')
    .addOption(
      new Option('--mode <mode>', 'what the loss sees: SDXL alone, or the whole of SUPIR on degraded photos')
        .choices(['denoising', 'restoration'])
        .default('denoising'),
    )
    .option('--steps <n>', 'updates', number, 1000)
    .option('--batch <n>', 'photos in a pass', number, 1)
    .option('--accumulate <n>', 'passes in an update', number, 1)
    .option('--rank <n>', 'columns of A and B', number, 8)
    .option('--alpha <x>', 'the change is multiplied by alpha / rank; default: rank', number)
    .addOption(
      new Option('--targets <names...>', 'which layers')
        .choices(Object.keys(LORA_TARGETS))
        .default(['attention', 'feedForward', 'projection']),
    )
    .addOption(new Option('--zero <factor>', 'which factor starts at zero').choices(['A', 'B']).default('B'))
    .option('--rate <x>', 'learning rate', number, 1e-4)
    .option('--warmup <n>', 'steps up to the learning rate', number, 0)
    .addOption(new Option('--decay <course>', 'of the learning rate').choices(['constant', 'cosine']).default('constant'))
    .option('--weight-decay <x>', "AdamW's", number, 0.01)
    .option('--lambda <x>', 'weight of |A|^2 + |B|^2 in the loss', number, 0)
    .option('--min-snr <gamma>', 'min-SNR weighting, commonly 5', number)
    .option('--noise-offset <x>', 'shifts whole channels of the noise, commonly 0.05', number, 0)
    .option('--clip <norm>', 'largest norm of the gradient; 0 for none', number, 1)
    .option('--ema <decay>', 'saves a moving average of the weights, commonly 0.999', number)
    .option('--seed <n>', 'of all that is drawn', number, 1)
    .option('--size <pixels>', 'side of the training images; default: 64, or 512 for published models', number)
    .option('--crops <n>', 'square crops from each photo; 0 takes the whole photo, scaled', number, 0)
    .option('--short-side <pixels>', 'with --crops: larger photos are reduced to this short side first; 0 leaves them', number, 0)
    .option('--caption <text>', 'for photos without a caption')
    .option('--validation <folder>', 'photos to judge by; the best LoRA by them is kept too')
    .addOption(new Option('--format <layout>', 'names in the file').choices(['kohya', 'peft']).default('kohya'))
    .addOption(new Option('--dtype <type>', 'of the file').choices(['f16', 'f32']).default('f16'))
    .option('--save-every <n>', 'steps between saves', number, 100)
    .option('--validate-every <n>', 'steps between validations', number, 100)
    .option('--no-checkpointing', 'keep all activations: faster, about twice the memory')
    .option('--resume', 'go on from the state in the folder')
    .option('--json', 'a JSON line a step')
    .addHelpText('after', HELP)
    .exitOverride()
    .action(trainLora);
  for (const option of degradationOptions()) lora.addOption(option);
  return new Command('train').description('Trains adapters of the model.').addCommand(lora);
}

/** The model's encoders and text towers for loading data. */
function encoderOf(model: SupirModel): DataEncoder {
  const { networks, config } = model;
  const scale = config.vae.scale_factor;
  return {
    identity: [config.name, ...model.baseNames].join(' '),
    async latent(image, which) {
      const { width, height, data } = toUnit(image);
      const { mean, logvar } = await networks.encode({ data, shape: [1, height, width, 3] }, which);
      return {
        shape: mean.shape.slice(1),
        mean: mean.data.map((value) => scale * value),
        deviation: logvar.data.map((value) => scale * Math.exp(Math.min(20, Math.max(-30, value)) / 2)),
      };
    },
    async text(caption) {
      const { context, vector } = await networks.condition(model.tokens(caption));
      return { context: context.data, vector: vector.data };
    },
  };
}

async function trainLora(photos: string, flags: Flags): Promise<void> {
  for (const folder of [photos, ...(flags.validation === undefined ? [] : [flags.validation])]) {
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
      throw new UserError(`There is no folder ${folder} (looked at ${resolve(folder)}).`);
  }
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  const model = await SupirModel.openFolder(device, host, flags.model);
  let training: LoraTraining | null = null;
  let stopping = false;
  const stop = () => {
    if (stopping) process.exit(130);
    stopping = true;
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  try {
    const { image_multiple } = model.config;
    const data: DataOptions = {
      size: flags.size ?? (model.config.min_size < 512 ? Math.max(64, image_multiple) : 512),
      multiple: image_multiple,
      crops: flags.crops,
      shortSide: flags.shortSide,
      caption: flags.caption ?? null,
      degradation: flags.mode === 'restoration' ? degradationOf(flags) : null,
      seed: flags.seed,
    };
    const say = (text: string) => void (flags.json || process.stderr.write(`${text}\n`));
    const onImage = (done: number, of: number, name: string) => say(`encoded ${name} (${done} of ${of})`);
    const load = (folder: string) => loadImages(host, folder, `${flags.output}/encoded`, encoderOf(model), data, { onImage });
    const images = await load(photos);
    const validation = flags.validation === undefined ? [] : await load(flags.validation);

    training = new LoraTraining(device, model.networks.supir, {
      mode: flags.mode,
      steps: flags.steps,
      batch: flags.batch,
      accumulate: flags.accumulate,
      seed: flags.seed,
      rank: flags.rank,
      ...(flags.alpha === undefined ? {} : { alpha: flags.alpha }),
      targets: flags.targets,
      zero: flags.zero,
      rate: flags.rate,
      warmup: flags.warmup,
      decay: flags.decay,
      weightDecay: flags.weightDecay,
      lambda: flags.lambda,
      minSnr: flags.minSnr ?? null,
      noiseOffset: flags.noiseOffset,
      clip: flags.clip === 0 ? null : flags.clip,
      ema: flags.ema ?? null,
      checkpointing: flags.checkpointing,
    });
    say(`${training.adapters.length} layers, ${images.length} images, ${validation.length} to validate by`);
    const result = await runTraining(host, training, images, validation, {
      folder: flags.output,
      name: flags.name,
      format: flags.format,
      dtype: flags.dtype,
      saveEvery: flags.saveEvery,
      validateEvery: flags.validateEvery,
      resume: flags.resume ?? false,
      stopped: () => stopping,
      now: () => performance.now(),
      onStep(report) {
        if (flags.json) console.log(JSON.stringify(report));
        else if (report.step % 10 === 0 || report.step === flags.steps)
          say(`step ${report.step} of ${flags.steps}: loss ${report.loss.toFixed(4)}`);
      },
      onValidation(step, loss, best) {
        if (flags.json) console.log(JSON.stringify({ step, validation: loss, best }));
        else say(`step ${step}: validation ${loss.toFixed(5)}${best ? ', the best so far' : ''}`);
      },
    });
    if (result.interrupted)
      throw Object.assign(new Interrupted(), { message: `Interrupted; step ${result.step} is saved, and --resume goes on from there.` });
    if (!flags.json)
      console.log(
        `${flags.output}/${flags.name}.safetensors: ${result.step} steps, ${Math.round(device.memory.peak / 1e6)} MB of GPU memory at most`,
      );
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
    await training?.dispose();
    await model.close();
    device.close();
  }
}
