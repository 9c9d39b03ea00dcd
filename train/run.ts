/**
 * A training from beginning to end: updates, validation, and files that are always whole - the result, the best one so far, the state to resume
 * from, a log of JSON lines and the loss as a picture.
 */
import { UserError } from '../core/errors.ts';
import type { Files } from '../host/host.ts';
import { openTensorFile } from '../weights/open.ts';
import { checkSeal } from '../weights/seal.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import { type LossPoint, lossCurve } from './loss-curve.ts';
import { dataDigest, encodeState, restoreState } from './state.ts';
import type { StepReport, Training, TrainingItem, TrainingOptions } from './training.ts';

export interface RunOptions {
  /** Folder of all results. */
  folder: string;
  /** The result's name: <name>.safetensors. */
  name: string;
  /** The result's bytes, as the training stands. */
  encode(): Promise<Uint8Array<ArrayBuffer>>;
  /** Steps between saves, and between validations. */
  saveEvery: number;
  validateEvery: number;
  /** Goes on from the folder's state. */
  resume: boolean;
  /** Fingerprint of the weights that the training begins from, so that it is not taken up with others. */
  model?: string;
  /** Asked before every step; true saves and ends. */
  stopped?(): boolean;
  /** `secondsLeft`: until the last step, validations and saving included; null where it is not known, as after the first step, in which drivers compile. */
  onStep?(report: StepReport, secondsLeft: number | null): void;
  onValidation?(step: number, loss: number, best: boolean): void;
  /** Called at every validation with the result as the networks' weights, to make pictures. */
  sample?(step: number): Promise<void>;
  /** Milliseconds, for the log and the time left; without it neither has times. */
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
 * Runs to the training's last step. Throws UserError when the loss is no longer a number (the state of the last good step is saved first; when the GPU
 * fails, the last one saved stays), when there is nothing to resume, when a state is damaged or of another training, or when one is there and `resume` is not given.
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
  const subject = { model: options.model ?? '', data: await dataDigest([...images, ...validation]) };
  const log: LogLine[] = [];
  const hasState = await files.exists(path('state.safetensors'));
  if (options.resume) {
    if (!hasState) throw new UserError(`${folder} holds no state of a training to go on from.`, { code: 'no-state', file: folder });
    await readState(files, path('state.safetensors'), (file) => restoreState(training, file, subject));
    if (await files.exists(path('log.jsonl'))) log.push(...parseLog(await files.readFile(path('log.jsonl')), path('log.jsonl')));
    // Lines of steps after the last save will come again.
    log.splice(0, log.length, ...log.filter(({ step }) => step <= training.step));
  } else if (hasState) {
    throw new UserError(`${folder} already holds a training. Resume it, or choose another folder.`, { code: 'state-there', file: folder });
  }

  const judged = () => log.flatMap((line) => ('validation' in line ? [{ step: line.step, loss: line.validation }] : []));
  const best = () => judged().reduce<LossPoint | null>((low, point) => (low && low.loss <= point.loss ? low : point), null);
  const save = async () => {
    const steps = log.flatMap((line) => ('loss' in line ? [{ step: line.step, loss: line.loss }] : []));
    await files.writeFileAtomic(path(`${name}.safetensors`), await options.encode());
    await files.writeFileAtomic(path('log.jsonl'), encode(log.map((line) => `${JSON.stringify(line)}\n`).join('')));
    await files.writeFileAtomic(path('loss.svg'), encode(lossCurve(name, steps, judged())));
    await files.writeFileAtomic(path('state.safetensors'), await encodeState(training, subject));
  };
  const judge = async () => {
    if (judged().some(({ step }) => step === training.step)) return; // before it was stopped
    const { sample } = options;
    if (sample) await training.withResult(() => sample(training.step));
    if (validation.length === 0) return;
    const before = best();
    const loss = await training.validate(validation);
    log.push({ step: training.step, validation: loss });
    const isBest = !before || loss < before.loss;
    if (isBest) await files.writeFileAtomic(path(`${name}-best.safetensors`), await options.encode());
    options.onValidation?.(training.step, loss, isBest);
  };

  const { steps } = training.options;
  let interrupted = false;
  /** When the first step of this run was done. */
  let warm: { step: number; at: number } | null = null;
  const secondsLeft = (): number | null => {
    const at = options.now?.();
    if (at === undefined) return null;
    if (!warm) warm = { step: training.step, at };
    const done = training.step - warm.step;
    return done === 0 ? null : ((at - warm.at) / 1000 / done) * (steps - training.step);
  };
  const isDue = () => training.step === steps || training.step % options.validateEvery === 0;
  try {
    if (training.step === 0 || (options.resume && isDue())) await judge(); // the GPU may have failed in it
    while (training.step < steps) {
      interrupted = options.stopped?.() ?? false;
      if (interrupted) break;
      const begun = options.now?.();
      const report = await training.update(images);
      log.push({ ...report, ...(begun === undefined ? {} : { ms: Math.round(options.now!() - begun) }) });
      options.onStep?.(report, secondsLeft());
      if (isDue()) await judge();
      if (training.step === steps || training.step % options.saveEvery === 0) await save();
    }
  } catch (error) {
    if (error instanceof UserError && training.step > 0) await save();
    throw error;
  }
  if (interrupted) await save();
  const [lowest, all] = [best(), judged()];
  return {
    step: training.step,
    validation: lowest && { last: all[all.length - 1].loss, best: lowest.loss, bestStep: lowest.step },
    interrupted,
  };
}

/** Opens the state for the work; whatever is wrong with it is told with what to do. */
async function readState(files: Files, path: string, work: (file: TensorFile) => Promise<void>): Promise<void> {
  const source = await files.fileSource(path);
  try {
    const file = await openTensorFile(source).catch((cause) => {
      throw damaged(path, cause);
    });
    await checkSeal(file).catch((cause) => {
      throw damaged(path, cause);
    });
    await work(file);
  } finally {
    await source.close?.();
  }
}

function damaged(path: string, cause: unknown): UserError {
  return new UserError(`The state ${path} is damaged. Start again in another folder.`, { cause });
}

function parseLog(bytes: Uint8Array, path: string): LogLine[] {
  return new TextDecoder()
    .decode(bytes)
    .split('\n')
    .flatMap((text, i) => {
      if (text === '') return [];
      try {
        const line = JSON.parse(text) as LogLine;
        if (Number.isInteger(line?.step)) return [line];
      } catch {}
      throw new UserError(`${path}: line ${i + 1} is damaged. Remove it, and the training goes on.`);
    });
}

const encode = (text: string) => new TextEncoder().encode(text);
