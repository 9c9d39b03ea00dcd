/** The options that a person chose, and those in force with them. */
import { computed, effect, signal } from '@preact/signals';
import { keyOf, parseText } from '../options/schema.ts';
import { spelled } from '../options/spelling.ts';
import { METHODS } from '../restore/methods.ts';
import { presetsOf } from '../restore/presets.ts';
import { words } from './messages.ts';
import type { GivenOptions } from './protocol.ts';
import { model } from './session.ts';

export const given = signal<GivenOptions>({});
/** Gigabytes of GPU memory that may be used, as typed; an empty text lets the engine choose. */
export const memory = signal('');
const LEAST_MEMORY = 0.05;
/** Why what was typed there cannot be; null where it can. */
export const memoryProblem = computed(() =>
  memory.value === '' || Number(memory.value) >= LEAST_MEMORY ? null : `memory must be a number from ${LEAST_MEMORY}, in GB.`,
);
/** The same in bytes. */
export const memoryBytes = computed(() => (memory.value === '' || memoryProblem.value ? null : Number(memory.value) * 1e9));
/** What was typed and cannot be, and why, by option: nothing runs until it is mended. */
export const typos = signal<Record<string, { text: string; problem: string }>>({});

/** The method of the model that is open; until one is, the last, which takes what no other knows. */
export const method = computed(() => METHODS.find(({ name }) => name === model.value?.report.method) ?? METHODS[METHODS.length - 1]);

const config = () => model.value?.report.config ?? method.value.published;

/** The presets of the model that is open. */
export const presets = computed(() => presetsOf(config(), method.value));

// What another model had does not stay chosen: a preset, or options of its method.
effect(() => {
  const { preset, ...options } = given.value;
  const known = Object.entries(options).filter(([key]) => keyOf(method.value.options, key) === key);
  const stays = preset !== undefined && Object.hasOwn(presets.value, preset);
  if (known.length < Object.keys(options).length || (preset !== undefined && !stays))
    given.value = { ...Object.fromEntries(known), ...(stays ? { preset } : {}) };
});

/** The options in force, or why there are none. */
export const chosen = computed<{ options: Readonly<Record<string, unknown>>; problem: string | null }>(() => {
  const typo = Object.entries(typos.value)[0];
  try {
    const options = method.value.choose(given.value, config());
    return { options: { ...options }, problem: typo ? `${spelled(typo[0], 'kebab')}: ${typo[1].problem}` : memoryProblem.value };
  } catch (error) {
    return { options: { ...method.value.choose({}, config()) }, problem: words(error as Error) };
  }
});

/** Takes a value; undefined goes back to the preset's or the model's own. */
export function choose(key: string, value: unknown): void {
  const { [key]: _, ...rest }: GivenOptions = given.value;
  const { [key]: __, ...others } = typos.value;
  typos.value = others;
  given.value = value === undefined ? rest : { ...rest, [key]: value };
}

/** Takes what was typed for an option; an empty field goes back to the default, except where a text may be empty. */
export function type(key: string, text: string): void {
  const option = method.value.options[key];
  if (text.trim() === '' && option.kind !== 'text') {
    choose(key, undefined);
    return;
  }
  try {
    choose(key, parseText(option, text));
  } catch (error) {
    typos.value = { ...typos.value, [key]: { text, problem: words(error as Error) } };
  }
}

export function choosePreset(preset: string | undefined): void {
  const { preset: _, ...rest } = given.value;
  given.value = preset ? { ...rest, preset } : rest;
}

export function rollSeed(): void {
  choose('seed', crypto.getRandomValues(new Uint32Array(1))[0]);
}

/** Takes all options of a recipe of the present method. */
export function takeRecipe(options: object): void {
  typos.value = {};
  given.value = { ...options };
}
