/**
 * A training from beginning to end: updates, validation, and files that are always whole - the LoRA, the best one so far, the state to resume
 * from, a log of JSON lines and the loss as a picture.
 */
import { UserError } from '../core/errors.ts';
import type { Files } from '../host/host.ts';
import { unetRules } from '../weights/diffusers.ts';
import { openTensorFile } from '../weights/open.ts';
import { encodeLora, type TrainedAdapter } from './lora.ts';
import type { LoraTraining, StepReport, TrainingImage } from './lora-training.ts';
import { type LossPoint, lossCurve } from './loss-curve.ts';
import { encodeState, restoreState } from './state.ts';

export interface RunOptions {
  /** Folder of all results. */
  folder: string;
  /** The LoRA's name: <name>.safetensors. */
  name: string;
  format: 'kohya' | 'peft';
  dtype: 'f16' | 'f32';
  /** Steps between saves, and between validations. */
  saveEvery: number;
  validateEvery: number;
  /** Goes on from the folder's state. */
  resume: boolean;
  /** Asked before every step; true saves and ends. */
  stopped?(): boolean;
  onStep?(report: StepReport): void;
  onValidation?(step: number, loss: number, best: boolean): void;
  /** Milliseconds, for the log; without it the log has no times. */
  now?(): number;
}

export interface RunResult {
  step: number;
  /** The last and the lowest validation loss, where there was one. */
  validation: { last: number; best: number; bestStep: number } | null;
  /** True when `stopped` ended it before the last step. */
  interrupted: boolean;
}

type LogLine = { step: number } & (
  | { loss: number; regularizer: number; learningRate: number; gradientNorm: number; ms?: number }
  | { validation: number }
);

/**
 * Runs to the training's last step. Throws UserError when the loss is no longer a number (the state of the last good step is saved first), when
 * there is nothing to resume, or when a state is there and `resume` is not given.
 */
export async function runTraining(
  files: Files,
  training: LoraTraining,
  images: readonly TrainingImage[],
  validation: readonly TrainingImage[],
  options: RunOptions,
): Promise<RunResult> {
  const { folder, name } = options;
  const path = (file: string) => `${folder}/${file}`;
  const data = [...images, ...validation].map((image) => image.name).join('\n');
  const log: LogLine[] = [];
  const hasState = await files.exists(path('state.safetensors'));
  if (options.resume) {
    if (!hasState) throw new UserError(`${folder} holds no state to resume from. Leave out the resuming to start anew.`);
    const source = await files.fileSource(path('state.safetensors'));
    try {
      await restoreState(training, await openTensorFile(source), data);
    } finally {
      await source.close?.();
    }
    const text = (await files.exists(path('log.jsonl'))) ? new TextDecoder().decode(await files.readFile(path('log.jsonl'))) : '';
    for (const line of text.split('\n')) if (line) log.push(JSON.parse(line));
    // Lines of steps after the last save will come again.
    log.splice(0, log.length, ...log.filter(({ step }) => step <= training.step));
  } else if (hasState) {
    throw new UserError(`${folder} already holds a training. Resume it, or choose another folder.`);
  }

  const judged = () => log.flatMap((line) => ('validation' in line ? [{ step: line.step, loss: line.validation }] : []));
  const best = () => judged().reduce<LossPoint | null>((low, point) => (low && low.loss <= point.loss ? low : point), null);
  const save = async () => {
    const steps = log.flatMap((line) => ('loss' in line ? [{ step: line.step, loss: line.loss }] : []));
    await files.writeFileAtomic(path(`${name}.safetensors`), loraBytes(training, training.result(), images, options));
    await files.writeFileAtomic(path('log.jsonl'), encode(log.map((line) => `${JSON.stringify(line)}\n`).join('')));
    await files.writeFileAtomic(path('loss.svg'), encode(lossCurve(name, steps, judged())));
    await files.writeFileAtomic(path('state.safetensors'), encodeState(training, data));
  };
  const judge = async () => {
    if (validation.length === 0) return;
    const before = best();
    const loss = await training.validate(validation);
    log.push({ step: training.step, validation: loss });
    const isBest = !before || loss < before.loss;
    if (isBest) await files.writeFileAtomic(path(`${name}-best.safetensors`), loraBytes(training, training.result(), images, options));
    options.onValidation?.(training.step, loss, isBest);
  };

  const { steps } = training.options;
  let interrupted = false;
  if (training.step === 0) await judge();
  while (training.step < steps) {
    interrupted = options.stopped?.() ?? false;
    if (interrupted) break;
    const begun = options.now?.();
    try {
      const report = await training.update(images);
      log.push({ ...report, ...(begun === undefined ? {} : { ms: Math.round(options.now!() - begun) }) });
      options.onStep?.(report);
    } catch (error) {
      if (error instanceof UserError && training.step > 0) await save();
      throw error;
    }
    const last = training.step === steps;
    if (last || training.step % options.validateEvery === 0) await judge();
    if (last || training.step % options.saveEvery === 0) await save();
  }
  if (interrupted) await save();
  const [lowest, all] = [best(), judged()];
  return {
    step: training.step,
    validation: lowest && { last: all[all.length - 1].loss, best: lowest.loss, bestStep: lowest.step },
    interrupted,
  };
}

const encode = (text: string) => new TextEncoder().encode(text);

/** The LoRA with the metadata that other programs show. */
function loraBytes(
  training: LoraTraining,
  adapters: readonly TrainedAdapter[],
  images: readonly TrainingImage[],
  { name, format, dtype }: RunOptions,
): Uint8Array<ArrayBuffer> {
  const {
    rank,
    alpha = rank,
    rate = 1e-4,
    batch = 1,
    accumulate = 1,
    seed,
    decay = 'constant',
    warmup = 0,
    minSnr,
    noiseOffset,
    mode,
    targets,
  } = training.options;
  const metadata: Record<string, string> = {
    ss_output_name: name,
    ss_network_module: 'networks.lora',
    ss_network_dim: String(rank),
    ss_network_alpha: String(alpha),
    ss_network_args: JSON.stringify({ targets, mode }),
    ss_base_model_version: 'sdxl_base_v1-0',
    ss_learning_rate: String(rate),
    ss_unet_lr: String(rate),
    ss_optimizer: 'AdamW',
    ss_lr_scheduler: decay,
    ss_lr_warmup_steps: String(warmup),
    ss_steps: String(training.step),
    ss_max_train_steps: String(training.options.steps),
    ss_total_batch_size: String(batch * accumulate),
    ss_gradient_accumulation_steps: String(accumulate),
    ss_num_train_images: String(images.length),
    ss_seed: String(seed),
    ss_min_snr_gamma: String(minSnr ?? null),
    ss_noise_offset: String(noiseOffset ?? null),
    format: 'pt',
  };
  return encodeLora(adapters, { format, dtype, metadata, spelling: diffusersPath(training.weightNames()) });
}

/** diffusers' path of a UNet layer, by its single file's path. */
function diffusersPath(names: readonly string[]): (path: string) => string {
  const rules = unetRules(names);
  return (path) => {
    const rule = rules.find(({ single }) => path === single || path.startsWith(`${single}.`));
    if (!rule) throw new UserError(`${path} has no name in diffusers' layout; save as kohya instead.`);
    return rule.other + path.slice(rule.single.length);
  };
}
