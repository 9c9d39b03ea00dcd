/** How fast this browser's adapter was, for estimates of the next run: kept between visits, by adapter and model. */
import { signal } from '@preact/signals';
import { store, stored } from './local.ts';
import type { Forecast, RestoreResult } from './protocol.ts';

const KEY = 'throughput';
type Rates = Record<string, number>;

/** Billions of floating-point operations a second, by `adapter model` of runs and `adapter` of benchmarks. */
export const rates = signal<Rates>(read());
let forecastGflop = 0;

function read(): Rates {
  try {
    return JSON.parse(stored(KEY) ?? '{}');
  } catch {
    return {}; // not ours
  }
}

/** The work that the next run is measured by. */
export function expect({ gflop }: Forecast): void {
  forecastGflop = gflop;
}

/** Learns from a run that took so many seconds, compiling left out. */
export function remember(
  adapter: string,
  model: string,
  { seconds, compileSeconds }: Pick<RestoreResult, 'seconds' | 'compileSeconds'>,
): void {
  if (forecastGflop > 0) keep(`${adapter} ${model}`, forecastGflop / Math.max(0.01, seconds - compileSeconds));
}

/** Learns from a benchmark, for models that have not run yet. */
export function rememberBenchmark(adapter: string, gflops: readonly number[]): void {
  keep(adapter, gflops.length / gflops.reduce((sum, each) => sum + 1 / each, 0));
}

function keep(key: string, rate: number): void {
  rates.value = { ...rates.value, [key]: rate };
  store(KEY, JSON.stringify(rates.value));
}

/** Seconds that so much work will take, or null where nothing is known. */
export function estimate(adapter: string, model: string, gflop: number): number | null {
  const rate = rates.value[`${adapter} ${model}`] ?? rates.value[adapter];
  return rate ? gflop / rate : null;
}
