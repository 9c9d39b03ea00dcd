/** `train <what> <photos> -o <folder>`: trains a LoRA of the UNet, or a part of the model itself, on a folder of photos. */
import { existsSync, statSync } from 'node:fs';
import { basename, extname, join, resolve } from 'node:path';
import { Command } from 'commander';
import { type DeviceError, UserError } from '../core/errors.ts';
import { nameKey, plainName } from '../core/plain-name.ts';
import { shown } from '../core/text.ts';
import { makePair } from '../evaluate/evaluate.ts';
import { type Device, openDevice } from '../gpu/device.ts';
import { keepPace, recallPace } from '../gpu/kept-pace.ts';
import { onDevices } from '../gpu/recovery.ts';
import { tuneTiles } from '../gpu/tile-tuning.ts';
import { host } from '../host/node.ts';
import { checkNotRead } from '../host/node-files.ts';
import { lock } from '../host/node-lock.ts';
import { sideBySide } from '../image/compose.ts';
import { decode } from '../image/decode.ts';
import { degradationOf } from '../image/degrade.ts';
import { encodePng } from '../image/encode.ts';
import { toUnit } from '../image/image.ts';
import { LoraStack } from '../models/lora.ts';
import { cleanedPrompt } from '../models/prompt-cleaning.ts';
import { restorePhoto } from '../restore/job.ts';
import { SUPIR } from '../restore/supir.ts';
import { SupirModel } from '../restore/supir-model.ts';
import { type DataEncoder, type DataOptions, loadImages, loadPictures } from '../train/data.ts';
import { LoraTraining } from '../train/lora-training.ts';
import { writeModelFolder } from '../train/model-files.ts';
import { NETWORKS, NetworkTraining, type TrainableNetwork } from '../train/network-training.ts';
import { type RunResult, runTraining } from '../train/run.ts';
import type { Training, TrainingItem, TrainingOptions } from '../train/training.ts';
import { fingerprint } from '../weights/fingerprint.ts';
import { Interrupted, onInterrupt } from './interrupt.ts';
import { words } from './messages.ts';
import { checkWritable, realPath } from './output-path.ts';
import { COMMAND } from './program.ts';
import { duration } from './progress.ts';
import { trainInitCommand } from './train-init.ts';
import { type LoraSettings, type NetworkSettings, settingsOf, type TrainSettings, trainDefinition } from './train-options.ts';

const FOLDER = `
The folder given with -o holds the result (<name>.safetensors), the best one so far by validation, the state to resume from, a log (log.jsonl),
the loss as a picture (loss.svg) and the encoded photos. Ctrl-C saves and ends; --resume goes on as if nothing had happened.`;

const EXIT = `
Exit codes: 0 done, 2 bad input or option, 3 no adapter or the GPU failed, 130 interrupted.`;

const LORA_HELP = `
Each photo needs a caption in a .txt file of the same name, or --caption.${FOLDER}

Examples:
  $ ${COMMAND} train lora photos/lakes -o out/lakes --steps 1000
  $ ${COMMAND} train lora photos/faces -o out/faces --mode restoration --size 256 --blur 1 3 --jpeg 30 90 --rank 16
  $ ${COMMAND} train lora photos/lakes -o out/lakes --steps 2000 --resume
${EXIT}`;

const networkHelp = (network: string) => `
All weights of the part are trained. At the end the folder model within holds the whole model with the result in it, for --model.${FOLDER}

Examples:
  $ ${COMMAND} train ${network} photos -o out/${network} --steps 1000 --batch 4 --crops 8 --ema 0.999 --validation held-out
  $ ${COMMAND} train ${network} photos -o out/${network} --config settings.json
${EXIT}`;

const DESCRIPTIONS: Record<TrainableNetwork, string> = {
  vae: "Trains SDXL's autoencoder on pixels: L1 and a little KL.",
  'denoise-encoder': "Trains SUPIR's encoder of damaged photos: what it gives decodes to the clean photo.",
  unet: "Trains SDXL's UNet.",
  control: "Trains SUPIR's control network and the modules through which it acts.",
};

export function trainCommand(): Command {
  const train = new Command('train').description('Trains adapters of the model, or parts of the model itself.');
  train.addCommand(trainInitCommand());
  train.addCommand(
    trainDefinition('lora', 'Trains a LoRA of the UNet on photos, for plain denoising or for restoration.')
      .addHelpText('after', LORA_HELP)
      .action((photos: string, _: unknown, command: Command) => trainLora(photos, settingsOf(command, 'denoising'))),
  );
  for (const network of NETWORKS) {
    const mode = network === 'unet' || network === 'vae' ? 'denoising' : 'restoration';
    train.addCommand(
      trainDefinition(network, DESCRIPTIONS[network])
        .addHelpText('after', networkHelp(network))
        .action((photos: string, _: unknown, command: Command) => trainNetwork(network, photos, settingsOf(command, mode))),
    );
  }
  return train;
}

/** The model's encoders and text towers for loading data. */
function encoderOf(model: SupirModel, weights: string): DataEncoder {
  const { config } = model;
  const scale = config.vae.scale_factor;
  return {
    identity: [config.name, ...model.baseNames, weights].join(' '),
    async latent(image, which) {
      const { width, height, data } = toUnit(image);
      const { mean, logvar } = await model.encode({ data, shape: [1, height, width, 3] }, which);
      return {
        shape: mean.shape.slice(1),
        mean: mean.data.map((value) => scale * value),
        deviation: logvar.data.map((value) => scale * Math.exp(Math.min(20, Math.max(-30, value)) / 2)),
      };
    },
    async text(caption) {
      const { context, vector } = await model.condition(model.tokens(await cleanedPrompt(caption)));
      return { context: context.data, vector: vector.data };
    },
  };
}

/** What stands in a training's state. */
function sharedOptions(settings: TrainSettings) {
  const { mode, steps, batch, accumulate, seed, rate, warmup, decay, betas, weightDecay, lambda, minSnr, noiseOffset } = settings;
  const { clip, ema, checkpointing } = settings;
  const optimizer = { rate, warmup, decay, betas, weightDecay, lambda, clip: clip === 0 ? null : clip, ema };
  return { mode, steps, batch, accumulate, seed, minSnr, noiseOffset, checkpointing, ...optimizer };
}

function trainLora(photos: string, flags: LoraSettings): Promise<void> {
  return withModel(photos, flags, flags.name ?? 'lora', async (session) => {
    const { model } = session;
    const { rank, alpha, targets, zero } = flags;
    const name = flags.name ?? 'lora';
    const shape = { rank, ...(alpha === null ? {} : { alpha }), targets, zero };
    const training = new LoraTraining(model.device, model.networks, { ...sharedOptions(flags), ...shape });
    try {
      const { images, validation } = await session.load((folder) => session.latents(folder));
      model.loras.stack = training.stack; // for samples
      session.say(`${training.adapters.length} layers, ${images.length} images, ${validation.length} to validate by`);
      await session.run(training, name, images, validation, () => training.encode(name, images.length, flags));
    } finally {
      model.loras.stack = new LoraStack([]);
      await training.dispose();
    }
  });
}

function trainNetwork(network: TrainableNetwork, photos: string, flags: NetworkSettings): Promise<void> {
  return withModel(photos, flags, flags.name ?? network, async (session) => {
    const isPixels = network === 'vae' || network === 'denoise-encoder';
    const { device, networks: supir } = session.model;
    const options = { ...sharedOptions(flags), network, ...(network === 'vae' ? { kl: flags.kl } : {}) };
    const training = await NetworkTraining.open<TrainingItem>(device, supir, options);
    try {
      const load = (folder: string): Promise<TrainingItem[]> => (isPixels ? session.pictures(folder) : session.latents(folder));
      const { images, validation } = await session.load(load);
      session.say(`${training.weights.length} weights, ${images.length} images, ${validation.length} to validate by`);
      await session.run(training, flags.name ?? network, images, validation, () => training.encode());
      const values = await training.result();
      const result = new Map(training.weights.map(({ name }, n) => [name, values[n]]));
      await writeModelFolder(host, flags.model, `${flags.output}/model`, result);
    } finally {
      await training.dispose();
    }
  });
}

/** What every training does around its own part. */
class Session {
  readonly model: SupirModel;
  /** Of the model's weights, and how they lie in memory. */
  private readonly fingerprint: string;
  private readonly flags: TrainSettings;
  private readonly photos: string;
  private readonly data: DataOptions;
  private readonly stopped: () => boolean;
  private readonly progressed: () => void;

  constructor(model: SupirModel, weights: string, photos: string, flags: TrainSettings, stopped: () => boolean, progressed: () => void) {
    const { image_multiple, min_size } = model.config;
    this.model = model;
    this.fingerprint = weights;
    this.flags = flags;
    this.photos = photos;
    this.stopped = stopped;
    this.progressed = progressed;
    this.data = {
      size: flags.size ?? (min_size < 512 ? Math.max(64, image_multiple) : 512),
      multiple: image_multiple,
      crops: flags.crops,
      shortSide: flags.shortSide,
      caption: flags.caption,
      degradation: flags.mode === 'restoration' ? degradationOf(flags) : null,
      seed: flags.seed,
    };
  }

  say(text: string): void {
    if (!this.flags.json) process.stderr.write(`${text}\n`);
  }

  private readonly onNote = (name: string, note: string) => this.say(`${shown(name)}: ${note}`);
  private readonly onImage = (done: number, of: number, name: string) => this.say(`read ${name} (${done} of ${of})`);

  /** The images to train on, and those to judge by. */
  async load<Item>(read: (folder: string) => Promise<Item[]>): Promise<{ images: Item[]; validation: Item[] }> {
    const { validation } = this.flags;
    return { images: await read(this.photos), validation: validation === null ? [] : await read(validation) };
  }

  latents(folder: string) {
    return loadImages(host, folder, `${this.flags.output}/encoded`, encoderOf(this.model, this.fingerprint), this.data, {
      onImage: this.onImage,
      onNote: this.onNote,
    });
  }

  pictures(folder: string) {
    return loadPictures(host, folder, this.data, { onImage: this.onImage, onNote: this.onNote });
  }

  /** Trains to the end. Throws Interrupted. */
  async run<Item extends TrainingItem>(
    training: Training<Item, TrainingOptions>,
    name: string,
    images: readonly Item[],
    validation: readonly Item[],
    encode: () => Promise<Uint8Array<ArrayBuffer>>,
  ): Promise<void> {
    const { flags } = this;
    const samples = flags.sample;
    let told = false; // how long it will take is told as soon as it is known
    const result: RunResult = await runTraining(host, training, images, validation, {
      folder: flags.output,
      name,
      encode,
      saveEvery: flags.saveEvery,
      validateEvery: flags.validateEvery,
      resume: flags.resume,
      model: this.fingerprint,
      stopped: this.stopped,
      now: () => performance.now(),
      onStep: (report, secondsLeft) => {
        this.progressed();
        if (flags.json) console.log(JSON.stringify({ ...report, secondsLeft }));
        else if (report.step % 10 === 0 || report.step === flags.steps || (secondsLeft !== null && !told)) {
          told ||= secondsLeft !== null;
          const left = secondsLeft ? `, ${duration(secondsLeft * 1000)} left` : '';
          this.say(`step ${report.step} of ${flags.steps}: loss ${report.loss.toFixed(4)}${left}`);
        }
      },
      onValidation: (step, loss, best) => {
        if (flags.json) console.log(JSON.stringify({ step, validation: loss, best }));
        else this.say(`step ${step}: validation ${loss.toFixed(5)}${best ? ', the best so far' : ''}`);
      },
      ...(samples.length > 0 ? { sample: (step) => this.sample(samples, step) } : {}),
    });
    if (result.interrupted) throw new Interrupted(`step ${result.step} is saved, and --resume goes on from there.`);
    const { device } = this.model;
    if (!flags.json)
      console.log(
        `${flags.output}/${name}.safetensors: ${result.step} steps, ${Math.round(device.memory.peak / 1e6)} MB of GPU memory at most`,
      );
  }

  /** Damages the middle of each photo, restores it, and writes both beside the truth. */
  private async sample(paths: readonly string[], step: number): Promise<void> {
    const { flags, data, model } = this;
    const pairs = { degradation: degradationOf(flags), seed: flags.seed, crop: 256, multiple: data.multiple };
    for (const [i, path] of paths.entries()) {
      const { truth, damaged } = makePair(await decode(await host.readFile(path), path), path, i, pairs);
      const { image } = await restorePhoto(SUPIR, model, damaged, {});
      const parts = [
        { image: truth, label: 'truth' },
        { image: damaged, label: 'damaged' },
        { image, label: `step ${step}` },
      ];
      const file = `${String(step).padStart(6, '0')}-${basename(path, extname(path))}.png`;
      await host.writeFileAtomic(`${flags.output}/samples/${file}`, encodePng(sideBySide(parts)));
    }
  }
}

/** Opens device and model, and closes them after the work. Ctrl-C, SIGTERM and SIGHUP stop at the next step, a second one at once. */
async function withModel(photos: string, flags: TrainSettings, name: string, work: (session: Session) => Promise<void>): Promise<void> {
  for (const folder of [photos, ...(flags.validation === null ? [] : [flags.validation])]) {
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
      throw new UserError(`There is no folder ${folder} (looked at ${resolve(folder)}).`);
  }
  for (const path of flags.sample) if (!statSync(path, { throwIfNoEntry: false })) throw new UserError(`There is no photo ${path}.`);
  checkOutputs(flags, name);
  const unlock = await lock(join(flags.output, '.training.lock'), `A training in ${flags.output} is under way`);
  const interruption = onInterrupt(() => undefined);
  const state = join(flags.output, 'state.safetensors');
  const resumable = flags.resume || !existsSync(state); // else it is another training's
  const open = async (before: Device | null) => {
    const device = await openDevice({ gpu: await host.gpu(), settle: host.settle, pace: before?.pace, debug: host.debug?.() });
    if (before) device.facts.tiles = before.facts.tiles;
    else {
      await recallPace(device, host.notes);
      await tuneTiles(device, host.notes);
    }
    return device;
  };
  const lost = (error: DeviceError) =>
    void process.stderr.write(`Warning: ${words(error)} The training goes on from its last step on a new device.\n`);
  try {
    await onDevices(
      open,
      async (device, attempt, progressed) => {
        let model: SupirModel | null = null;
        try {
          model = await SupirModel.openFolder(device, host, flags.model, { weights: flags.weights ?? undefined });
          const weights = `${await fingerprint(model.checkpoint)} ${flags.weights ?? ''}`;
          for (const path of resultFiles(flags.output, name)) await checkNotRead(path);
          const resume = attempt > 0 && resumable ? existsSync(state) : flags.resume;
          await work(new Session(model, weights, photos, { ...flags, resume }, () => interruption.aborted, progressed));
        } finally {
          await keepPace(device, host.notes);
          await model?.close();
        }
      },
      { lost, signal: interruption },
    );
  } finally {
    await unlock();
  }
}

/** The files of a training of that name. */
const resultFiles = (output: string, name: string): string[] => [name, `${name}-best`].map((each) => join(output, `${each}.safetensors`));

/** Finds out before the work that its files can be written, and not over one another or the model's. Throws UserError. */
function checkOutputs({ output, model, sample }: TrainSettings, name: string): void {
  plainName(`${name}-best.safetensors`, '--name, with its ending,');
  if (nameKey(name) === 'state') throw new UserError("--name state is the name of the training's own state. Choose another one.");
  for (const path of [...resultFiles(output, name), join(output, 'state.safetensors')]) checkWritable(path);
  if (existsSync(model) && realPath(model) === realPath(join(output, 'model')))
    throw new UserError(`--model ${shown(model)} is where the trained model is to be written. Choose another folder with -o.`);
  const names = sample.map((path) => nameKey(basename(path, extname(path))));
  const twice = sample.find((_, i) => names.indexOf(names[i]) !== i);
  if (twice !== undefined)
    throw new UserError(`--sample ${shown(twice)} has the name of another sample: their pictures would be one file.`);
}
