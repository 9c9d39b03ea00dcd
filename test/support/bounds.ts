/** Bounds of time and memory for what a hostile file may cost. */
import * as assert from 'uvu/assert';

export interface Bounds {
  /** Of the processor: the machine may be busy with something else. */
  seconds: number;
  /** What the process may grow by while it runs, buffers and heap. */
  megabytes: number;
}

const host = (globalThis as { process?: NodeJS.Process }).process;

/** A browser tells no processor time, and the clock on the wall counts what else the machine does. */
const WALL = 5;

/** Bytes of heap and buffers; of a browser its heap, where it tells that. */
function used(): number {
  if (!host) return (performance as { memory?: { usedJSHeapSize: number } }).memory?.usedJSHeapSize ?? 0;
  const { heapUsed, arrayBuffers } = host.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Seconds of the processor since the process began, or an estimate. */
function spent(): number {
  if (!host?.cpuUsage) return performance.now() / 1000 / WALL;
  const { user, system } = host.cpuUsage();
  return (user + system) / 1e6;
}

/** Runs `body` and fails where it takes longer or more memory; of memory the largest of samples taken while it waits, and at its end. */
export async function inBounds<T>(body: () => Promise<T> | T, { seconds, megabytes }: Bounds): Promise<T> {
  const before = used();
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, used());
  }, 20);
  const begun = spent();
  try {
    return await body();
  } finally {
    clearInterval(timer);
    const took = spent() - begun;
    const grown = (Math.max(most, used()) - before) / 1e6;
    assert.ok(took < seconds, `${took.toFixed(2)} s of at most ${seconds}`);
    assert.ok(grown < megabytes, `${grown.toFixed(0)} MB of at most ${megabytes}`);
  }
}
