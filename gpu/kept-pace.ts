/** The pace that a device learnt, kept for the next one on the same adapter: its first submits are then neither too long nor needlessly short. */
import { isRecord } from '../core/json.ts';
import type { Notes } from '../core/notes.ts';
import { AdapterNotes } from './adapter-notes.ts';
import type { Device } from './device.ts';

const WHAT = 'pace';
/** Bounds of what is believed: operations a second, and the share of the usual seconds that submits may take. */
const [SLOWEST, QUICKEST] = [1e8, 1e15];
const LEAST = 1 / 16;

/** Gives a new device the pace that was kept for its adapter, where one was. */
export async function recallPace({ facts, pace }: Device, notes: Notes): Promise<void> {
  const kept = await new AdapterNotes(notes, facts).read(WHAT);
  if (!isRecord(kept)) return;
  const { flopsPerSecond, share } = kept;
  if (typeof flopsPerSecond !== 'number' || !(flopsPerSecond >= SLOWEST && flopsPerSecond <= QUICKEST)) return;
  if (typeof share !== 'number' || !(share >= LEAST && share <= 1)) return;
  pace.flopsPerSecond = flopsPerSecond;
  pace.seconds *= share;
}

/**
 * Keeps the device's pace, if it learnt any. Submits that losses have made shorter are so the next time too, and twice as long every time that passes
 * without a loss, until they are as they were.
 */
export async function keepPace({ facts, pace }: Device, notes: Notes): Promise<void> {
  if (!pace.hasLearnt) return;
  const share = Math.max(LEAST, Math.min(1, (pace.seconds / pace.usualSeconds) * (pace.losses > 0 ? 1 : 2)));
  await new AdapterNotes(notes, facts).write(WHAT, { flopsPerSecond: pace.flopsPerSecond, share });
}
