/** How fast this browser's adapter was, for estimates of the next run: kept between visits, by adapter and model. */
import { signal } from '@preact/signals';
import type { Forecast } from './protocol.ts';

const KEY = 'throughput';
type Rates = Record<string, number>;

/** Billions of floating-point operations a second, by `adapter model`. */
export const rates = signal<Rates>(read());
let forecastGflop = 0;

function read(): Rates {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? '{}');
  } catch {
    return {}; // no storage, or not ours
  }
}

/** The work that the next run is measured by. */
export function expect({ gflop }: Forecast): void {
  forecastGflop = gflop;
}

/** Learns from a run that took so many seconds. */
export function remember(adapter: string, model: string, { seconds }: { seconds: number }): void {
  if (forecastGflop === 0) return;
  rates.value = { ...rates.value, [`${adapter} ${model}`]: forecastGflop / seconds };
  try {
    localStorage.setItem(KEY, JSON.stringify(rates.value));
  } catch {} // kept for this visit only
}

/** Seconds that so much work will take, or null where nothing is known. */
export function estimate(adapter: string, model: string, gflop: number): number | null {
  const rate = rates.value[`${adapter} ${model}`];
  return rate ? gflop / rate : null;
}
