/**
 * A training from beginning to end: updates, validation, and files that are always whole - the result, the best one so far, the state to resume
 * from, a log of JSON lines and the loss as a picture.
 */
import { UserError } from '../core/errors.ts';
import type { Files } from '../host/host.ts';
import { openTensorFile } from '../weights/open.ts';
import { type LossPoint, lossCurve } from './loss-curve.ts';
import { encodeState, restoreState } from './state.ts';
import type { StepReport, Training, TrainingItem, TrainingOptions } from './training.ts';

export interface RunOptions {
  /** Folder of all results. */
  folder: string;
  /** The result's name: <name>.safetensors. */
  name: string;
  /** The result's bytes, as the training stands. */
  encode(): Uint8Array<ArrayBuffer>;
  /** Steps between saves, and between validations. */
  saveEvery: number;
  validateEvery: number;
  /** Goes on from the folder's state. */
  resume: boolean;
  /** Asked before every step; true saves and ends. */
  stopped?(): boolean;
  onStep?(report: StepReport): void;
  onValidation?(step: number, loss: number, best: boolean): void;
  /** Called at every validation with the result as the networks' weights, to make pictures. */
  sample?(step: number): Promise<void>;
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
export async function runTraining<Item extends TrainingItem>(
  files: Files,
  training: Training<Item, TrainingOptions>,
  images: readonly Item[],
  validation: readonly Item[],
  options: RunOptions,
): Promise<RunResult> {
  const { folder, name } = options;
  const path = (file: string) => `${folder}/${file}`;
  const data = [...images, ...validation].map((image) => image.name).join('\n');
  const log: LogLine[] = [];
  const hasState = await files.exists(path('state.safetensors'));
  if (options.resume) {
    if (!hasState) throw new UserError(`${folder} holds no state of a training to go on from.`, { code: 'no-state', file: folder });
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
    throw new UserError(`${folder} already holds a training. Resume it, or choose another folder.`, { code: 'state-there', file: folder });
  }

  const judged = () => log.flatMap((line) => ('validation' in line ? [{ step: line.step, loss: line.validation }] : []));
  const best = () => judged().reduce<LossPoint | null>((low, point) => (low && low.loss <= point.loss ? low : point), null);
  const save = async () => {
    const steps = log.flatMap((line) => ('loss' in line ? [{ step: line.step, loss: line.loss }] : []));
    await files.writeFileAtomic(path(`${name}.safetensors`), options.encode());
    await files.writeFileAtomic(path('log.jsonl'), encode(log.map((line) => `${JSON.stringify(line)}\n`).join('')));
    await files.writeFileAtomic(path('loss.svg'), encode(lossCurve(name, steps, judged())));
    await files.writeFileAtomic(path('state.safetensors'), encodeState(training, data));
  };
  const judge = async () => {
    const { sample } = options;
    if (sample) await training.withResult(() => sample(training.step));
    if (validation.length === 0) return;
    const before = best();
    const loss = await training.validate(validation);
    log.push({ step: training.step, validation: loss });
    const isBest = !before || loss < before.loss;
    if (isBest) await files.writeFileAtomic(path(`${name}-best.safetensors`), options.encode());
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
