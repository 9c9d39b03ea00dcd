/** Bounds of time and memory for what a hostile file may cost. */
import * as assert from 'uvu/assert';

export interface Bounds {
  /** Of the processor: the machine may be busy with something else. */
  seconds: number;
  /** What the process may grow by while it runs, buffers and heap. */
  megabytes: number;
}

/** Runs `body` and fails where it takes longer or more memory; of memory the largest of samples taken while it waits, and at its end. */
export async function inBounds<T>(body: () => Promise<T> | T, { seconds, megabytes }: Bounds): Promise<T> {
  const used = () => {
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = used();
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, used());
  }, 20);
  const begun = process.cpuUsage();
  try {
    return await body();
  } finally {
    clearInterval(timer);
    const { user, system } = process.cpuUsage(begun);
    const took = (user + system) / 1e6;
    const grown = (Math.max(most, used()) - before) / 1e6;
    assert.ok(took < seconds, `${took.toFixed(2)} s of at most ${seconds}`);
    assert.ok(grown < megabytes, `${grown.toFixed(0)} MB of at most ${megabytes}`);
  }
}
