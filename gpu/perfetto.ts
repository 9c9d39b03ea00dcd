/**
 * A profile as a file that Perfetto (ui.perfetto.dev) and Chrome's about:tracing open: the "JSON Array Format" of Chrome's trace events, an
 * object with `traceEvents`. Every dispatch is one event; its arguments say how much it computed and moved, and how fast.
 */
import { UserError } from '../core/errors.ts';
import type { Profile } from './profiler.ts';

interface TraceEvent {
  name: string;
  cat?: string;
  /** X: an event with a duration; M: a name of a process or thread. */
  ph: 'X' | 'M';
  pid: number;
  tid: number;
  /** Microseconds. */
  ts?: number;
  dur?: number;
  args: Record<string, string | number>;
}

/**
 * The trace of all dispatches; time 0 is the first one's begin. GFLOP/s and GB/s are left out of a dispatch that was too short for the clock.
 * Throws UserError where the adapter could not take times.
 */
export function perfettoTrace({ dispatches }: Profile, adapter: string): { traceEvents: TraceEvent[]; displayTimeUnit: 'ms' } {
  const first = dispatches[0]?.begin ?? 0n;
  const names: TraceEvent[] = [
    { name: 'process_name', ph: 'M', pid: 1, tid: 1, args: { name: adapter } },
    { name: 'thread_name', ph: 'M', pid: 1, tid: 1, args: { name: 'kernels' } },
  ];
  const events = dispatches.map(({ dispatch: { shader, label }, work: { flops, bytes }, begin, end }): TraceEvent => {
    if (begin === null || end === null) throw new UserError(`${adapter} cannot take times of its kernels: it has no timestamp queries.`);
    const ns = Number(end - begin);
    const rates: Record<string, number> = ns > 0 ? { 'GFLOP/s': flops / ns, 'GB/s': bytes / ns } : {};
    const args = { operation: label, FLOPs: flops, bytes, ...rates };
    return { name: shader.name, cat: 'kernel', ph: 'X', pid: 1, tid: 1, ts: Number(begin - first) / 1000, dur: ns / 1000, args };
  });
  return { traceEvents: [...names, ...events], displayTimeUnit: 'ms' };
}
