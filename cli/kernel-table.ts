/** The table of --profile. */
import type { Device } from '../gpu/device.ts';
import type { KernelTime } from '../gpu/profiler.ts';
import { duration } from './progress.ts';

/** Kernels with their time and rates, what the first use of each took beyond that of others, and how long compiling took. */
export function kernelTable(kernels: KernelTime[], { pipelineCount, compileMs }: Pick<Device, 'pipelineCount' | 'compileMs'>): string {
  const rows = kernels.map(({ kernel, dispatches, ms, firstMs, gflop, mb }) =>
    [
      kernel.padEnd(40),
      String(dispatches).padStart(10),
      ms.toFixed(1).padStart(10),
      firstMs.toFixed(1).padStart(10),
      (gflop > 0 ? ((gflop / ms) * 1e3).toFixed(1) : '').padStart(10),
      (mb / ms).toFixed(1).padStart(8),
    ].join(' '),
  );
  const first = firstUseMs(kernels);
  const firstUse = Number.isNaN(first) ? '' : `, and in ${duration(first)} when they were first used`;
  const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
  return [
    `${'kernel'.padEnd(40)} dispatches         ms  first use    GFLOP/s     GB/s`,
    ...rows,
    `${pipelineCount} pipelines, compiled in ${duration(compileMs)}${firstUse}; ${total.toFixed(0)} ms in kernels`,
  ].join('\n');
}

/** What drivers that compile at first use took for that, in milliseconds; NaN without timestamp queries. */
export const firstUseMs = (kernels: KernelTime[]): number => kernels.reduce((sum, { firstMs }) => sum + firstMs, 0);
