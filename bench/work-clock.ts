/**
 * Times work by whoever does it. A driver that computes on the processor is timed by the process's CPU time, which neighbours do not disturb; a GPU by
 * its own clock, from before the work's first command until after its last; and where it has none, by the clock on the wall.
 */
import type { Device } from '../gpu/device.ts';
import { GPU_COPY_DST, GPU_COPY_SRC, GPU_MAP_READ, GPU_QUERY_RESOLVE } from '../gpu/usage.ts';

/** Whose time it is. */
export type Worker = 'CPU' | 'GPU' | 'wall';

export interface WorkClock {
  readonly worker: Worker;
  /** Does the work, to its end, and gives the milliseconds that it took. */
  time(work: () => Promise<unknown>): Promise<number>;
}

/** The clock for what a device computes; `worker` as its adapter suggests, unless given. */
export function workClock(device: Device, worker: Worker = suggested(device)): WorkClock {
  if (worker === 'CPU') return { worker, time: processorTime };
  return { worker, time: worker === 'GPU' ? (work) => gpuTime(device, work) : wallTime };
}

function suggested({ facts }: Device): Worker {
  if (facts.software) return 'CPU';
  return facts.features.has('timestamp-query') ? 'GPU' : 'wall';
}

async function processorTime(work: () => Promise<unknown>): Promise<number> {
  const used = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(used);
  return (user + system) / 1000;
}

async function wallTime(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

/** An empty pass before the work tells the time at its end, and one behind it at its beginning. */
async function gpuTime({ gpu, settle }: Device, work: () => Promise<unknown>): Promise<number> {
  const set = gpu.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = gpu.createBuffer({ size: 16, usage: GPU_QUERY_RESOLVE | GPU_COPY_SRC });
  const read = gpu.createBuffer({ size: 16, usage: GPU_MAP_READ | GPU_COPY_DST });
  try {
    const before = gpu.createCommandEncoder();
    before.beginComputePass({ timestampWrites: { querySet: set, endOfPassWriteIndex: 0 } }).end();
    gpu.queue.submit([before.finish()]);
    await work();
    const after = gpu.createCommandEncoder();
    after.beginComputePass({ timestampWrites: { querySet: set, beginningOfPassWriteIndex: 1 } }).end();
    after.resolveQuerySet(set, 0, 2, resolved, 0);
    after.copyBufferToBuffer(resolved, 0, read, 0, 16);
    gpu.queue.submit([after.finish()]);
    await settle(read.mapAsync(1));
    const [from, to] = new BigUint64Array(read.getMappedRange());
    return Number(to - from) / 1e6;
  } finally {
    set.destroy();
    resolved.destroy();
    read.destroy();
  }
}
