/** How fast the adapter is, measured when a person asks: for the Adapter view, and for a first estimate of time. */
import { signal } from '@preact/signals';
import { tellError } from './notices.ts';
import type { Benchmark } from './protocol.ts';
import { adapter, engine } from './session.ts';
import { rememberBenchmark } from './throughput.ts';

export const measuring = signal(false);
export const measured = signal<Benchmark | null>(null);

export async function measure(): Promise<void> {
  measuring.value = true;
  try {
    const found = await engine().call('benchmark', null);
    measured.value = found;
    rememberBenchmark(
      adapter.value!.name,
      found.rows.map(({ gflops }) => gflops),
    );
  } catch (error) {
    tellError(error);
  } finally {
    measuring.value = false;
  }
}
