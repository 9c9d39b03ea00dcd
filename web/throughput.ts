/** How fast this browser's adapter was, for estimates of the next run: kept between visits, by adapter and model. */
import { signal } from '@preact/signals';
import type { Speeds } from '../restore/speed.ts';
import { store, stored } from './local.ts';

const KEY = 'speeds';

/** By `adapter model` of runs and `adapter` of benchmarks. */
const known = signal<Record<string, Speeds>>(read());

function read(): Record<string, Speeds> {
  try {
    return JSON.parse(stored(KEY) ?? '{}');
  } catch {
    return {}; // not ours
  }
}

/** Learns from a run. */
export function remember(adapter: string, model: string, speeds: Speeds | null): void {
  if (speeds) keep(`${adapter} ${model}`, speeds);
}

/** Learns from a benchmark, in GFLOP/s, for models that have not run yet. */
export function rememberBenchmark(adapter: string, gflops: readonly number[]): void {
  keep(adapter, { gflopPerSecond: gflops.length / gflops.reduce((sum, each) => sum + 1 / each, 0) });
}

function keep(key: string, speeds: Speeds): void {
  known.value = { ...known.value, [key]: speeds };
  store(KEY, JSON.stringify(known.value));
}

/** What is known of an adapter with a model; null where nothing is. */
export function speedsOf(adapter: string | undefined, model: string | undefined): Speeds | null {
  if (adapter === undefined) return null;
  return known.value[`${adapter} ${model}`] ?? known.value[adapter] ?? null;
}
