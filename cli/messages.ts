/** Errors and warnings in the words of a terminal: their own sentence, with the flags and commands that help here, or one made from their values. */
import type { Facts } from '../core/errors.ts';
import { sentence, shownMessage } from '../core/text.ts';
import { spelled } from '../options/spelling.ts';
import { COMMAND } from './program.ts';

type Saying = (facts: Facts) => string;

const flagOf = (facts: Facts): string => `--${spelled(facts.option ?? '', 'kebab')}`;

/** In place of an error's own sentence. */
const INSTEAD: Readonly<Record<string, Saying>> = {
  'option-value': (facts) => `${flagOf(facts)} is ${facts.values?.given}; it must be ${facts.values?.expected}.`,
};

/** After it. */
const ADVICE: Readonly<Record<string, Saying>> = {
  'no-adapter': () => `\`${COMMAND} doctor\` says what is missing and how to mend it.`,
  'null-adapter': () => `\`${COMMAND} doctor\` says how to mend it.`,
  'device-lost-again': () => `Give --memory <GB> or smaller tiles (--tile); \`${COMMAND} doctor\` tells what the adapter is.`,
  'no-adapter-again': () => `\`${COMMAND} doctor\` says what is missing; it may need the machine to be started again.`,
  'wrong-values-again': () =>
    `Leave LoRA files out to see whether they cause it; \`${COMMAND} doctor --check\` tells whether the GPU computes rightly.`,
  'memory-too-small': () => 'That is --memory <GB>, and --tile.',
  'recipe-of-other-model': () => 'Name its folder with --model.',
  'recipe-of-other-loras': () => 'Name them with --lora, in this order.',
  'recipe-of-other-weights': ({ values }) => (values?.weights ? `Give --weights ${values.weights}.` : 'Leave --weights out.'),
  'recipe-of-other-mask': ({ values }) => (values?.mask === 'none' ? 'Leave --mask out.' : 'Name it with --mask.'),
  'sampling-too-large': ({ values }) => `That is --tile ${values?.tile}.`,
  'steps-of-distillation': ({ values }) => `That is --steps ${values?.steps}.`,
  'no-preset': () => `\`${COMMAND} restore --model <folder> --help\` tells what they are.`,
  'is-lora': () => 'Name it with --lora, beside a model.',
  'no-webgpu-package': () => 'Run `npm install webgpu`.',
  'no-dawn': () => '`npm install webgpu` installs it again.',
  'no-package': ({ values }) => `Run \`npm install ${values?.name}\`.`,
  'is-captioner': () => 'Captions are given with --prompt.',
  'state-there': () => 'Give --resume to go on from it.',
  'no-state': () => 'Leave --resume out to begin.',
};

/** An error or a warning for the terminal; what it holds from outside is shown, never obeyed. */
export function words(said: Facts & { message: string }): string {
  const { code = '', file, message } = said;
  if (file === undefined && Object.hasOwn(INSTEAD, code)) return shownMessage(INSTEAD[code](said));
  return shownMessage(Object.hasOwn(ADVICE, code) ? `${sentence(message)} ${ADVICE[code](said)}` : message);
}
