/** The options that a person chose, and those in force with them. */
import { computed, signal } from '@preact/signals';
import type { SupirConfig } from '../models/config.ts';
import { SUPIR_SDXL } from '../models/config.ts';
import { chooseOptions, type GivenOptions, type Preset, type RestoreOptions } from '../restore/options.ts';
import { parseSetting, SETTINGS } from '../restore/settings.ts';
import { model } from './session.ts';

export const given = signal<GivenOptions>({});
/** Gigabytes of GPU memory that may be used; null lets the engine choose. */
export const memory = signal<number | null>(null);
/** The same in bytes. */
export const memoryBytes = computed(() => (memory.value === null ? null : memory.value * 1e9));
/** What cannot be read of what was typed, by option. */
export const typos = signal<Partial<Record<keyof RestoreOptions, string>>>({});

const config = (): SupirConfig => model.value?.report.config ?? SUPIR_SDXL;

/** The options in force, or why there are none. */
export const chosen = computed<{ options: RestoreOptions; problem: string | null }>(() => {
  const typo = Object.entries(typos.value)[0];
  try {
    const options = chooseOptions(given.value, config());
    return { options, problem: typo ? `${typo[0]}: ${typo[1]}` : null };
  } catch (error) {
    return { options: chooseOptions({}, config()), problem: (error as Error).message };
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
  const { kind } = SETTINGS[key];
  if (text.trim() === '' && kind !== 'text') {
    choose(key, undefined);
    return;
  }
  try {
    choose(key, parseSetting(SETTINGS[key], text) as never);
  } catch (error) {
    typos.value = { ...typos.value, [key]: (error as Error).message };
  }
}

export function choosePreset(preset: Preset | undefined): void {
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
