/** The state of a training as one file: weights, moments and moving average in f32, and the settings they were made with. */
import { sha256 } from '../core/digest.ts';
import { UserError } from '../core/errors.ts';
import { sizeOf } from '../core/tensor.ts';
import { encodeSealed } from '../weights/seal.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import type { Training, TrainingItem } from './training.ts';

type AnyTraining = Training<TrainingItem>;

/** Settings that may differ when a training goes on: how long it lasts, and what changes no bit. */
const FREE = new Set(['steps', 'checkpointing']);

/** What is kept of every weight, in the order of the file. */
const keptBy = ({ adam }: AnyTraining) =>
  (['weight', 'first', 'second', 'average'] as const).filter((kept) => kept !== 'average' || adam.averaged);

/** What a training is of, beside its settings: it is not taken up with another model or other images. */
export interface StateSubject {
  /** Fingerprint of the weights that the training begins from; empty where nobody told. */
  model: string;
  /** Of what is trained on, by `dataDigest`. */
  data: string;
}

/** Tells sets of images apart, by all that they hold. */
export async function dataDigest(items: readonly TrainingItem[]): Promise<string> {
  const lines: string[] = [];
  for (const item of items) {
    const arrays = Object.entries(item).filter((entry): entry is [string, Float32Array] => entry[1] instanceof Float32Array);
    const digests = await Promise.all(
      arrays.map(async ([key, { buffer, byteOffset, byteLength }]) => [key, await sha256(new Uint8Array(buffer, byteOffset, byteLength))]),
    );
    lines.push(JSON.stringify([item.name, item.shape, digests.sort()]));
  }
  return sha256(lines.join('\n'));
}

/** A sealed safetensors file. */
export async function encodeState(training: AnyTraining, subject: StateSubject): Promise<Uint8Array<ArrayBuffer>> {
  const arrays: [kept: string, values: Float32Array<ArrayBuffer>[]][] = [];
  for (const kept of keptBy(training)) arrays.push([kept, await training.adam.read(kept)]);
  const tensors = training.weights.flatMap(({ name }, n) =>
    arrays.map(([kept, values]) => [`${kept}/${name}`, { dtype: 'F32' as const, shape: [values[n].length], data: values[n] }] as const),
  );
  return encodeSealed(tensors, { ...subject, step: String(training.step), options: JSON.stringify(training.options) });
}

/** Takes a training up where a state was saved. Throws UserError naming every setting that differs, and when the file is no such state; whether it is damaged, checkSeal tells. */
export async function restoreState(training: AnyTraining, file: TensorFile, { model, data }: StateSubject): Promise<void> {
  const [step, saved] = [Number(file.metadata.get('step')), file.metadata.get('options')];
  if (!Number.isInteger(step) || saved === undefined) throw new UserError(`${file.name} is not the state of a training.`);
  const [before, now] = [JSON.parse(saved), JSON.parse(JSON.stringify(training.options))] as Record<string, unknown>[];
  const differing = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter(
    (key) => !FREE.has(key) && JSON.stringify(before[key]) !== JSON.stringify(now[key]),
  );
  if (differing.length > 0) {
    const list = differing.map((key) => `${key} was ${JSON.stringify(before[key])} and is ${JSON.stringify(now[key])}`).join('; ');
    throw new UserError(
      `${file.name} was saved by a training with other settings: ${list}. Give the same ones, or start again in another folder.`,
    );
  }
  if (file.metadata.get('model') !== model)
    throw new UserError(
      `${file.name} was saved by a training that began from other weights. Give the model it began from, or start again in another folder.`,
    );
  if (file.metadata.get('data') !== data)
    throw new UserError(`${file.name} was saved by a training on other images. Start again in another folder.`);
  await training.adam.place();
  for (const [n, { name, shape }] of training.weights.entries()) {
    for (const kept of keptBy(training)) {
      const stored = await file.f32(`${kept}/${name}`);
      if (stored.length !== sizeOf(shape))
        throw new UserError(`${file.name}: ${kept}/${name} has ${stored.length} values, and the model ${sizeOf(shape)}.`);
      training.adam.write(kept, n, stored);
    }
  }
  training.adam.step = step;
}
