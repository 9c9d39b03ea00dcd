/** Errors and warnings in the words of the page: their own sentence, with the place in the page that helps, or one made from their values. */
import type { Facts } from '../core/errors.ts';
import { sentence, shownMessage } from '../core/text.ts';
import { spelled } from '../options/spelling.ts';

type Saying = (facts: Facts) => string;

/** In place of an error's own sentence. */
const INSTEAD: Readonly<Record<string, Saying>> = {
  'option-value': ({ option = '', values }) => `${spelled(option, 'kebab')} is ${values?.given}; it must be ${values?.expected}.`,
};

/** After it. */
const ADVICE: Readonly<Record<string, Saying>> = {
  'no-adapter': () => 'The Adapter page says what can be done.',
  'null-adapter': () => 'The Adapter page says what can be done.',
  'device-lost-again': () => 'Memory and tiles are under All settings; the Adapter page tells about the GPU.',
  'no-adapter-again': () => 'Close other pages that use the GPU, or start the browser again.',
  'wrong-values-again': () => 'Take LoRA files off to see whether they cause it; the Adapter page checks the GPU.',
  'memory-too-small': () => 'Memory and tiles are under All settings.',
  'recipe-of-other-model': () => 'Open it under Model.',
  'recipe-of-other-loras': () => 'Add them under LoRA.',
  'recipe-of-other-weights': () => 'Choose how they lie on the GPU under Model, Weights of your own.',
  'steps-of-distillation': ({ values }) => `Type ${values?.steps} into steps.`,
  'photo-too-thin': () => 'It is under All settings.',
  'option-conflict': () => 'Both are under All settings.',
  'sampling-too-large': () => 'It is under All settings, Tiles.',
  'is-lora': () => 'Add it under LoRA, once a model is open.',
  'is-captioner': () => 'Captions go into the prompt.',
};

/** An error or a warning for the page. */
export function words(said: Facts & { message: string }): string {
  const { code = '', file, message } = said;
  if (file === undefined && Object.hasOwn(INSTEAD, code)) return shownMessage(INSTEAD[code](said));
  return shownMessage(Object.hasOwn(ADVICE, code) ? `${sentence(message)} ${ADVICE[code](said)}` : message);
}
