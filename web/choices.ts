/** The options that a person chose, and those in force with them. */
import { computed, effect, signal } from '@preact/signals';
import type { SupirConfig } from '../models/config.ts';
import { SUPIR_SDXL } from '../models/config.ts';
import { parseText } from '../options/schema.ts';
import { spelled } from '../options/spelling.ts';
import { chooseOptions, type GivenOptions } from '../restore/choose-options.ts';
import { OPTIONS, type RestoreOptions } from '../restore/options.ts';
import { presetsOf } from '../restore/presets.ts';
import { words } from './messages.ts';
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
export const typos = signal<Partial<Record<keyof RestoreOptions, { text: string; problem: string }>>>({});

const config = (): SupirConfig => model.value?.report.config ?? SUPIR_SDXL;

/** The presets of the model that is open. */
export const presets = computed(() => presetsOf(config()));

// A preset that another model had does not stay chosen.
effect(() => {
  const { preset, ...rest } = given.value;
  if (preset !== undefined && !Object.hasOwn(presets.value, preset)) given.value = rest;
});

/** The options in force, or why there are none. */
export const chosen = computed<{ options: RestoreOptions; problem: string | null }>(() => {
  const typo = Object.entries(typos.value)[0];
  try {
    const options = chooseOptions(given.value, config());
    return { options, problem: typo ? `${spelled(typo[0], 'kebab')}: ${typo[1].problem}` : memoryProblem.value };
  } catch (error) {
    return { options: chooseOptions({}, config()), problem: words(error as Error) };
  }
});

/** Takes a value; undefined goes back to the preset's or the model's own. */
export function choose<Key extends keyof RestoreOptions>(key: Key, value: RestoreOptions[Key] | undefined): void {
  const { [key]: _, ...rest } = given.value;
  const { [key]: __, ...others } = typos.value;
  typos.value = others;
  given.value = value === undefined ? rest : { ...rest, [key]: value };
}

/** Takes what was typed for an option; an empty field goes back to the default, except where a text may be empty. */
export function type(key: keyof RestoreOptions, text: string): void {
  const { kind } = OPTIONS[key];
  if (text.trim() === '' && kind !== 'text') {
    choose(key, undefined);
    return;
  }
  try {
    choose(key, parseText(OPTIONS[key], text) as never);
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

/** Takes all options of a recipe. */
export function takeRecipe(options: RestoreOptions): void {
  typos.value = {};
  given.value = { ...options };
}
