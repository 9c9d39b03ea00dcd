/**
 * What is done when a device is lost. Browsers and systems give a GPU's user none for a while after its process or driver broke, and what was lost
 * at a piece of work is mostly lost at it again: so there is a wait, submits become smaller, and after some losses the work ends with a plain word.
 */
import { DeviceError, factsOf } from '../core/errors.ts';
import type { Device } from './device.ts';

/** Seconds before each attempt to get an adapter again. */
export const WAITS: readonly number[] = [1, 4, 15];

/** Losses one after the other with nothing done between them, and losses within ten minutes, after which it is no use to go on. */
const [IN_A_ROW, IN_TEN_MINUTES] = [3, 4];
const TEN_MINUTES = 600_000;

/** Counts losses. */
export class Losses {
  private times: number[] = [];
  private inARow = 0;

  /** Something was done that will not be done again. */
  progressed(): void {
    this.inARow = 0;
  }

  /** Counts one. Throws DeviceError (device-lost-again) where it is no use to go on; the count begins again then. */
  add(cause: Error, now = performance.now()): void {
    this.times = [...this.times.filter((time) => now - time < TEN_MINUTES), now];
    const count = Math.max(++this.inARow, this.times.length);
    if (this.inARow < IN_A_ROW && this.times.length < IN_TEN_MINUTES) return;
    [this.times, this.inARow] = [[], 0];
    throw new DeviceError(
      `The GPU was lost ${count} times in a short while, so nothing more is tried. Its driver takes it away from work that takes long, or its memory does not suffice: a smaller picture, smaller tiles or less memory may help, and so may another driver. (${cause.message})`,
      { ...factsOf(cause), code: 'device-lost-again', cause },
    );
  }
}

/** Whether other work would end alike: what Losses and deviceAfterLoss throw at last. */
export function isHopeless(error: unknown): boolean {
  return ['device-lost-again', 'no-adapter-again'].includes((error as DeviceError).code ?? '');
}

/**
 * The device in place of one that was lost, with its pace, slowed. Waits before every attempt. Throws DeviceError (no-adapter-again) when none
 * answers after the last wait, the signal's reason when aborted.
 */
export async function deviceAfterLoss(
  before: Device,
  open: () => Promise<Device>,
  { waits = WAITS, signal }: { waits?: readonly number[]; signal?: AbortSignal } = {},
): Promise<Device> {
  before.close();
  before.pace.afterLoss();
  let cause: unknown;
  for (const seconds of waits) {
    await waited(seconds, signal);
    try {
      return await open();
    } catch (error) {
      cause = error;
    }
  }
  const total = waits.reduce((sum, seconds) => sum + seconds, 0);
  throw new DeviceError(`The GPU was lost, and none answered in the ${Math.round(total)} seconds after: ${(cause as Error).message}`, {
    code: 'no-adapter-again',
    cause,
  });
}

/**
 * Does `work` on a device, and after a loss again on another one, until the losses are too many. `work` tells by `progressed` what will not be done
 * again, and goes on from there itself. Throws what `work` throws, and as Losses and deviceAfterLoss; the device is closed in the end.
 */
export async function onDevices<T>(
  open: (before: Device | null) => Promise<Device>,
  work: (device: Device, attempt: number, progressed: () => void) => Promise<T>,
  { lost, waits, signal }: { lost?: (error: DeviceError) => void; waits?: readonly number[]; signal?: AbortSignal } = {},
): Promise<T> {
  const losses = new Losses();
  let device = await open(null);
  try {
    for (let attempt = 0; ; attempt++) {
      const now = device;
      try {
        return await work(now, attempt, () => losses.progressed());
      } catch (error) {
        const failure = await now.failureBehind(error);
        if (!(failure instanceof DeviceError) || failure.code !== 'device-lost') throw error;
        losses.add(failure);
        lost?.(failure);
        device = await deviceAfterLoss(now, () => open(now), { waits, signal });
      }
    }
  } finally {
    device.close();
  }
}

function waited(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(done, 1000 * seconds);
    signal?.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    }
  });
}
