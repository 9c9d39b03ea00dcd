/** The state of a training as one file: weights, moments and moving average in f32, and the settings they were made with. */
import { UserError } from '../core/errors.ts';
import { encodeSafetensors } from '../weights/safetensors-writer.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import type { Training, TrainingItem } from './training.ts';

type AnyTraining = Training<TrainingItem>;

/** Settings that may differ when a training goes on: how long it lasts, and what changes no bit. */
const FREE = new Set(['steps', 'checkpointing']);

/** Every array of a training by name, in one order. */
function* arrays({ weights, values, adam, ema }: AnyTraining): Generator<[name: string, values: Float32Array]> {
  for (const [n, { name }] of weights.entries()) {
    yield [`weight/${name}`, values[n]];
    yield [`first/${name}`, adam.moments[n].first];
    yield [`second/${name}`, adam.moments[n].second];
    if (ema) yield [`average/${name}`, ema.values[n]];
  }
}

/** A safetensors file. `data` names what is trained on, so that a training is not taken up with other images. */
export function encodeState(training: AnyTraining, data: string): Uint8Array<ArrayBuffer> {
  const tensors = [...arrays(training)].map(
    ([name, values]) => [name, { dtype: 'F32' as const, shape: [values.length], data: values }] as const,
  );
  return encodeSafetensors(tensors, { step: String(training.step), options: JSON.stringify(training.options), data });
}

/** Takes a training up where a state was saved. Throws UserError naming every setting that differs, and when the file is no such state. */
export async function restoreState(training: AnyTraining, file: TensorFile, data: string): Promise<void> {
  const [step, saved] = [Number(file.metadata.get('step')), file.metadata.get('options')];
  if (!Number.isInteger(step) || saved === undefined) throw new UserError(`${file.name} is not the state of a training.`);
  const [before, now] = [JSON.parse(saved), JSON.parse(JSON.stringify(training.options))] as Record<string, unknown>[];
  const differing = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter(
    (key) => !FREE.has(key) && JSON.stringify(before[key]) !== JSON.stringify(now[key]),
  );
  if (differing.length > 0) {
    const list = differing.map((key) => `${key} was ${JSON.stringify(before[key])} and is ${JSON.stringify(now[key])}`).join('; ');
    throw new UserError(
      `${file.name} was saved by a training with other settings: ${list}. Give the same ones, or start anew in another folder.`,
    );
  }
  if (file.metadata.get('data') !== data)
    throw new UserError(`${file.name} was saved by a training on other images. Start anew in another folder.`);
  for (const [name, values] of arrays(training)) {
    const stored = await file.f32(name);
    if (stored.length !== values.length)
      throw new UserError(`${file.name}: ${name} has ${stored.length} values, and the model ${values.length}.`);
    values.set(stored);
  }
  training.adam.step = step;
  training.refresh();
}
