/** The table of --profile. */
import type { Device } from '../gpu/device.ts';
import type { KernelTime } from '../gpu/profiler.ts';
import { duration } from './progress.ts';

/** Kernels with their time and rates, and how long compiling took. */
export function kernelTable(kernels: KernelTime[], { pipelineCount, compileMs }: Device): string {
  const rows = kernels.map(({ kernel, dispatches, ms, gflop, mb }) =>
    [
      kernel.padEnd(40),
      String(dispatches).padStart(10),
      ms.toFixed(1).padStart(10),
      (gflop > 0 ? ((gflop / ms) * 1e3).toFixed(1) : '').padStart(10),
      (mb / ms).toFixed(1).padStart(8),
    ].join(' '),
  );
  const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
  return [
    `${'kernel'.padEnd(40)} dispatches         ms    GFLOP/s     GB/s`,
    ...rows,
    `${pipelineCount} pipelines, compiled in ${duration(compileMs)}; ${total.toFixed(0)} ms in kernels`,
  ].join('\n');
}
